// What the kernels of this directory do with their memory.
#pragma once

#include "examples/kernel_memory.hpp"

namespace example {

/// All of the example, then a page taken and given back.
template <AcceptPlatform Platform>
void use_memory(Platform& platform) {
  static KernelMemory<Platform> memory{platform, PhysWindow{}};
  if (memory.start({})) {
    if (const auto page = memory.pages().allocate(Order{0})) {
      static_cast<void>(memory.pages().free(*page, Order{0}));
    }
  }
}

}  // namespace example
