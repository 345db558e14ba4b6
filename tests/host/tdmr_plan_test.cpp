// Plans of TDMRs: what is covered, reserved and given up, and where metadata goes.
#include "accede/host/tdmr_plan.hpp"
#include "tests/host/tdmr_fixture.hpp"

#include <gtest/gtest.h>

#include <set>

namespace accede::host {
namespace {

using test::between;
using test::cmr;
using test::kinds;
using test::kNode0;
using test::kNode1;
using test::kNode2;
using test::memory_of;
using test::ram;
using test::TdmrHost;

const PlannedPamt& array_of(const PlannedTdmr& tdmr, PageSize page) {
  return tdmr.pamt[static_cast<std::size_t>(page)];
}

TEST(TdmrPlan, OneNodeWithoutHolesIsOneTdmrWithOneAreaForItsMetadata) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 8_GiB))};
  host.convert_everything();
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  ASSERT_EQ(plan.tdmrs.size(), 1U);
  EXPECT_EQ(plan.tdmrs[0].range, between(4_GiB, 8_GiB));
  EXPECT_EQ(plan.pamt, 16_MiB + 32_KiB + 4_KiB);
  ASSERT_EQ(plan.areas, 1U);
  const PlannedArea& area = plan.tdmrs[0].area_list[0];
  EXPECT_EQ(area.range, between(8_GiB - plan.pamt, 8_GiB));
  EXPECT_EQ(area.reasons, AreaReasons{.pamt = true});
  EXPECT_EQ(plan.tdmrs[0].td_memory, 4_GiB - plan.pamt);
  EXPECT_EQ(plan.optimum, TdmrOptimum::kProven);
  EXPECT_EQ(plan.areas_at_least, 1U);
}

TEST(TdmrPlan, DynamicPamtKeepsABitAPageOfTheLargestArray) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 8_GiB))};
  host.convert_everything();
  host.dynamic_pamt = true;
  const TdmrPlan plan = host.plan();
  ASSERT_EQ(plan.tdmrs.size(), 1U);
  EXPECT_EQ(array_of(plan.tdmrs[0], PageSize::k4K).range.size(), 128_KiB);
  EXPECT_EQ(array_of(plan.tdmrs[0], PageSize::k2M).range.size(), 32_KiB);
  EXPECT_EQ(array_of(plan.tdmrs[0], PageSize::k1G).range.size(), 4_KiB);
}

TEST(TdmrPlan, MetadataGoesNextToAHoleAndCostsNoArea) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 7_GiB + 512_MiB))};
  host.convert_everything();
  const TdmrPlan plan = host.plan();
  ASSERT_EQ(plan.areas, 1U);
  const PlannedArea& area = plan.tdmrs[0].area_list[0];
  EXPECT_EQ(area.range.end(), PhysAddr{8ULL << 30});
  EXPECT_TRUE(area.reasons.pamt && area.reasons.not_convertible);
  EXPECT_EQ(plan.optimum, TdmrOptimum::kProven);
}

TEST(TdmrPlan, MetadataStaysOnTheNodeOfItsTdmr) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 8_GiB), kNode0), ram(between(8_GiB, 12_GiB), kNode1)};
  host.convert_everything();
  const TdmrPlan plan = host.plan();
  ASSERT_EQ(plan.tdmrs.size(), 2U);
  for (const PlannedTdmr& tdmr : plan.tdmrs) {
    for (const PlannedPamt& pamt : tdmr.pamt) {
      EXPECT_EQ(pamt.node, tdmr.node);
      EXPECT_TRUE(tdmr.range.contains(pamt.range));
    }
  }
  EXPECT_EQ(plan.foreign_pamt, Bytes{});
}

TEST(TdmrPlan, ANodeThatCannotHoldMetadataHasItOnAnother) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 8_GiB), kNode0),
                 memory_of(between(8_GiB, 10_GiB), kNode2, MemoryKind::kCxl)};
  host.convert_everything();
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  EXPECT_EQ(plan.foreign_pamt, 8_MiB + 16_KiB + 4_KiB);
  ASSERT_EQ(plan.nodes.size(), 2U);
  EXPECT_EQ(plan.nodes[1].node, kNode2);
  EXPECT_EQ(plan.nodes[1].foreign_pamt, plan.foreign_pamt);
  EXPECT_EQ(plan.nodes[1].td_memory, 2_GiB);
}

