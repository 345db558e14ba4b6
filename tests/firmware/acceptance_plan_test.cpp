#include "accede/firmware/acceptance_plan.hpp"

#include "accede/firmware/hob_memory_map.hpp"
#include "tests/firmware/plan_check.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <string_view>
#include <vector>

namespace accede::firmware {
namespace {

using guest::MemoryKind;
using guest::MemoryMap;
using guest::MemoryRegion;
using test::range;
using test::Region;
using enum AcceptanceScope;

/// A map and its regions.
class Memory {
 public:
  explicit Memory(std::vector<MemoryRegion> regions)
      : storage_{std::move(regions)}, map_{MemoryMap::from_regions(storage_).value()} {}

  [[nodiscard]] const MemoryMap& map() const { return map_; }

 private:
  std::vector<MemoryRegion> storage_;
  MemoryMap map_;
};

/// As a VMM gives it: 1 MiB added, 2 GiB pending below 4 GiB, 6 GiB pending above.
Memory eight_gib() {
  return Memory{{{range(0_MiB, 1_MiB), MemoryKind::kUsable},
                 {range(1_MiB, 2048_MiB), MemoryKind::kUnaccepted},
                 {range(4_GiB, 10_GiB), MemoryKind::kUnaccepted}}};
}

struct Planned {
  std::vector<PhysRange> storage;
  std::expected<AcceptancePlan, PlanError> plan;
};

Planned plan(const MemoryMap& map, const AcceptanceGoal& goal, ChunkRules rules = {}) {
  std::vector<PhysRange> storage(AcceptancePlan::ranges_for(map, goal));
  const std::span room = storage;
  auto made = AcceptancePlan::make(map, goal, rules, room);
  if (made) {
    const test::Complaint complaint = test::check_plan(*made, map, 48);
    EXPECT_EQ(complaint, nullptr) << complaint;
  }
  return {std::move(storage), made};
}

std::vector<PhysRange> ranges(const MemoryMap& map, const AcceptanceGoal& goal) {
  const Planned planned = plan(map, goal);
  EXPECT_TRUE(planned.plan.has_value());
  const std::span made = planned.plan->ranges();
  return {made.begin(), made.end()};
}

using Ranges = std::vector<PhysRange>;

TEST(AcceptancePlan, OfEverythingIsAllThatIsUnaccepted) {
  EXPECT_EQ(ranges(eight_gib().map(), {}), (Ranges{range(1_MiB, 2048_MiB), range(4_GiB, 10_GiB)}));
}

TEST(AcceptancePlan, Below4GLeavesTheRestToTheKernel) {
  EXPECT_EQ(ranges(eight_gib().map(), {.scope = kBelow4G}), (Ranges{range(1_MiB, 2048_MiB)}));
}

TEST(AcceptancePlan, AtLeastCountsWhatIsUsableAlready) {
  const Memory memory = eight_gib();
  const auto with = [&](Bytes least) {
    return ranges(memory.map(), {.scope = kAtLeast, .at_least = least});
  };
  EXPECT_EQ(with(0_MiB), Ranges{});
  EXPECT_EQ(with(1_MiB), Ranges{});
  EXPECT_EQ(with(Bytes{(1_MiB).value() + 1}), (Ranges{range(1_MiB, 2_MiB)}));
  EXPECT_EQ(with(512_MiB), (Ranges{range(1_MiB, 512_MiB)}));
  EXPECT_EQ(with(2048_MiB), (Ranges{range(1_MiB, 2048_MiB)}));
}

TEST(AcceptancePlan, AtLeastGoesOnInTheNextRegionAndCutsBetweenLargePages) {
  EXPECT_EQ(ranges(eight_gib().map(), {.scope = kAtLeast, .at_least = 2049_MiB}),
            (Ranges{range(1_MiB, 2048_MiB), range(4_GiB, 4098_MiB)}));
}

TEST(AcceptancePlan, AtLeastMoreThanThereIsIsEverything) {
  const Memory memory = eight_gib();
  for (const Bytes least : {9_GiB, Bytes{std::numeric_limits<std::uint64_t>::max()}}) {
    EXPECT_EQ(ranges(memory.map(), {.scope = kAtLeast, .at_least = least}),
              ranges(memory.map(), {}));
  }
}

TEST(AcceptancePlan, WhatIsNeededIsAcceptedInWholeLargePages) {
  const std::vector needed{range(Bytes{(5_GiB).value() + 1}, Bytes{(5_GiB).value() + 2}),
                           range(5126_MiB, 5127_MiB), range(0_MiB, 1_MiB)};
  EXPECT_EQ(ranges(eight_gib().map(), {.scope = kBelow4G, .needed = needed}),
            (Ranges{range(1_MiB, 2048_MiB), range(5120_MiB, 5122_MiB), range(5126_MiB, 5128_MiB)}));
}

TEST(AcceptancePlan, WhatIsNeededMergesWithTheScopeAndWithItself) {
  const std::vector needed{range(8_MiB, 12_MiB), range(4_MiB, 8_MiB), range(2_MiB, 3_MiB),
                           range(10_MiB, 14_MiB)};
  EXPECT_EQ(ranges(eight_gib().map(), {.scope = kAtLeast, .at_least = 2_MiB, .needed = needed}),
            (Ranges{range(1_MiB, 14_MiB)}));
}

TEST(AcceptancePlan, WhatIsNeededMayCrossFromAcceptedToUnacceptedMemory) {
  const std::vector needed{range(0_MiB, 3_MiB)};
  EXPECT_EQ(ranges(eight_gib().map(), {.scope = kAtLeast, .needed = needed}),
            (Ranges{range(1_MiB, 4_MiB)}));
}

TEST(AcceptancePlan, RefusesWhatIsNeededOutsideOfRam) {
  const Memory memory = eight_gib();
  for (const PhysRange bad : {range(2047_MiB, 2049_MiB), range(3_GiB, 3073_MiB),
                              range(4095_MiB, 4097_MiB), range(10239_MiB, 10241_MiB)}) {
    const std::vector needed{range(0, 0), range(1_MiB, 2_MiB), bad};
    const Planned planned = plan(memory.map(), {.needed = needed});
    ASSERT_FALSE(planned.plan.has_value());
    EXPECT_EQ(planned.plan.error(), (PlanError{PlanErrorKind::kNeededIsNotRam, 2}));
  }
}

TEST(AcceptancePlan, RefusesStorageThatIsTooSmall) {
  const Memory memory = eight_gib();
  const std::vector needed{range(5_GiB, 5121_MiB)};
  const AcceptanceGoal goal{.scope = kBelow4G, .needed = needed};
  EXPECT_EQ(AcceptancePlan::ranges_for(memory.map(), goal), 3U);
  std::array<PhysRange, 1> storage;
  const auto made = AcceptancePlan::make(memory.map(), goal, {}, storage);
  ASSERT_FALSE(made.has_value());
  EXPECT_EQ(made.error(), (PlanError{PlanErrorKind::kTooManyRanges, 1}));
}

TEST(AcceptancePlan, EndsWhereTheAddressSpaceEnds) {
  const std::uint64_t top = ~0ULL << 12;
  const Memory memory{{{range(top - 0x5000, top), MemoryKind::kUnaccepted}}};
  const std::vector needed{range(top - 1, top)};
  EXPECT_EQ(ranges(memory.map(), {}), (Ranges{range(top - 0x5000, top)}));
  EXPECT_EQ(ranges(memory.map(), {.scope = kAtLeast, .at_least = 1_B}),
            (Ranges{range(top - 0x5000, top)}));
  EXPECT_EQ(ranges(memory.map(), {.scope = kBelow4G, .needed = needed}),
            (Ranges{range(top - 0x5000, top)}));
}

TEST(AcceptancePlan, ChunksEndOnMultiplesOfTheirSize) {
  const Memory memory{{{range(1_MiB, 70_MiB), MemoryKind::kUnaccepted},
                       {range(4_GiB, 4097_MiB), MemoryKind::kUnaccepted}}};
  const Planned planned = plan(memory.map(), {});
  ASSERT_EQ(planned.plan->chunk_count(), 4U);
  EXPECT_EQ(planned.plan->chunk(0), range(1_MiB, 32_MiB));
  EXPECT_EQ(planned.plan->chunk(1), range(32_MiB, 64_MiB));
  EXPECT_EQ(planned.plan->chunk(2), range(64_MiB, 70_MiB));
  EXPECT_EQ(planned.plan->chunk(3), range(4_GiB, 4097_MiB));
}

TEST(AcceptancePlan, CpusThatTakeChunksInTurnShareTheWork) {
  const Memory memory = eight_gib();
  const Planned planned = plan(memory.map(), {});
  constexpr std::uint64_t kCpus = 3;
  std::array<Bytes, kCpus> shares{};
  for (std::uint64_t cpu = 0; cpu < kCpus; ++cpu) {
    for (std::uint64_t i = cpu; i < planned.plan->chunk_count(); i += kCpus) {
      shares[cpu] += planned.plan->chunk(i).size();
    }
  }
  EXPECT_EQ(shares[0] + shares[1] + shares[2], planned.plan->size());
  const auto [least, most] = std::ranges::minmax(shares);
  EXPECT_LE(most - least, 32_MiB);
}

TEST(AcceptancePlan, ALargerLargestPageIsUsedWhereItFits) {
  const Memory memory{{{range(1022_MiB, 3073_MiB), MemoryKind::kUnaccepted}}};
  const Planned planned = plan(memory.map(), {}, {.chunk = 4_GiB, .largest = PageSize::k1G});
  std::vector<PageRun> runs;
  planned.plan->for_each_page_run([&](const PageRun& run) { runs.push_back(run); });
  EXPECT_EQ(runs, (std::vector<PageRun>{{range(1022_MiB, 1024_MiB), PageSize::k2M},
                                        {range(1_GiB, 3_GiB), PageSize::k1G},
                                        {range(3072_MiB, 3073_MiB), PageSize::k4K}}));
}

TEST(AcceptancePlan, EveryErrorHasItsOwnText) {
  const std::set<std::string_view> texts{to_string(PlanErrorKind::kNeededIsNotRam),
                                         to_string(PlanErrorKind::kTooManyRanges),
                                         to_string(static_cast<PlanErrorKind>(255))};
  EXPECT_EQ(texts.size(), 3U);
}

TEST(AcceptancePlanDeathTest, StopsAtAChunkThatIsNoPowerOfTwoOrSmallerThanAPage) {
  const Memory memory = eight_gib();
  EXPECT_DEATH((void)plan(memory.map(), {}, {.chunk = 3_MiB}), "");
  EXPECT_DEATH((void)plan(memory.map(), {}, {.chunk = 1_MiB}), "");
}

TEST(AcceptancePlanDeathTest, StopsAtAChunkThatThereIsNot) {
  const Memory memory = eight_gib();
  const Planned planned = plan(memory.map(), {});
  EXPECT_DEATH((void)planned.plan->chunk(planned.plan->chunk_count()), "");
}

/// The plan of a HOB list.
Ranges planned_from(const std::vector<test::Resource>& resources, const AcceptanceGoal& goal) {
  const test::HobBytes bytes = test::hobs(resources);
  std::vector<MemoryRegion> storage(resources.size());
  const auto map = map_from_hobs(*HobList::parse(bytes), HobDialect::kStandard, storage);
  EXPECT_TRUE(map.has_value());
  return ranges(*map, goal);
}

TEST(AcceptancePlan, Regression_E01_AnyOrderOfHobsGivesTheSamePlan) {
  using abi::hob::Resource;
  // The range above 4 GiB comes first: a loop that stops there would accept nothing.
  std::vector<test::Resource> resources{
      {Resource::kMemoryUnaccepted, 0x1'0000'0000, 0x8000'0000},
      {Resource::kMemoryUnaccepted, 0x80'B000, 0x7F7F'5000},
      {Resource::kSystemMemory, 0x80'9000, 0x2000},
      {Resource::kMemoryMappedIo, 0xFEC0'0000, 0x1000},
      {Resource::kMemoryUnaccepted, 0, 0x80'9000},
  };
  const Ranges low{range(0, 0x80'9000), range(0x80'B000, 0x8000'0000)};
  std::vector<std::size_t> order(resources.size());
  std::iota(order.begin(), order.end(), 0U);
  do {
    std::vector<test::Resource> shuffled;
    for (const std::size_t i : order) {
      shuffled.push_back(resources[i]);
    }
    ASSERT_EQ(planned_from(shuffled, {.scope = kBelow4G}), low);
    ASSERT_EQ(planned_from(shuffled, {.scope = kAtLeast, .at_least = 4_MiB}),
              (Ranges{range(0, 0x40'0000)}));
  } while (std::ranges::next_permutation(order).found);
}

TEST(AcceptancePlan, Regression_E02_ExactlyOneLargePageIsAcceptedAsOne) {
  std::vector<PageRun> runs;
  for_each_page_run(range(4_MiB, 6_MiB), PageSize::k2M,
                    [&](const PageRun& run) { runs.push_back(run); });
  EXPECT_EQ(runs, (std::vector<PageRun>{{range(4_MiB, 6_MiB), PageSize::k2M}}));
}

TEST(AcceptancePlan, Regression_E02_TheLargestLegalPagesAreUsedAtEveryAlignment) {
  constexpr std::uint64_t k2M = 0x20'0000;
  for (std::uint64_t begin = 0; begin <= k2M; begin += 0x1'5000) {
    for (std::uint64_t end = begin; end <= 3 * k2M; end += 0xB000) {
      const std::uint64_t first = (begin + k2M - 1) / k2M;
      const std::uint64_t large = end / k2M > first ? end / k2M - first : 0;
      std::uint64_t seen = 0;
      for_each_page_run(range(begin, end), PageSize::k2M, [&](const PageRun& run) {
        seen += run.size == PageSize::k2M ? run.pages() : 0;
      });
      ASSERT_EQ(seen, large) << begin << " to " << end;
    }
  }
}

TEST(AcceptancePlan, Regression_E04_WhatStraddles4GIsHandedOverByteForByteAsItWasAccepted) {
  const Memory memory{{{range(1_GiB, 6_GiB), MemoryKind::kUnaccepted}}};
  const Planned planned = plan(memory.map(), {.scope = kBelow4G});
  std::vector<MemoryRegion> storage(3);
  const auto after = planned.plan->hand_over(memory.map(), storage);
  ASSERT_TRUE(after.has_value());
  EXPECT_EQ(test::regions(*after),
            (std::vector<Region>{{range(1_GiB, 4_GiB), MemoryKind::kUsable},
                                 {range(4_GiB, 6_GiB), MemoryKind::kUnaccepted}}));
}

TEST(AcceptancePlan, Regression_E04_APlanOfWhatWasHandedOverAcceptsNothingTwice) {
  const Memory memory = eight_gib();
  const std::vector needed{range(5_GiB, 5121_MiB)};
  const Planned first = plan(memory.map(), {.scope = kBelow4G, .needed = needed});
  std::vector<MemoryRegion> storage(
      regions_with_accepted(memory.map().regions().size(), first.plan->ranges().size()));
  const auto after = first.plan->hand_over(memory.map(), storage);
  ASSERT_TRUE(after.has_value());
  const Planned rest = plan(*after, {});
  for (const PhysRange again : rest.plan->ranges()) {
    for (const PhysRange before : first.plan->ranges()) {
      EXPECT_FALSE(again.overlaps(before));
    }
  }
  EXPECT_EQ(first.plan->size() + rest.plan->size(), memory.map().bytes_of(MemoryKind::kUnaccepted));
}

}  // namespace
}  // namespace accede::firmware
