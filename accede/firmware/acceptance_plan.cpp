#include "accede/firmware/acceptance_plan.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <optional>

namespace accede::firmware {

using namespace std::string_view_literals;
namespace {

using guest::MemoryKind;
using guest::MemoryMap;
using guest::MemoryRegion;

constexpr PhysAddr k4GiB{(4_GiB).value()};
constexpr Bytes kLargePage = 2_MiB;

/// `address` rounded up to a large page, or to the last address that there is.
PhysAddr round_up(PhysAddr address) {
  constexpr PhysAddr kLast{std::numeric_limits<std::uint64_t>::max()};
  return kLast - address < kLargePage ? kLast : address.align_up(kLargePage);
}

/// The large pages that `range` touches.
PhysRange round_out(PhysRange range) {
  return *PhysRange::make(range.begin().align_down(kLargePage), round_up(range.end()));
}

/// How much of each region is in scope. Regions must be asked about in ascending order.
class Scope {
 public:
  Scope(const MemoryMap& map, const AcceptanceGoal& goal)
      : scope_{goal.scope},
        missing_{goal.at_least - std::min(goal.at_least, map.bytes_of(MemoryKind::kUsable))} {}

  /// A part of `region`, from its begin; empty for none.
  PhysRange part_of(PhysRange region) {
    const PhysAddr begin = region.begin();
    switch (scope_) {
      case AcceptanceScope::kEverything:
        return region;
      case AcceptanceScope::kBelow4G:
        return *PhysRange::make(begin, std::clamp(k4GiB, begin, region.end()));
      case AcceptanceScope::kAtLeast:
        break;
    }
    const Bytes taken = std::min(missing_, region.size());
    missing_ -= taken;
    if (taken == Bytes{0}) {
      return *PhysRange::make(begin, begin);
    }
    return *PhysRange::make(begin, std::min(round_up(begin + taken), region.end()));
  }

 private:
  AcceptanceScope scope_;
  Bytes missing_;
};

/// What of one region is accepted: its part in scope, and what is needed.
class Wanted {
 public:
  Wanted(PhysRange region, PhysRange in_scope, std::span<const PhysRange> needed)
      : region_{region}, in_scope_{in_scope}, needed_{needed} {}

  /// The first piece at or after `at`, as long as it goes.
  [[nodiscard]] std::optional<PhysRange> next(PhysAddr at) const {
    const PhysRange rest = *PhysRange::make(at, region_.end());
    std::optional<PhysAddr> begin;
    for (std::size_t i = 0; i <= needed_.size(); ++i) {
      const PhysRange here = source(i).intersect(rest);
      if (!here.empty()) {
        begin = std::min(begin.value_or(here.begin()), here.begin());
      }
    }
    if (!begin) {
      return std::nullopt;
    }
    return PhysRange::make(*begin, end_of_piece(*begin));
  }

 private:
  [[nodiscard]] PhysRange source(std::size_t index) const {
    if (index == 0) {
      return in_scope_;
    }
    const PhysRange needed = needed_[index - 1];
    return needed.empty() ? needed : round_out(needed).intersect(region_);
  }

  [[nodiscard]] PhysAddr end_of_piece(PhysAddr end) const {
    // Each turn passes the end of one source for good.
    for (bool grown = true; grown;) {
      grown = false;
      for (std::size_t i = 0; i <= needed_.size(); ++i) {
        const PhysRange here = source(i);
        if (here.begin() <= end && end < here.end()) {
          end = here.end();
          grown = true;
        }
      }
    }
    return end;
  }

  PhysRange region_;
  PhysRange in_scope_;
  std::span<const PhysRange> needed_;
};

bool is_ram(const MemoryMap& map, PhysRange range) {
  PhysAddr at = range.begin();
  for (const MemoryRegion& region : map.regions()) {
    const bool counts =
        region.kind == MemoryKind::kUsable || region.kind == MemoryKind::kUnaccepted;
    if (counts && region.range.contains(at)) {
      at = region.range.end();
    }
  }
  return range.end() <= at;
}

std::uint64_t chunks_of(PhysRange range, Bytes chunk) {
  return (range.end().value() - 1) / chunk.value() - range.begin().value() / chunk.value() + 1;
}

}  // namespace

std::string_view to_string(PlanErrorKind kind) {
  switch (kind) {
    case PlanErrorKind::kNeededIsNotRam:
      return "what must be accepted for the kernel does not lie in RAM"sv;
    case PlanErrorKind::kTooManyRanges:
      return "the plan has more ranges than there is room for"sv;
  }
  return "unknown error of the plan"sv;
}

std::size_t AcceptancePlan::ranges_for(const MemoryMap& map, const AcceptanceGoal& goal) {
  const auto unaccepted =
      std::ranges::count(map.regions(), MemoryKind::kUnaccepted,
                         [](const MemoryRegion& region) { return region.kind; });
  // Each needed range begins at most one piece that does not begin with its region.
  return static_cast<std::size_t>(unaccepted) + goal.needed.size();
}

std::expected<AcceptancePlan, PlanError> AcceptancePlan::make(const MemoryMap& map,
                                                              const AcceptanceGoal& goal,
                                                              ChunkRules rules,
                                                              std::span<PhysRange> storage) {
  ACCEDE_ASSERT(std::has_single_bit(rules.chunk.value()) && bytes(rules.largest) <= rules.chunk);
  for (std::size_t i = 0; i < goal.needed.size(); ++i) {
    if (!goal.needed[i].empty() && !is_ram(map, goal.needed[i])) {
      return std::unexpected{PlanError{PlanErrorKind::kNeededIsNotRam, i}};
    }
  }
  Scope scope{map, goal};
  std::size_t count = 0;
  for (const MemoryRegion& region : map.regions()) {
    if (region.kind != MemoryKind::kUnaccepted) {
      continue;
    }
    const Wanted wanted{region.range, scope.part_of(region.range), goal.needed};
    for (auto piece = wanted.next(region.range.begin()); piece; piece = wanted.next(piece->end())) {
      if (count == storage.size()) {
        return std::unexpected{PlanError{PlanErrorKind::kTooManyRanges, storage.size()}};
      }
      storage[count++] = *piece;
    }
  }
  return AcceptancePlan{storage.first(count), rules};
}

Bytes AcceptancePlan::size() const {
  Bytes sum;
  for (const PhysRange range : ranges_) {
    sum += range.size();
  }
  return sum;
}

std::uint64_t AcceptancePlan::chunk_count() const {
  std::uint64_t count = 0;
  for (const PhysRange range : ranges_) {
    count += chunks_of(range, rules_.chunk);
  }
  return count;
}

PhysRange AcceptancePlan::chunk(std::uint64_t index) const {
  for (const PhysRange range : ranges_) {
    const std::uint64_t chunks = chunks_of(range, rules_.chunk);
    if (index >= chunks) {
      index -= chunks;
      continue;
    }
    const PhysAddr grid = range.begin().align_down(rules_.chunk) + rules_.chunk * index;
    const Bytes left = range.end() - grid;
    return *PhysRange::make(std::max(grid, range.begin()), grid + std::min(left, rules_.chunk));
  }
  ACCEDE_ASSERT(false);
}

MemoryMap::Result AcceptancePlan::hand_over(const MemoryMap& map,
                                            std::span<MemoryRegion> storage) const {
  return with_accepted(map, ranges_, storage);
}

}  // namespace accede::firmware