TEST(TdmrPlan, MemoryBelowOneMebibyteIsNobodysProblem) {
  TdmrHost host;
  host.memory = {ram(between(0, 0x9f000)), ram(between(0x100000, 0x40000000))};
  host.cmrs = {cmr(0x100000, 0x40000000)};
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  EXPECT_TRUE(plan.problems.empty());
  EXPECT_EQ(plan.areas, 1U);
}

TEST(TdmrPlan, AGibibyteThatTwoNodesShareIsInOneTdmr) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 4_GiB + 300_MiB), kNode0),
                 ram(between(4_GiB + 300_MiB, 5_GiB), kNode1)};
  host.convert_everything();
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  ASSERT_EQ(plan.tdmrs.size(), 1U);
  EXPECT_EQ(plan.tdmrs[0].node, kNode1);
}

TEST(TdmrPlan, PartialPagesAreNotTdMemory) {
  TdmrHost host;
  host.memory = {ram(between((4ULL << 30) + 1, (5ULL << 30) - 1))};
  host.cmrs = {cmr(4ULL << 30, 5ULL << 30)};
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  EXPECT_EQ(plan.nodes[0].present, 1_GiB - 8_KiB);
}

/// RAM on both sides of 1 GiB of nothing.
TdmrHost with_gap() {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 5_GiB + 512_MiB)), ram(between(7_GiB + 512_MiB, 9_GiB))};
  host.convert_everything();
  return host;
}

TEST(TdmrPlan, FewestAreasComeFromOneTdmrOverAGap) {
  TdmrHost host = with_gap();
  host.policy.goal = TdmrGoal::kReservedAreas;
  const TdmrPlan plan = host.plan();
  EXPECT_EQ(plan.tdmrs.size(), 1U);
  EXPECT_EQ(plan.areas, 1U);
  EXPECT_EQ(plan.optimum, TdmrOptimum::kProven);
}

TEST(TdmrPlan, LeastMetadataComesFromLeavingTheGapOut) {
  TdmrHost host = with_gap();
  host.policy.goal = TdmrGoal::kReservedAreas;
  const Bytes with_area_goal = host.plan().pamt;
  host.policy.goal = TdmrGoal::kPamt;
  const TdmrPlan plan = host.plan();
  EXPECT_EQ(plan.tdmrs.size(), 2U);
  EXPECT_EQ(plan.areas, 2U);
  EXPECT_LT(plan.pamt, with_area_goal);
  EXPECT_EQ(plan.optimum, TdmrOptimum::kProven);
}

TEST(TdmrPlan, NodesAreKeptApartWhereTheLimitAllowsIt) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 5_GiB), kNode0), ram(between(5_GiB, 6_GiB), kNode1)};
  host.convert_everything();
  EXPECT_EQ(host.plan().tdmrs.size(), 2U);
  host.policy.most_tdmrs = 1;
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  EXPECT_EQ(plan.tdmrs.size(), 1U);
}

TEST(TdmrPlan, AHoleAcrossAGibibyteCountsOnce) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 5_GiB - 100_MiB)), ram(between(5_GiB + 100_MiB, 6_GiB))};
  host.convert_everything();
  host.policy.most_areas = 1;
  EXPECT_EQ(host.plan().least_tdmrs, 1U);
}

TEST(TdmrPlan, AnAreaThatMoreRoomBesideAHoleWouldSpareIsNoProof) {
  TdmrHost host;
  host.memory = {memory_of(between(4_GiB, 4_GiB + 500_MiB), kNode0, MemoryKind::kCxl),
                 ram(between(4_GiB + 500_MiB, 4_GiB + 501_MiB)),
                 memory_of(between(4_GiB + 502_MiB, 5_GiB), kNode0, MemoryKind::kCxl),
                 ram(between(5_GiB, 6_GiB))};
  host.convert_everything();
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  EXPECT_EQ(plan.areas, 2U);
  EXPECT_EQ(plan.areas_at_least, 1U);
  EXPECT_EQ(plan.optimum, TdmrOptimum::kNotProven);
}

