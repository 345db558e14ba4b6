#include "accede/guest/zone_plan.hpp"

#include <algorithm>
#include <limits>
#include <optional>

namespace accede::guest {

namespace {

constexpr Bytes kPage{4096};
constexpr Bytes kLargestZone = 8_TiB;
constexpr PhysAddr kNoEnd{std::numeric_limits<std::uint64_t>::max()};

/// From the first to the last whole page of a node inside `limits`.
std::optional<PhysRange> span_of(const EarlyRanges& memory, NodeId node, PhysRange limits) {
  std::optional<PhysRange> span;
  for (const EarlyRange& entry : memory.memory().entries()) {
    const PhysRange part = entry.range.intersect(limits);
    if (entry.node == node && !part.empty()) {
      span = PhysRange::make(span ? span->begin() : part.begin(), part.end());
    }
  }
  if (!span || span->size() < kPage) {
    return std::nullopt;
  }
  return PhysRange::make(span->begin().align_up(kPage), span->end().align_down(kPage));
}

/// The lowest node that is higher than `after`.
std::optional<NodeId> next_node(const EarlyRanges& memory, std::optional<NodeId> after) {
  std::optional<NodeId> next;
  for (const EarlyRange& entry : memory.memory().entries()) {
    if ((!after || entry.node > *after) && (!next || entry.node < *next)) {
      next = entry.node;
    }
  }
  return next;
}

}  // namespace

std::size_t plan_zones(const EarlyRanges& memory, std::span<ZonePlan> plan) {
  const PhysRange above = *PhysRange::make(kDmaEnd, kNoEnd);
  const PhysRange below = *PhysRange::make(PhysAddr{}, kDmaEnd);
  std::size_t count = 0;
  const auto add = [&](PhysRange span, NodeId node) {
    while (!span.empty()) {
      const PhysAddr end =
          std::min(span.begin().align_down(kLargestZone) + kLargestZone, span.end());
      if (count < plan.size()) {
        plan[count] = {.span = *PhysRange::make(span.begin(), end), .node = node};
      }
      ++count;
      span = *PhysRange::make(end, span.end());
    }
  };
  for (auto node = next_node(memory, std::nullopt); node; node = next_node(memory, node)) {
    for (const PhysRange limits : {above, below}) {
      if (const auto span = span_of(memory, *node, limits)) {
        add(*span, *node);
      }
    }
  }
  return count;
}

}  // namespace accede::guest
