// The memory map that a kernel is entered with.
#pragma once

#include "accede/abi/efi.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace accede::efi::kernel {

/// Makes unaccepted memory conventional in a copy of a memory map, for a kernel that gets no table
/// because everything was accepted. `map` was checked: `stride` is at least a descriptor.
inline void call_everything_accepted(std::span<std::byte> map, std::size_t stride) {
  using abi::efi::MemoryType;
  constexpr std::size_t kType = offsetof(abi::efi::MemoryDescriptor, type);
  using Word = std::array<std::byte, sizeof(std::uint32_t)>;
  constexpr auto kFrom = std::bit_cast<Word>(static_cast<std::uint32_t>(MemoryType::kUnaccepted));
  constexpr auto kTo = std::bit_cast<Word>(static_cast<std::uint32_t>(MemoryType::kConventional));
  for (std::size_t at = 0; map.size() - at >= stride; at += stride) {
    const auto type = map.subspan(at + kType, kFrom.size());
    if (std::ranges::equal(type, kFrom)) {
      std::ranges::copy(kTo, type.begin());
    }
  }
}

}  // namespace accede::efi::kernel
