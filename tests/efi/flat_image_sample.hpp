// A flat image file made by hand.
#pragma once

#include "accede/emulator/flat_image.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace accede::efi::test {

using emulator::FlatImageHeader;
using emulator::FlatImageRela;

struct FlatImageSample {
  FlatImageHeader header{.magic = FlatImageHeader::kMagic,
                         .entry = 0x80,
                         .file_bytes = 0x400,
                         .memory_bytes = 0x2000,
                         .rela_offset = 0x200,
                         .rela_count = 3};
  std::vector<FlatImageRela> relas{
      {.offset = 0x100, .info = FlatImageRela::kRelative, .addend = 0x80},
      {.offset = 0x301, .info = FlatImageRela::kRelative, .addend = 0x1234},
      {.offset = 0x1FF8, .info = FlatImageRela::kRelative, .addend = ~std::uint64_t{0}}};

  /// Every byte that is nothing else is its offset.
  [[nodiscard]] std::vector<std::byte> bytes(std::size_t size = 0x400) const {
    std::vector<std::byte> made(size);
    for (std::size_t i = 0; i < size; ++i) {
      made[i] = static_cast<std::byte>(i);
    }
    std::memcpy(made.data(), &header, sizeof header);
    std::memcpy(&made[0x200], relas.data(), relas.size() * sizeof(FlatImageRela));
    return made;
  }
};

[[nodiscard]] inline std::uint64_t word_at(const std::byte* memory) {
  std::uint64_t value = 0;
  std::memcpy(&value, memory, sizeof value);
  return value;
}

}  // namespace accede::efi::test
