// The EFI memory map that firmware hands over, and the buffer that a caller needs for one.
#pragma once

#include "accede/base/units.hpp"
#include "accede/guest/memory_map.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <limits>
#include <span>
#include <string_view>

namespace accede::firmware {

enum class EfiMapErrorKind : std::uint8_t {
  kUnaligned,       ///< index of a region that does not consist of whole pages
  kBufferTooSmall,  ///< bytes that the map needs
};
[[nodiscard]] std::string_view to_string(EfiMapErrorKind kind);

struct EfiMapError {
  EfiMapErrorKind kind;
  std::uint64_t value;  ///< what the comment of the kind names

  friend bool operator==(const EfiMapError&, const EfiMapError&) = default;
};

/// Bytes of the map that write_efi_map writes: what GetMemoryMap must report, unaccepted ranges
/// counted like all others.
[[nodiscard]] inline Bytes efi_map_size(const guest::MemoryMap& map, std::size_t stride) {
  return Bytes{map.regions().size()} * stride;
}

/// What a caller of GetMemoryMap allocates when the firmware reports `reported` bytes. Firmware
/// before edk2-stable202511 writes unaccepted ranges that it did not count, and the allocation
/// itself splits a free range: the slack is a descriptor for each unaccepted range and eight more
/// (reference: boot flow 1.4). A caller that cannot know how many unaccepted ranges there are takes
/// the number of descriptors that were reported. A report that makes no sense gives the largest
/// size, which no firmware allocates.
[[nodiscard]] constexpr Bytes efi_map_allocation(Bytes reported, std::size_t unaccepted_ranges,
                                                 std::size_t stride) {
  constexpr std::uint64_t kSpare = 8;
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t left = kMost - reported.value();
  if (unaccepted_ranges > kMost - kSpare ||
      (stride != 0 && unaccepted_ranges + kSpare > left / stride)) {
    return Bytes{kMost};
  }
  return reported + Bytes{unaccepted_ranges + kSpare} * stride;
}

/// Writes each region of `map` as one descriptor, `stride` bytes apart; bytes between descriptors
/// become 0. Returns what was written. Reading it with guest::MemoryMap::from_efi gives `map`
/// again.
///
/// Usable memory becomes EfiConventionalMemory, unaccepted memory EfiUnacceptedMemoryType. Memory
/// can be cached in every way (UC, WC, WT, WB); reserved ranges have no attribute: they need not be
/// memory. Precondition: stride >= sizeof(MemoryDescriptor). Errors: kUnaligned, kBufferTooSmall.
[[nodiscard, gnu::cold]] std::expected<std::span<const std::byte>, EfiMapError> write_efi_map(
    const guest::MemoryMap& map, std::size_t stride, std::span<std::byte> buffer);

}  // namespace accede::firmware