TEST(TdmrPolicyChoice, PmemThatIsIncludedMustBeConvertible) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 6_GiB)),
                 memory_of(between(6_GiB, 7_GiB), kNode0, MemoryKind::kPmem)};
  host.cmrs = {cmr(4ULL << 30, 6ULL << 30)};
  EXPECT_TRUE(host.plan().feasible);
  host.policy.pmem = MemoryUse::kInclude;
  const TdmrPlan plan = host.plan();
  EXPECT_FALSE(plan.feasible);
  EXPECT_EQ(kinds(plan.problems), std::vector{TdmrProblemKind::kNotConvertible});
  ASSERT_EQ(plan.not_convertible.size(), 1U);
  EXPECT_EQ(plan.not_convertible[0].range, between(6_GiB, 7_GiB));
  EXPECT_EQ(plan.tdmrs.size(), 1U) << "the plan after the change";
}

TEST(TdmrPolicyChoice, CxlMemoryThatIsExcludedIsReserved) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 4_GiB + 512_MiB)),
                 memory_of(between(4_GiB + 512_MiB, 5_GiB), kNode0, MemoryKind::kCxl)};
  host.convert_everything();
  EXPECT_EQ(host.plan().nodes[0].present, 1_GiB);
  host.policy.cxl = MemoryUse::kExclude;
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  EXPECT_EQ(plan.nodes[0].present, 512_MiB);
  ASSERT_EQ(plan.areas, 1U);
  EXPECT_TRUE(plan.tdmrs[0].area_list[0].reasons.excluded);
}

TEST(TdmrPolicyChoice, AnExcludedRangeIsReservedAndHoldsNoMetadata) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 6_GiB))};
  host.convert_everything();
  const std::vector excluded{between(4_GiB + 100_MiB, 4_GiB + 300_MiB)};
  host.policy.excluded = excluded;
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  ASSERT_EQ(plan.areas, 1U);
  EXPECT_TRUE(plan.tdmrs[0].area_list[0].range.contains(excluded[0]));
  for (const PlannedPamt& pamt : plan.tdmrs[0].pamt) {
    EXPECT_FALSE(pamt.range.overlaps(excluded[0]));
  }
  EXPECT_EQ(plan.nodes[0].not_convertible, 200_MiB);
}

TEST(TdmrPolicyChoice, WhatTheFirmwareKeepsCostsAnAreaOnlyByTheMemoryMap) {
  TdmrHost host;
  host.memory = {
      ram(between(4_GiB, 4_GiB + 100_MiB)),
      memory_of(between(4_GiB + 100_MiB, 4_GiB + 101_MiB), kNode0, MemoryKind::kFirmware),
      ram(between(4_GiB + 101_MiB, 4_GiB + 900_MiB))};
  host.cmrs = {cmr(4ULL << 30, 5ULL << 30)};
  EXPECT_EQ(host.plan().areas, 1U) << "for the metadata alone";
  host.policy.holes = TdmrHoles::kOfMemoryMap;
  const TdmrPlan plan = host.plan();
  EXPECT_EQ(plan.areas, 2U);
  EXPECT_TRUE(plan.tdmrs[0].area_list[0].reasons.firmware);
}

TEST(TdmrPolicyChoice, HotPlugRoomIsCoveredWhereACmrHasIt) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 5_GiB)), ram(between(5_GiB, 8_GiB))};
  host.memory[1].present = false;
  host.cmrs = {cmr(4ULL << 30, 7ULL << 30)};
  EXPECT_EQ(host.plan().tdmrs[0].range, between(4_GiB, 5_GiB));
  host.policy.hot_plug_room = MemoryUse::kInclude;
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  ASSERT_EQ(plan.tdmrs.size(), 1U);
  EXPECT_EQ(plan.tdmrs[0].range, between(4_GiB, 7_GiB));
  EXPECT_EQ(plan.nodes[0].present, 1_GiB);
  for (const PlannedPamt& pamt : plan.tdmrs[0].pamt) {
    EXPECT_TRUE(between(4_GiB, 5_GiB).contains(pamt.range)) << "metadata in memory that is absent";
  }
}

TEST(TdmrPolicyChoice, BestEffortLeavesOutWhatIsNotConvertible) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 6_GiB)), ram(between(6_GiB, 7_GiB), kNode1)};
  host.cmrs = {cmr(4ULL << 30, 6ULL << 30)};
  EXPECT_FALSE(host.plan().feasible);
  host.policy.promise = TdmrPromise::kBestEffort;
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  EXPECT_EQ(plan.nodes[1].not_convertible, 1_GiB);
  EXPECT_EQ(kinds(plan.problems), std::vector{TdmrProblemKind::kNotConvertible});
}

