// The resident emulator as a file: a flat, position independent image behind this header.
// emulator.ld writes it; the launcher places the image and applies its relocations.
#pragma once

#include <cstddef>
#include <cstdint>

namespace accede::emulator {

struct FlatImageHeader {
  static constexpr std::uint64_t kMagic = 0x4C554D4544454343ULL;

  std::uint64_t magic;
  std::uint64_t entry;         ///< offset of emulator_entry
  std::uint64_t file_bytes;    ///< bytes to copy
  std::uint64_t memory_bytes;  ///< bytes to reserve; what lies behind the file is zero
  std::uint64_t rela_offset;   ///< offset of the relocations, FlatImageRela each
  std::uint64_t rela_count;
};
static_assert(sizeof(FlatImageHeader) == 48);

/// ELF64 RELA entry; the only type used is R_X86_64_RELATIVE: *(base + offset) = base + addend.
struct FlatImageRela {
  static constexpr std::uint64_t kRelative = 8;

  std::uint64_t offset;
  std::uint64_t info;
  std::uint64_t addend;
};
static_assert(sizeof(FlatImageRela) == 24);

}  // namespace accede::emulator
