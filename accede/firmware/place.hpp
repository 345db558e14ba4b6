// Finding a place in memory for something that a loader hands over.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/guest/memory_map.hpp"

#include <limits>
#include <optional>
#include <span>

namespace accede::firmware {

/// What a place must be like.
struct PlaceNeeds {
  Bytes size;
  Bytes alignment = 4_KiB;  ///< a power of two
  PhysAddr lowest{0};
  /// First address that no byte may have.
  PhysAddr limit{std::numeric_limits<std::uint64_t>::max()};
  /// Taken when it is free, whatever `alignment` says.
  std::optional<PhysAddr> preferred = std::nullopt;
  bool only_preferred = false;

  /// True when `range` is such a place.
  [[nodiscard]] bool met_by(PhysRange range) const;
};

/// The preferred place, or the lowest in a region of `kind` that overlaps nothing in `taken`;
/// nothing when there is no room.
[[nodiscard]] std::optional<PhysRange> find_place(const guest::MemoryMap& map,
                                                  guest::MemoryKind kind, const PlaceNeeds& needs,
                                                  std::span<const PhysRange> taken = {});

}  // namespace accede::firmware