/// `gibibytes` of RAM on their own, each with `holes` of 1 MiB; the stretch after the third hole of
/// each is the shortest, with one page for the number of the GiB and one more.
TdmrHost with_holes(std::size_t gibibytes, std::size_t holes) {
  TdmrHost host;
  host.policy.holes = TdmrHoles::kOfMemoryMap;
  for (std::size_t i = 0; i < gibibytes; ++i) {
    const Bytes base = 1_GiB * (4 + 2 * i);
    host.cmrs = {cmr(4ULL << 30, (base + 1_GiB).value())};
    Bytes at = base;
    for (std::size_t hole = 0; hole < holes; ++hole) {
      const Bytes stretch = hole == 3 ? 4_KiB * (i + 1) : 20_MiB;
      host.memory.push_back(ram(between(at, at + stretch)));
      at += stretch + 1_MiB;
    }
    host.memory.push_back(ram(between(at, base + 1_GiB)));
  }
  return host;
}

TEST(TdmrInfeasible, SeventeenHolesInOneGibibyteCostTheShortestStretch) {
  TdmrHost host = with_holes(1, 17);
  const TdmrPlan plan = host.plan();
  EXPECT_FALSE(plan.feasible);
  EXPECT_EQ(kinds(plan.problems), std::vector{TdmrProblemKind::kTooManyAreas});
  EXPECT_EQ(plan.problems[0].range, between(4_GiB, 5_GiB));
  EXPECT_EQ(plan.problems[0].count, 17U);
  EXPECT_EQ(plan.problems[0].limit, 16U);
  EXPECT_EQ(plan.least_tdmrs, 0U);
  ASSERT_EQ(plan.given_up.size(), 1U);
  EXPECT_EQ(plan.given_up_bytes, 4_KiB);
  EXPECT_EQ(plan.given_up[0].range.begin(), PhysAddr{} + 4_GiB + 63_MiB);
  EXPECT_EQ(plan.tdmrs[0].area_count, 16U);
}

TEST(TdmrInfeasible, SixteenHolesAreAllowed) {
  TdmrHost host = with_holes(1, 16);
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  EXPECT_EQ(plan.areas, 16U);
}

TEST(TdmrInfeasible, TheSmallestChangeMakesAPlan) {
  TdmrHost host = with_holes(66, 16);
  const TdmrPlan before = host.plan();
  EXPECT_FALSE(before.feasible);
  EXPECT_EQ(before.least_tdmrs, 66U);
  EXPECT_EQ(kinds(before.problems), std::vector{TdmrProblemKind::kTooManyTdmrs});
  EXPECT_EQ(before.problems[0].count, 66U);
  std::vector<PhysRange> leave_out;
  for (const GivenUp& part : before.given_up) {
    leave_out.push_back(part.range);
  }
  host.policy.excluded = leave_out;
  EXPECT_TRUE(host.plan().feasible);
  std::vector<PhysRange> less = leave_out;
  less.pop_back();
  host.policy.excluded = less;
  EXPECT_FALSE(host.plan().feasible) << "a smaller change makes one too";
}

TEST(TdmrInfeasible, SixtyFourTdmrsOfSixteenAreasAreAllowed) {
  TdmrHost host = with_holes(64, 16);
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  EXPECT_EQ(plan.tdmrs.size(), 64U);
  EXPECT_EQ(plan.areas, 1024U);
  EXPECT_EQ(plan.optimum, TdmrOptimum::kProven);
}

TEST(TdmrInfeasible, BestEffortUsesRamThatItLeavesOutForMetadata) {
  TdmrHost host;
  host.policy.most_tdmrs = 1;
  host.policy.most_areas = 1;
  host.memory = {ram(between(4_GiB, 5_GiB - 1_MiB)), ram(between(5_GiB, 6_GiB)),
                 ram(between(6_GiB + 1_MiB, 7_GiB - 200_MiB))};
  host.convert_everything();
  EXPECT_FALSE(host.plan().feasible);
  host.policy.promise = TdmrPromise::kBestEffort;
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  EXPECT_EQ(plan.areas, 1U);
  EXPECT_FALSE(plan.tdmrs[0].area_list[0].reasons.pamt);
  EXPECT_EQ(plan.given_up_bytes + plan.pamt, 823_MiB);
}

