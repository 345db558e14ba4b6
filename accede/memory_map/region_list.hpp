// Lists of regions: checked, changed, and with nodes.
#pragma once

#include "accede/memory_map/region.hpp"

#include <expected>
#include <optional>
#include <span>
#include <vector>

namespace accede::memory_map {

/// Sorts them and joins neighbours that are alike. Two that overlap are an error, which names both.
[[nodiscard]] std::expected<std::vector<Region>, ReadError> sorted_regions(
    std::vector<Region> regions);

/// Makes what of `range` is of kind `from` (nothing: of any) a `to` (nothing: it leaves the list).
/// `regions` stays sorted and disjoint. Time: linear.
void retype(std::vector<Region>& regions, PhysRange range, std::optional<RegionKind> from,
            std::optional<RegionKind> to);

/// Adds `range` of `kind` as Linux adds to its E820 map: where kinds overlap the larger type counts
/// (RAM, kept, persistent, specific purpose), so RAM fills only what is free. What is there keeps
/// its node. `regions` stays sorted and disjoint. Time: linear.
void add_kind(std::vector<Region>& regions, PhysRange range, RegionKind kind);

/// `below` where nothing of `above` lies, and `above`. Both sorted and disjoint, like the result.
[[nodiscard]] std::vector<Region> overlaid(std::span<const Region> below,
                                           std::span<const Region> above);

/// A range of the firmware's affinity table.
struct NodeRange {
  PhysRange range;
  std::uint32_t node = 0;
  bool hot_pluggable = false;

  friend bool operator==(const NodeRange&, const NodeRange&) = default;
};

/// Cuts regions at the borders of `nodes` (sorted, disjoint) and gives each part its node. What no
/// node has keeps what it had.
[[nodiscard]] std::vector<Region> with_nodes(std::span<const Region> regions,
                                             std::span<const NodeRange> nodes);

/// What of the hot-pluggable ranges (sorted, disjoint) is not in `regions` (sorted, disjoint).
[[nodiscard]] std::vector<NodeRange> free_hot_plug_ranges(std::span<const Region> regions,
                                                          std::span<const NodeRange> nodes);

}  // namespace accede::memory_map
