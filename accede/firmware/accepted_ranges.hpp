// What becomes of a memory map when some of its memory is accepted.
#pragma once

#include "accede/guest/memory_map.hpp"

#include <cstddef>
#include <span>

namespace accede::firmware {

/// Regions that with_accepted needs at most.
[[nodiscard]] constexpr std::size_t regions_with_accepted(std::size_t regions,
                                                          std::size_t accepted) {
  return regions + 2 * accepted;
}

/// `map`, where what is unaccepted and lies in `accepted` is usable; everything else is as it was.
/// `accepted`: whole pages, in any order, however they overlap. The regions lie in `storage`, which
/// may begin where the regions of `map` do (`map` is then no more).
/// Errors: kTooManyEntries when `storage` has less room than regions_with_accepted says; the offset
/// is the index of the range in `accepted`.
[[nodiscard, gnu::cold]] guest::MemoryMap::Result with_accepted(
    const guest::MemoryMap& map, std::span<const PhysRange> accepted,
    std::span<guest::MemoryRegion> storage);

}  // namespace accede::firmware
