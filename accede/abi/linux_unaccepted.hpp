// The Linux unaccepted-memory table, version 1 (Linux 6.5 and later): the bitmap that a boot loader
// or the Linux EFI stub hands to the kernel as an EFI configuration table.
//
// One bit stands for one unit of physical memory: 1 = needs acceptance, 0 = accepted or not RAM.
// Bit i is bit i & 7 of byte i >> 3 and covers [phys_base + i * unit, + unit). Memory outside the
// bitmap is accepted; without a table all memory is. Linux fetches the bitmap in 8-byte words
// whatever its size, so whoever allocates a table pads it to a multiple of 8 bytes. A table that is
// to survive kexec lies in EfiACPIReclaimMemory.
// Source: Linux 6.12 and 7.3, struct efi_unaccepted_memory.
#pragma once

#include "accede/base/byte_reader.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

namespace accede::abi::linux_unaccepted {

// Literals with their length: without it clang calls strlen, which a kernel need not have.
using namespace std::string_view_literals;

/// LINUX_EFI_UNACCEPTED_MEM_TABLE_GUID, d5d1de3c-105c-44f9-9ea9-bcef98120031, as it lies in memory.
inline constexpr std::array<std::uint8_t, 16> kTableGuidBytes{
    0x3C, 0xDE, 0xD1, 0xD5, 0x5C, 0x10, 0xF9, 0x44, 0x9E, 0xA9, 0xBC, 0xEF, 0x98, 0x12, 0x00, 0x31};

inline constexpr std::uint32_t kVersion = 1;

/// What Linux on x86 writes into a table that it makes itself. For producers only: a reader takes
/// the unit from the table.
inline constexpr Bytes kLinuxX86UnitSize = 2_MiB;

/// The smallest unit that a table may have: a page.
inline constexpr Bytes kMinUnitSize = 4_KiB;

/// The table as it lies in memory; the bitmap follows.
struct TableHeader {
  std::uint32_t version;
  std::uint32_t unit_size;     ///< bytes that one bit covers
  std::uint64_t phys_base;     ///< physical address of bit 0, a multiple of unit_size
  std::uint64_t bitmap_bytes;  ///< size of the bitmap
};
static_assert(sizeof(TableHeader) == 24);
static_assert(offsetof(TableHeader, version) == 0);
static_assert(offsetof(TableHeader, unit_size) == 4);
static_assert(offsetof(TableHeader, phys_base) == 8);
static_assert(offsetof(TableHeader, bitmap_bytes) == 16);

/// A header that parse_header() found sound.
struct Header {
  Bytes unit_size;    ///< a power of two, at least kMinUnitSize
  PhysRange covered;  ///< what the bitmap describes; begin is a multiple of unit_size
  Bytes bitmap_size;  ///< the bitmap is [sizeof(TableHeader), + bitmap_size) of the table
};

enum class ParseErrorKind : std::uint8_t {
  kTruncatedHeader,   ///< the bytes end inside the header
  kUnknownVersion,    ///< version is not 1
  kBadUnitSize,       ///< not a power of two, or smaller than a page
  kUnalignedBase,     ///< phys_base is not a multiple of the unit
  kCoverageOverflow,  ///< the bitmap describes memory beyond the physical address space
  kTruncatedBitmap,   ///< the bytes end inside the bitmap
};

/// One line of text for people.
[[nodiscard]] constexpr std::string_view to_string(ParseErrorKind kind) {
  using enum ParseErrorKind;
  switch (kind) {
    case kTruncatedHeader:
      return "the unaccepted-memory table is shorter than its header"sv;
    case kUnknownVersion:
      return "the unaccepted-memory table has a version other than 1"sv;
    case kBadUnitSize:
      return "the unit of the unaccepted-memory table is not a power of two of at least 4096 bytes"sv;
    case kUnalignedBase:
      return "the base of the unaccepted-memory table is not a multiple of its unit"sv;
    case kCoverageOverflow:
      return "the unaccepted-memory table describes memory beyond the physical address space"sv;
    case kTruncatedBitmap:
      return "the unaccepted-memory table is shorter than its bitmap"sv;
  }
  return "unknown error of the unaccepted-memory table"sv;
}

struct ParseError {
  ParseErrorKind kind;
  std::size_t offset;  ///< of the field that is wrong, in bytes from the start of the table

  friend constexpr bool operator==(const ParseError&, const ParseError&) = default;
};

/// Checks the table at the start of `table`, which comes from the firmware or an earlier kernel and
/// is not trusted. Bytes after the bitmap are ignored. Errors: the first field that is wrong, in
/// the order in which they lie in memory; a bitmap of no bytes is sound and covers nothing.
[[nodiscard]] constexpr std::expected<Header, ParseError> parse_header(
    std::span<const std::byte> table) {
  using enum ParseErrorKind;
  const auto fail = [](ParseErrorKind kind, std::size_t offset) {
    return std::unexpected{ParseError{kind, offset}};
  };
  const auto header = ByteReader{table}.read_struct<TableHeader>(0);
  if (!header) {
    return fail(kTruncatedHeader, 0);
  }
  if (header->version != kVersion) {
    return fail(kUnknownVersion, offsetof(TableHeader, version));
  }
  const Bytes unit{header->unit_size};
  if (unit < kMinUnitSize || !std::has_single_bit(unit.value())) {
    return fail(kBadUnitSize, offsetof(TableHeader, unit_size));
  }
  const PhysAddr base{header->phys_base};
  if (!base.is_aligned(unit)) {
    return fail(kUnalignedBase, offsetof(TableHeader, phys_base));
  }
  const Bytes per_byte = unit * 8;
  if (header->bitmap_bytes > std::numeric_limits<std::uint64_t>::max() / per_byte.value()) {
    return fail(kCoverageOverflow, offsetof(TableHeader, bitmap_bytes));
  }
  const auto covered = PhysRange::make(base, per_byte * header->bitmap_bytes);
  if (!covered) {
    return fail(kCoverageOverflow, offsetof(TableHeader, bitmap_bytes));
  }
  if (header->bitmap_bytes > table.size() - sizeof(TableHeader)) {
    return fail(kTruncatedBitmap, offsetof(TableHeader, bitmap_bytes));
  }
  return Header{.unit_size = unit, .covered = *covered, .bitmap_size = Bytes{header->bitmap_bytes}};
}

}  // namespace accede::abi::linux_unaccepted
