// A program as a flat image file (accede/emulator/flat_image.hpp): checked once, then placed
// wherever there is room.
#pragma once

#include "accede/base/units.hpp"
#include "accede/emulator/flat_image.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

namespace accede::efi {

enum class FlatImageErrorKind : std::uint8_t {
  kTruncated,          ///< shorter than a header, or than the header says
  kBadMagic,           ///< not a flat image
  kBadSize,            ///< the file part larger than the memory, or the memory than kMostMemory
  kBadEntry,           ///< the entry point lies outside the file part
  kBadRelocations,     ///< the list of relocations does not lie in the file part
  kUnknownRelocation,  ///< a relocation that is not R_X86_64_RELATIVE
  kRelocationOutside,  ///< a relocation of what lies outside the memory
};
[[nodiscard]] std::string_view to_string(FlatImageErrorKind kind);

struct FlatImageError {
  FlatImageErrorKind kind;
  std::size_t offset = 0;  ///< of the wrong field in the file

  friend bool operator==(const FlatImageError&, const FlatImageError&) = default;
};

/// A file that was found sound, to the last relocation. Invariant: place() writes inside the memory
/// that it is given, whatever the file holds. Refers to the bytes that it was made from: they must
/// not change meanwhile. A value type.
class FlatImageFile {
 public:
  /// Nothing that we start is nearly as large; sums of sizes stay far from 2^64.
  static constexpr Bytes kMostMemory = 1_GiB;

  /// `file` may be longer than the image, and have any alignment.
  /// Errors: every kind, the first in the order of the list.
  [[nodiscard]] static std::expected<FlatImageFile, FlatImageError> parse(
      std::span<const std::byte> file);

  /// What place() needs, .bss included. Not 0.
  [[nodiscard]] Bytes memory_bytes() const { return Bytes{header_.memory_bytes}; }
  [[nodiscard]] Bytes file_bytes() const { return Bytes{header_.file_bytes}; }
  /// Of the entry point from the begin of the memory.
  [[nodiscard]] std::uint64_t entry_offset() const { return header_.entry; }
  /// The bytes to copy.
  [[nodiscard]] std::span<const std::byte> content() const {
    return file_.first(header_.file_bytes);
  }

  /// Makes the absolute pointers of a copy in `memory` that will run at `base`.
  /// Precondition: `memory` is memory_bytes() long at least and does not overlap the file.
  void relocate(std::span<std::byte> memory, PhysAddr base) const;
  /// Copies, clears the rest of memory_bytes(), and relocates. Precondition as relocate().
  void place(std::span<std::byte> memory, PhysAddr base) const;

 private:
  FlatImageFile(std::span<const std::byte> file, const emulator::FlatImageHeader& header)
      : file_{file}, header_{header} {}

  std::span<const std::byte> file_;
  emulator::FlatImageHeader header_;
};

}  // namespace accede::efi
