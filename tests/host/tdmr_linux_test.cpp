// Hosts of bug reports: what Linux makes of them, and what the planner does.
#include "accede/host/tdmr_linux.hpp"
#include "accede/host/tdmr_plan.hpp"
#include "tests/host/tdmr_reported_hosts.hpp"

#include <gtest/gtest.h>

namespace accede::host {
namespace {

using test::between;
using test::cmr;
using test::emerald_rapids;
using test::kNode0;
using test::kNode1;
using test::one_tebibyte;
using test::ram;
using test::TdmrHost;

LinuxTdmrs as_linux(const TdmrHost& host, TdmrHoles holes) {
  TdmrPolicy policy = host.policy;
  policy.holes = holes;
  return plan_as_linux(host.machine(), host.memory, policy);
}

TEST(TdmrOfLinux, Regression_C01_EmeraldRapidsExhaustsTheAreasOfTheFirstTdmr) {
  const LinuxTdmrs tdmrs = as_linux(emerald_rapids(), TdmrHoles::kOfMemoryMap);
  EXPECT_EQ(tdmrs.outcome, LinuxTdmrOutcome::kTooManyAreas);
  EXPECT_EQ(tdmrs.worst, between(0, 0x80000000)) << "the report: TDMR [0x0, 0x80000000)";
  EXPECT_EQ(tdmrs.worst_areas, 17U);
  EXPECT_EQ(tdmrs.tdmrs, 5U);
}

TEST(TdmrOfLinux, Regression_C01_HolesOfTheCmrsAreFewEnough) {
  const LinuxTdmrs tdmrs = as_linux(emerald_rapids(), TdmrHoles::kOfCmrs);
  EXPECT_EQ(tdmrs.outcome, LinuxTdmrOutcome::kInitializes);
  EXPECT_EQ(tdmrs.areas, 11U);
}

TEST(TdmrOfLinux, Regression_C01_ThePlannerFindsSixteenAreasWithTheSameHoles) {
  TdmrHost host = emerald_rapids();
  host.policy.holes = TdmrHoles::kOfMemoryMap;
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  ASSERT_EQ(plan.tdmrs.size(), 4U);
  EXPECT_EQ(plan.tdmrs[1].range, between(1_GiB, 2_GiB));
  EXPECT_EQ(plan.tdmrs[1].area_count, 16U);
  EXPECT_EQ(plan.areas, 21U);
  EXPECT_EQ(plan.optimum, TdmrOptimum::kProven);
}

TEST(TdmrOfLinux, Regression_C01_ThePlannerTakesSixAreasWithTheHolesOfTheCmrs) {
  TdmrHost host = emerald_rapids();
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  EXPECT_EQ(plan.areas, 6U);
  EXPECT_EQ(plan.optimum, TdmrOptimum::kProven);
  EXPECT_LE(plan.pamt, as_linux(host, TdmrHoles::kOfCmrs).pamt);
}

/// canonical/tdx issue 415: "TDMR [0x40000000, 0x80000000): reserved areas exhausted". The report
/// has no memory map: this one has one hole more than a TDMR of 1 GiB can reserve.
TdmrHost granite_rapids() {
  TdmrHost host;
  host.cmrs = {cmr(0x100000, 0x77800000), cmr(0x100000000, 0x2080000000)};
  host.memory = {ram(between(0x100000, 0x40000000))};
  for (std::uint64_t i = 0; i < 17; ++i) {
    const std::uint64_t begin = 0x40000000 + i * 0x3000000;
    host.memory.push_back(ram(between(begin + 0x1000 * (i + 1), begin + 0x3000000)));
  }
  host.memory.push_back(ram(between(0x100000000, 0x2080000000)));
  return host;
}

TEST(TdmrOfLinux, Regression_C01_ATdmrOfOneGibibyteCannotBeSplit) {
  TdmrHost host = granite_rapids();
  const LinuxTdmrs tdmrs = as_linux(host, TdmrHoles::kOfMemoryMap);
  EXPECT_EQ(tdmrs.outcome, LinuxTdmrOutcome::kTooManyAreas);
  EXPECT_EQ(tdmrs.worst, between(0x40000000, 0x80000000));
  host.policy.holes = TdmrHoles::kOfMemoryMap;
  const TdmrPlan plan = host.plan();
  EXPECT_FALSE(plan.feasible);
  ASSERT_EQ(plan.problems.size(), 1U);
  EXPECT_EQ(plan.problems[0].range, between(0x40000000, 0x80000000));
  EXPECT_EQ(plan.problems[0].count, 18U);
  EXPECT_EQ(plan.given_up.size(), 2U);
  host.policy.holes = TdmrHoles::kOfCmrs;
  EXPECT_TRUE(host.plan().feasible) << "the other way out";
}

TEST(TdmrOfLinux, MetadataOfAReportedTebibyteIsWhatItsKernelPrinted) {
  TdmrHost host = one_tebibyte();
  const LinuxTdmrs tdmrs = as_linux(host, TdmrHoles::kOfMemoryMap);
  EXPECT_EQ(tdmrs.outcome, LinuxTdmrOutcome::kInitializes);
  EXPECT_EQ(tdmrs.pamt, 4202516_KiB);
  const TdmrPlan plan = host.plan();
  EXPECT_TRUE(plan.feasible);
  EXPECT_EQ(plan.foreign_pamt, Bytes{});
  EXPECT_EQ(plan.pamt, 4202516_KiB);
}

TEST(TdmrOfLinux, RamThatIsNotConvertibleFailsInTheModule) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 8_GiB))};
  host.cmrs = {cmr(4ULL << 30, 5ULL << 30), cmr(6ULL << 30, 8ULL << 30)};
  const LinuxTdmrs tdmrs = as_linux(host, TdmrHoles::kOfMemoryMap);
  EXPECT_EQ(tdmrs.outcome, LinuxTdmrOutcome::kOutsideCmrs);
  EXPECT_EQ(tdmrs.worst, between(5_GiB, 6_GiB));
}

