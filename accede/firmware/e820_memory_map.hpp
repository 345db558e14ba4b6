// The memory map of firmware that gets E820 entries instead of HOBs (QEMU's "etc/e820").
#pragma once

#include "accede/guest/memory_map.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace accede::firmware {

/// What E820's type 1 says about memory of a confidential VM.
enum class E820Dialect : std::uint8_t {
  /// It is RAM, and nobody has accepted it yet: a VMM's map before firmware did anything.
  kRamIsPending,
  /// It is accepted; what is not has type 8 (ACPI: AddressRangeUnaccepted).
  kRamIsAccepted,
};

/// The regions lie in `storage`, which needs one for each entry that is not empty. In both dialects
/// type 8 is pending.
///
/// Firmware hands over whole pages, so the map has no others: what is used shrinks to whole pages
/// (type 8 must consist of them under kRamIsAccepted), what is not grows to them. To a part of the
/// pending memory that was accepted at launch, apply with_accepted.
/// Errors: guest::MemoryMap's, with the offset of an entry of the input. Memory that must be left
/// alone for two different reasons in one page is kOverlap, too.
[[nodiscard, gnu::cold]] guest::MemoryMap::Result map_from_e820(
    std::span<const std::byte> entries, E820Dialect dialect,
    std::span<guest::MemoryRegion> storage);

}  // namespace accede::firmware
