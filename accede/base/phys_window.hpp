// The translator through which code reaches physical memory.
#pragma once

#include "accede/base/units.hpp"

#include <cstdint>

namespace accede {

/// Maps physical addresses to pointers by one constant offset: 0 where memory is identity mapped
/// (the emulator), the address of a buffer in host tests, a direct map's base in a kernel.
/// The embedder guarantees that every address handed to it is mapped there.
class PhysWindow {
 public:
  constexpr PhysWindow() = default;
  /// `origin` is where physical address 0 would lie.
  constexpr explicit PhysWindow(std::uintptr_t origin) : origin_{origin} {}

  template <class T>
  [[nodiscard]] T* pointer(PhysAddr address) const {
    return reinterpret_cast<T*>(origin_ + address.value());
  }

  [[nodiscard]] PhysAddr address(const void* pointer) const {
    return PhysAddr{reinterpret_cast<std::uintptr_t>(pointer) - origin_};
  }

 private:
  std::uintptr_t origin_ = 0;
};

}  // namespace accede