TEST(TdmrInfeasible, MetadataThatFitsNowhereIsNamed) {
  TdmrHost host;
  for (std::uint64_t i = 0; i < 8; ++i) {
    host.memory.push_back(ram(between(4_GiB + 100_MiB * i, 4_GiB + 100_MiB * i + 2_MiB)));
  }
  host.convert_everything();
  const TdmrPlan plan = host.plan();
  EXPECT_FALSE(plan.feasible);
  EXPECT_TRUE(plan.tdmrs.empty());
  ASSERT_EQ(kinds(plan.problems), std::vector{TdmrProblemKind::kNoRoomForPamt});
  EXPECT_EQ(plan.problems[0].bytes, 4_MiB);
}

TEST(TdmrInfeasible, AGapThatWouldCostTooMuchMetadataIsLeftOut) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 4_GiB + 100_MiB)), ram(between(1000_GiB + 100_MiB, 1001_GiB))};
  host.convert_everything();
  host.policy.goal = TdmrGoal::kReservedAreas;
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  EXPECT_EQ(plan.tdmrs.size(), 2U);
  EXPECT_EQ(plan.optimum, TdmrOptimum::kNotProven);
}

TEST(TdmrInfeasible, AHostWithoutConvertibleMemoryHasNoPlan) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 6_GiB))};
  const TdmrPlan plan = host.plan();
  EXPECT_FALSE(plan.feasible);
  const std::vector expected{TdmrProblemKind::kNotConvertible, TdmrProblemKind::kNoTdMemory};
  EXPECT_EQ(kinds(plan.problems), expected);
  EXPECT_EQ(plan.not_convertible.size(), 1U);
}

TEST(TdmrInput, EveryErrorIsTold) {
  const auto error_of = [](auto spoil) {
    TdmrHost host;
    host.memory = {ram(between(4_GiB, 6_GiB)), ram(between(8_GiB, 9_GiB))};
    host.convert_everything();
    std::vector<PhysRange> excluded{between(4_GiB, 5_GiB), between(5_GiB, 6_GiB)};
    spoil(host, excluded);
    host.policy.excluded = excluded;
    const auto planned = host.try_plan();
    EXPECT_FALSE(planned);
    return planned ? TdmrInputError{} : planned.error();
  };
  using Kind = TdmrInputErrorKind;
  const auto beyond = between(1ULL << 45, (1ULL << 46) + 1);
  const auto expect = [&](TdmrInputError expected, auto spoil) {
    EXPECT_EQ(error_of(spoil), expected) << to_string(expected.kind);
  };
  expect({Kind::kMachine, 0}, [](auto& host, auto&) { host.physical_bits = 53; });
  expect({Kind::kMachine, 0}, [](auto& host, auto&) { host.physical_bits = 6; });
  expect({Kind::kMachine, 0}, [](auto& host, auto&) { host.physical_bits = 35; });
  expect({Kind::kCmrs, 0}, [](auto& host, auto&) { std::swap(host.cmrs[0], host.cmrs[1]); });
  expect({Kind::kMemoryEmpty, 1},
         [](auto& host, auto&) { host.memory[1].range = between(8_GiB, 8_GiB); });
  expect({Kind::kMemoryUnordered, 1},
         [](auto& host, auto&) { std::swap(host.memory[0], host.memory[1]); });
  expect({Kind::kMemoryBeyondWidth, 1}, [&](auto& host, auto&) { host.memory[1].range = beyond; });
  expect({Kind::kExcludedUnordered, 1},
         [](auto&, auto& excluded) { std::swap(excluded[0], excluded[1]); });
  expect({Kind::kExcludedBeyondWidth, 1}, [&](auto&, auto& excluded) { excluded[1] = beyond; });
  expect({Kind::kLimits, 0}, [](auto& host, auto&) { host.policy.most_tdmrs = 65; });
  expect({Kind::kLimits, 0}, [](auto& host, auto&) { host.policy.most_areas = 0; });
  expect({Kind::kTooManyRanges, 0}, [](auto&, auto& excluded) {
    excluded.assign(kMostMemoryRanges + 1, between(4_GiB, 4_GiB));
  });
}

TEST(TdmrInput, EveryErrorHasItsText) {
  std::set<std::string_view> texts;
  for (int kind = 0; kind <= static_cast<int>(TdmrInputErrorKind::kTooManyRanges); ++kind) {
    texts.insert(to_string(static_cast<TdmrInputErrorKind>(kind)));
  }
  EXPECT_EQ(texts.size(), static_cast<std::size_t>(TdmrInputErrorKind::kTooManyRanges) + 1);
  EXPECT_FALSE(texts.contains("unknown error"));
}

}  // namespace
}  // namespace accede::host
