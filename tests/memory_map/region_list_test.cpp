#include "accede/memory_map/region_list.hpp"
#include "tests/memory_map/samples.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <random>
#include <vector>

namespace accede::memory_map {
namespace {

using test::between;
using test::region;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(SortedRegions, AreJoinedWhereNeighboursAreAlike) {
  const auto sorted =
      sorted_regions({region(0x3000, 0x4000), region(0x1000, 0x2000), region(0x2000, 0x3000),
                      region(0x4000, 0x5000, RegionKind::kReserved)});
  ASSERT_TRUE(sorted);
  EXPECT_THAT(*sorted,
              ElementsAre(region(0x1000, 0x4000), region(0x4000, 0x5000, RegionKind::kReserved)));
}

TEST(SortedRegions, OfDifferentNodesAreNotJoined) {
  Region second = region(0x2000, 0x3000);
  second.node = 1;
  const auto sorted = sorted_regions({region(0x1000, 0x2000), second});
  ASSERT_TRUE(sorted);
  EXPECT_THAT(*sorted, ElementsAre(region(0x1000, 0x2000), second));
}

TEST(SortedRegions, ThatOverlapAreNamedBoth) {
  const auto sorted = sorted_regions({region(0x1000, 0x3000), region(0x2000, 0x4000)});
  EXPECT_EQ(test::message_of(sorted), "0x1000-0x2fff and 0x2000-0x3fff overlap");
}

TEST(AddKind, CutsWhatIsWeaker) {
  std::vector<Region> regions{region(0x1000, 0x8000)};
  add_kind(regions, between(0x4000, 0x6000), RegionKind::kReserved);
  EXPECT_THAT(regions,
              ElementsAre(region(0x1000, 0x4000), region(0x4000, 0x6000, RegionKind::kReserved),
                          region(0x6000, 0x8000)));
}

TEST(AddKind, OfRamFillsOnlyWhatIsFree) {
  std::vector<Region> regions{region(0x1000, 0x2000, RegionKind::kReserved)};
  add_kind(regions, between(0, 0x3000), RegionKind::kRam);
  EXPECT_THAT(regions, ElementsAre(region(0, 0x1000), region(0x1000, 0x2000, RegionKind::kReserved),
                                   region(0x2000, 0x3000)));
}

TEST(AddKind, DoesNotWeakenWhatIsStronger) {
  std::vector<Region> regions{region(0x1000, 0x2000, RegionKind::kSpecificPurpose)};
  const std::vector<Region> before = regions;
  add_kind(regions, between(0x1000, 0x2000), RegionKind::kReserved);
  EXPECT_EQ(regions, before);
}

TEST(Retype, LeavesOtherKindsAlone) {
  std::vector<Region> regions{region(0x1000, 0x2000), region(0x2000, 0x3000, RegionKind::kReserved),
                              region(0x3000, 0x4000)};
  retype(regions, between(0x1800, 0x3800), RegionKind::kRam, std::nullopt);
  EXPECT_THAT(regions,
              ElementsAre(region(0x1000, 0x1800), region(0x2000, 0x3000, RegionKind::kReserved),
                          region(0x3800, 0x4000)));
}

TEST(Overlaid, ShowsWhatIsBelowInTheGapsOnly) {
  const std::vector<Region> below{region(0x1000, 0x5000, RegionKind::kSpecificPurpose)};
  const std::vector<Region> above{region(0x2000, 0x3000), region(0x4000, 0x6000)};
  EXPECT_THAT(
      overlaid(below, above),
      ElementsAre(region(0x1000, 0x2000, RegionKind::kSpecificPurpose), region(0x2000, 0x3000),
                  region(0x3000, 0x4000, RegionKind::kSpecificPurpose), region(0x4000, 0x6000)));
}

TEST(WithNodes, CutsRegionsAtTheBordersOfNodes) {
  const std::vector<Region> regions{region(0x1000, 0x6000)};
  const std::vector<NodeRange> nodes{{.range = between(0x0, 0x2000), .node = 7},
                                     {.range = between(0x3000, 0x8000), .node = 8}};
  Region first = region(0x1000, 0x2000);
  first.node = 7;
  Region last = region(0x3000, 0x6000);
  last.node = 8;
  EXPECT_THAT(with_nodes(regions, nodes), ElementsAre(first, region(0x2000, 0x3000), last));
}

TEST(FreeHotPlugRanges, AreWhatNoRegionTakes) {
  const std::vector<Region> regions{region(0x1000, 0x2000), region(0x3000, 0x4000)};
  const std::vector<NodeRange> nodes{
      {.range = between(0x0, 0x3800), .node = 1, .hot_pluggable = true},
      {.range = between(0x4000, 0x5000), .node = 2}};
  EXPECT_THAT(free_hot_plug_ranges(regions, nodes),
              ElementsAre(NodeRange{between(0x0, 0x1000), 1, true},
                          NodeRange{between(0x2000, 0x3000), 1, true}));
}

/// Lists of pages, to compare with.
using Pages = std::map<std::uint64_t, std::pair<RegionKind, std::optional<std::uint32_t>>>;

Pages pages_of(std::span<const Region> regions) {
  Pages pages;
  for (const Region& each : regions) {
    for (auto page = each.range.begin().value(); page < each.range.end().value(); ++page) {
      EXPECT_TRUE(pages.emplace(page, std::pair{each.kind, each.node}).second) << page;
    }
  }
  return pages;
}

std::vector<PhysRange> random_ranges(std::mt19937& random) {
  std::vector<PhysRange> ranges;
  for (std::uint64_t at = random() % 8; at < 100;) {
    const std::uint64_t end = at + 1 + random() % 12;
    ranges.push_back(between(at, end));
    at = end + random() % 3 * (random() % 8);
  }
  return ranges;
}

TEST(RegionListModel, ChangesAndNodesAgreeWithListsOfPages) {
  for (unsigned seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random{seed};
    std::vector<Region> regions;
    for (const PhysRange range : random_ranges(random)) {
      regions.push_back({.range = range, .kind = static_cast<RegionKind>(random() % 3)});
    }
    std::vector<NodeRange> nodes;
    for (const PhysRange range : random_ranges(random)) {
      nodes.push_back({range, static_cast<std::uint32_t>(random() % 3), random() % 2 == 0});
    }
    Pages pages = pages_of(regions);
    const PhysRange range = random_ranges(random).back();
    const auto kind = static_cast<RegionKind>(random() % 3);
    if (seed % 2 == 0) {
      add_kind(regions, range, kind);
      for (auto page = range.begin().value(); page < range.end().value(); ++page) {
        const auto there = pages.try_emplace(page, kind, std::nullopt).first;
        there->second.first = std::max(there->second.first, kind);
      }
    } else {
      retype(regions, range, RegionKind::kRam, kind);
      for (auto page = range.begin().value(); page < range.end().value(); ++page) {
        if (pages.contains(page) && pages[page].first == RegionKind::kRam) {
          pages[page].first = kind;
        }
      }
    }
    ASSERT_EQ(pages_of(regions), pages);
    std::size_t free = 0;
    for (const NodeRange& node : nodes) {
      for (auto page = node.range.begin().value(); page < node.range.end().value(); ++page) {
        const auto found = pages.find(page);
        if (found != pages.end()) {
          found->second.second = node.node;
        } else {
          free += node.hot_pluggable ? 1 : 0;
        }
      }
    }
    EXPECT_EQ(pages_of(with_nodes(regions, nodes)), pages);
    for (const NodeRange& room : free_hot_plug_ranges(regions, nodes)) {
      free -= room.range.size().value();
    }
    EXPECT_EQ(free, 0U);
  }
}

}  // namespace
}  // namespace accede::memory_map
