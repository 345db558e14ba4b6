#include "accede/memory_map/region_list.hpp"

#include "accede/memory_map/text_scan.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace accede::memory_map {
namespace {

bool alike(const Region& a, const Region& b) {
  return a.kind == b.kind && a.node == b.node;
}

void add(std::vector<Region>& regions, PhysAddr begin, PhysAddr end, const Region& like) {
  if (begin < end) {
    regions.push_back(
        {.range = *PhysRange::make(begin, end), .kind = like.kind, .node = like.node});
  }
}

/// Walks sorted ranges along with others: for ranges asked for in ascending order, those that end
/// behind the beginning of what is asked for, so that a walk over both takes linear time.
class Neighbours {
 public:
  explicit Neighbours(std::span<const PhysRange> sorted) : rest_{sorted} {}

  /// The ranges that overlap `range`. Precondition: `range` lies behind those asked for before.
  [[nodiscard]] std::span<const PhysRange> of(PhysRange range) {
    while (!rest_.empty() && rest_.front().end() <= range.begin()) {
      rest_ = rest_.subspan(1);
    }
    const auto behind = std::ranges::lower_bound(rest_, range.end(), {}, &PhysRange::begin);
    return rest_.first(static_cast<std::size_t>(behind - rest_.begin()));
  }

 private:
  std::span<const PhysRange> rest_;
};

template <class Item>
std::vector<PhysRange> ranges_of(std::span<const Item> items) {
  std::vector<PhysRange> ranges;
  std::ranges::transform(items, std::back_inserter(ranges), &Item::range);
  return ranges;
}

}  // namespace

std::expected<std::vector<Region>, ReadError> sorted_regions(std::vector<Region> regions) {
  std::ranges::sort(regions, {}, [](const Region& region) {
    return std::pair{region.range.begin(), region.range.end()};
  });
  std::vector<Region> joined;
  for (const Region& region : regions) {
    if (region.range.empty()) {
      continue;
    }
    if (joined.empty()) {
      joined.push_back(region);
      continue;
    }
    Region& last = joined.back();
    if (last.range.overlaps(region.range)) {
      return std::unexpected{
          ReadError{.line = 0,
                    .message = text_of(last.range) + " and " + text_of(region.range) + " overlap"}};
    }
    if (last.range.end() == region.range.begin() && alike(last, region)) {
      last.range = *PhysRange::make(last.range.begin(), region.range.end());
    } else {
      joined.push_back(region);
    }
  }
  return joined;
}

void retype(std::vector<Region>& regions, PhysRange range, std::optional<RegionKind> from,
            std::optional<RegionKind> to) {
  std::vector<Region> changed;
  changed.reserve(regions.size() + 2);
  for (const Region& region : regions) {
    const PhysRange common = region.range.intersect(range);
    if (common.empty() || (from && region.kind != *from)) {
      changed.push_back(region);
      continue;
    }
    add(changed, region.range.begin(), common.begin(), region);
    if (to) {
      changed.push_back({.range = common, .kind = *to, .node = region.node});
    }
    add(changed, common.end(), region.range.end(), region);
  }
  regions = std::move(changed);
}

std::vector<Region> overlaid(std::span<const Region> below, std::span<const Region> above) {
  const std::vector<PhysRange> covered = ranges_of(above);
  Neighbours neighbours{covered};
  std::vector<Region> all{above.begin(), above.end()};
  for (const Region& region : below) {
    for_each_gap(region.range, neighbours.of(region.range), [&](PhysRange part) {
      add(all, part.begin(), part.end(), region);
      return true;
    });
  }
  std::ranges::sort(all, {}, [](const Region& region) { return region.range.begin(); });
  return all;
}

void add_kind(std::vector<Region>& regions, PhysRange range, RegionKind kind) {
  if (range.empty()) {
    return;
  }
  // From the weakest on.
  for (const RegionKind weaker :
       {RegionKind::kRam, RegionKind::kReserved, RegionKind::kPersistent}) {
    if (weaker == kind || kind == RegionKind::kRam) {
      break;
    }
    retype(regions, range, weaker, kind);
  }
  const Region added{.range = range, .kind = kind};
  regions = overlaid(std::span{&added, 1}, regions);
}

std::vector<Region> with_nodes(std::span<const Region> regions, std::span<const NodeRange> nodes) {
  std::vector<Region> parts;
  for (const Region& region : regions) {
    while (!nodes.empty() && nodes.front().range.end() <= region.range.begin()) {
      nodes = nodes.subspan(1);
    }
    PhysAddr at = region.range.begin();
    for (const NodeRange& node : nodes) {
      const PhysRange common = node.range.intersect(region.range);
      if (common.empty()) {
        break;
      }
      add(parts, at, common.begin(), region);
      parts.push_back({.range = common, .kind = region.kind, .node = node.node});
      at = common.end();
    }
    add(parts, at, region.range.end(), region);
  }
  return parts;
}

std::vector<NodeRange> free_hot_plug_ranges(std::span<const Region> regions,
                                            std::span<const NodeRange> nodes) {
  const std::vector<PhysRange> taken = ranges_of(regions);
  Neighbours neighbours{taken};
  std::vector<NodeRange> free;
  for (const NodeRange& node : nodes) {
    if (node.hot_pluggable) {
      for_each_gap(node.range, neighbours.of(node.range), [&](PhysRange part) {
        free.push_back({.range = part, .node = node.node, .hot_pluggable = true});
        return true;
      });
    }
  }
  return free;
}

}  // namespace accede::memory_map