TEST(TdmrOfLinux, RegionsInTheSameGibibyteShareATdmr) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 4_GiB + 100_MiB)), ram(between(4_GiB + 200_MiB, 6_GiB)),
                 ram(between(6_GiB, 7_GiB), kNode1)};
  host.convert_everything();
  const LinuxTdmrs tdmrs = as_linux(host, TdmrHoles::kOfMemoryMap);
  EXPECT_EQ(tdmrs.outcome, LinuxTdmrOutcome::kInitializes);
  EXPECT_EQ(tdmrs.tdmrs, 3U);
}

TEST(TdmrOfLinux, MoreThanSixtyFourRegionsAreTooMany) {
  TdmrHost host;
  host.cmrs = {cmr(4ULL << 30, 400ULL << 30)};
  for (std::uint64_t i = 0; i < 65; ++i) {
    host.memory.push_back(ram(between(4_GiB + 2_GiB * i, 5_GiB + 2_GiB * i)));
  }
  const LinuxTdmrs tdmrs = as_linux(host, TdmrHoles::kOfMemoryMap);
  EXPECT_EQ(tdmrs.outcome, LinuxTdmrOutcome::kTooManyTdmrs);
  EXPECT_EQ(tdmrs.tdmrs, 65U);
  EXPECT_TRUE(host.plan().feasible) << "the planner covers some gaps";
}

TEST(TdmrOfLinux, MetadataOfTwoTdmrsNeedsTwiceTheRoom) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 4_GiB + 2_MiB)), ram(between(6_GiB, 6_GiB + 9_MiB))};
  host.convert_everything();
  EXPECT_EQ(as_linux(host, TdmrHoles::kOfMemoryMap).outcome, LinuxTdmrOutcome::kInitializes);
  host.memory[1] = ram(between(6_GiB, 6_GiB + 8_MiB));
  EXPECT_EQ(as_linux(host, TdmrHoles::kOfMemoryMap).outcome, LinuxTdmrOutcome::kNoRoomForPamt);
}

TEST(TdmrOfLinux, MetadataGoesToAnotherNodeWhereItsOwnHasNoRoom) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 5_GiB)), ram(between(6_GiB, 6_GiB + 2_MiB))};
  host.memory[1].node = NodeId{1};
  host.convert_everything();
  EXPECT_EQ(as_linux(host, TdmrHoles::kOfMemoryMap).outcome, LinuxTdmrOutcome::kInitializes);
}

TEST(TdmrOfLinux, TheTdmrWithoutRoomForItsMetadataIsNamed) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 4_GiB + 5_MiB)), ram(between(6_GiB, 6_GiB + 2_MiB))};
  host.convert_everything();
  const LinuxTdmrs tdmrs = as_linux(host, TdmrHoles::kOfMemoryMap);
  EXPECT_EQ(tdmrs.outcome, LinuxTdmrOutcome::kNoRoomForPamt);
  EXPECT_EQ(tdmrs.worst, between(6_GiB, 7_GiB));
}

TEST(TdmrOfLinux, WithoutRamThereIsNoTdmr) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 5_GiB))};
  host.memory[0].kind = MemoryKind::kFirmware;
  host.convert_everything();
  EXPECT_EQ(as_linux(host, TdmrHoles::kOfMemoryMap).outcome, LinuxTdmrOutcome::kNoRam);
}

TEST(TdmrOfLinux, ARegionWithoutRoomForMetadataFails) {
  TdmrHost host;
  host.memory = {ram(between(4_GiB, 4_GiB + 2_MiB))};
  host.convert_everything();
  EXPECT_EQ(as_linux(host, TdmrHoles::kOfMemoryMap).outcome, LinuxTdmrOutcome::kNoRoomForPamt);
}

}  // namespace
}  // namespace accede::host
