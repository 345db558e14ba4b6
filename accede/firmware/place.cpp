#include "accede/firmware/place.hpp"

#include <algorithm>

namespace accede::firmware {
namespace {

/// `address` rounded up, or nothing when that is not representable.
std::optional<PhysAddr> round_up(PhysAddr address, Bytes alignment) {
  if (address.value() > std::numeric_limits<std::uint64_t>::max() - (alignment.value() - 1)) {
    return std::nullopt;
  }
  return address.align_up(alignment);
}

/// The end of a taken range that `place` overlaps.
std::optional<PhysAddr> in_the_way(PhysRange place, std::span<const PhysRange> taken) {
  const auto found =
      std::ranges::find_if(taken, [&](PhysRange other) { return other.overlaps(place); });
  return found == taken.end() ? std::nullopt : std::optional{found->end()};
}

std::optional<PhysRange> lowest_in(PhysRange room, const PlaceNeeds& needs,
                                   std::span<const PhysRange> taken) {
  // Each turn passes one taken range for good, so there are at most as many turns as ranges.
  std::optional<PhysAddr> at = round_up(room.begin(), needs.alignment);
  while (at) {
    const auto place = PhysRange::make(*at, needs.size);
    if (!place || !room.contains(*place)) {
      return std::nullopt;
    }
    const auto blocked_until = in_the_way(*place, taken);
    if (!blocked_until) {
      return place;
    }
    at = round_up(*blocked_until, needs.alignment);
  }
  return std::nullopt;
}

}  // namespace

bool PlaceNeeds::met_by(PhysRange range) const {
  if (range.size() < size || range.begin() < lowest || limit < range.end()) {
    return false;
  }
  const bool is_preferred = preferred && range.begin() == *preferred;
  return is_preferred || (!only_preferred && range.begin().is_aligned(alignment));
}

std::optional<PhysRange> find_place(const guest::MemoryMap& map, guest::MemoryKind kind,
                                    const PlaceNeeds& needs, std::span<const PhysRange> taken) {
  if (needs.preferred) {
    const auto place = PhysRange::make(*needs.preferred, needs.size);
    if (place && needs.met_by(*place) && map.covers(*place, kind) && !in_the_way(*place, taken)) {
      return place;
    }
  }
  if (needs.only_preferred) {
    return std::nullopt;
  }
  for (const guest::MemoryRegion& region : map.regions()) {
    const auto room = PhysRange::make(std::max(region.range.begin(), needs.lowest),
                                      std::min(region.range.end(), needs.limit));
    if (region.kind != kind || !room) {
      continue;
    }
    if (const auto place = lowest_in(*room, needs, taken)) {
      return place;
    }
  }
  return std::nullopt;
}

}  // namespace accede::firmware
