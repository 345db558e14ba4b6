// Which zones a machine has.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/guest/early_ranges.hpp"

#include <cstddef>
#include <span>

namespace accede::guest {

/// Memory of one zone: from the first to the last byte of one node on one side of 4 GiB, holes
/// included.
struct ZonePlan {
  PhysRange span;  ///< page aligned
  NodeId node{};
};

/// Devices that reach 32 address bits only need memory below this.
inline constexpr PhysAddr kDmaEnd{4ULL << 30};

/// Writes the zones of `memory` to `plan`: of each node the zone above 4 GiB first, because what
/// lies below is dear, and larger spans than a zone may have (16 TiB less 4 MiB) in parts. Returns
/// how many there are; more than `plan` holds when there is no room, and then nothing is written
/// beyond its end.
[[nodiscard, gnu::cold]] std::size_t plan_zones(const EarlyRanges& memory,
                                                std::span<ZonePlan> plan);

}  // namespace accede::guest
