#include "accede/firmware/acceptance_cost.hpp"

#include "tests/firmware/made_up_hobs.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace accede::firmware {
namespace {

using guest::MemoryKind;
using guest::MemoryMap;
using guest::MemoryRegion;
using test::range;
using enum AcceptanceScope;

constexpr std::uint64_t kSecond = 1'000'000'000;

class AcceptanceCostTest : public testing::Test {
 protected:
  void memory(std::vector<MemoryRegion> regions) {
    regions_ = std::move(regions);
    map_ = MemoryMap::from_regions(regions_).value();
  }
  /// 2 GiB below 4 GiB, the rest above.
  void vm(Bytes size) {
    memory({{range(0_GiB, 2_GiB), MemoryKind::kUnaccepted},
            {range(4_GiB, size + 2_GiB), MemoryKind::kUnaccepted}});
  }
  Prediction predicted(const AcceptanceGoal& goal, const CostModel& model, std::uint32_t cpus,
                       ChunkRules rules = {}) {
    std::vector<PhysRange> storage(AcceptancePlan::ranges_for(map_, goal));
    return predict(AcceptancePlan::make(map_, goal, rules, storage).value(), map_, model, cpus);
  }

  std::vector<MemoryRegion> regions_;
  MemoryMap map_;
};

constexpr CostModel kModel{.page_4k = {.parallel = {3}, .serial = {5}},
                           .page_2m = {.parallel = {700}, .serial = {1100}},
                           .most_cpus = 2};

TEST_F(AcceptanceCostTest, CountsPagesBySize) {
  memory({{range(1_MiB, 5_MiB), MemoryKind::kUnaccepted}});
  const Prediction result = predicted({}, kModel, 1);
  EXPECT_EQ(result.pages_4k, 512U);
  EXPECT_EQ(result.pages_2m, 1U);
  EXPECT_EQ(result.accepted, 4_MiB);
  EXPECT_EQ(result.time.value, 512 * (3 + 5) + 700 + 1100U);
}

TEST_F(AcceptanceCostTest, OnlyTheParallelPartIsSharedAndOnlyByCpusThatHelp) {
  memory({{range(0_MiB, 128_MiB), MemoryKind::kUnaccepted}});
  EXPECT_EQ(predicted({}, kModel, 1).time.value, 64 * 1800U);
  EXPECT_EQ(predicted({}, kModel, 2).time.value, 64 * 1100 + 32 * 700U);
  EXPECT_EQ(predicted({}, kModel, 64).time.value, predicted({}, kModel, 2).time.value)
      << "the model says that two CPUs are the most that help";
  EXPECT_EQ(predicted({}, kModel, 2, {.chunk = 128_MiB}).time.value, 64 * 1800U)
      << "there is one chunk, so one CPU works";
}

TEST_F(AcceptanceCostTest, A1GPageCostsAsMuchAs512Of2M) {
  memory({{range(1_GiB, 2_GiB), MemoryKind::kUnaccepted}});
  const Prediction large = predicted({}, kModel, 1, {.chunk = 1_GiB, .largest = PageSize::k1G});
  EXPECT_EQ(large.pages_1g, 1U);
  EXPECT_EQ(large.time, predicted({}, kModel, 1).time);
}

TEST_F(AcceptanceCostTest, CountsEachPageTableOnce) {
  // 4 KiB pages in two large pages of one GiB, then large pages that reach into the next.
  memory({{range(0x1000, 0x3000), MemoryKind::kUnaccepted},
          {range(0x5000, 0x6000), MemoryKind::kUnaccepted},
          {range(0x20'1000, 0x20'2000), MemoryKind::kUnaccepted},
          {range(1022_MiB, 1026_MiB), MemoryKind::kUnaccepted}});
  EXPECT_EQ(predicted({}, kModel, 1).tables, 4_KiB * (2 + 2 + 1));
}

TEST_F(AcceptanceCostTest, MemoryBehindTheVmIsWhatWasAddedAndAcceptedAndItsTables) {
  memory({{range(0_MiB, 2_MiB), MemoryKind::kUsable},
          {range(2_MiB, 4_MiB), MemoryKind::kUnaccepted},
          {range(4_MiB, 6_MiB), MemoryKind::kReserved}});
  EXPECT_EQ(predicted({}, kModel, 1).backed, 4_MiB + 8_KiB);
  EXPECT_EQ(predicted({.scope = kAtLeast}, kModel, 1).backed, 2_MiB);
}

TEST_F(AcceptanceCostTest, AnEmptyPlanTakesNoTime) {
  vm(8_GiB);
  EXPECT_EQ(predicted({.scope = kAtLeast}, kModel, 4).time.value, 0U);
}

TEST_F(AcceptanceCostTest, ATimeThatCannotBeSaidIsTheLongest) {
  vm(8_GiB);
  const auto slow = CostModel::per_2m({~0ULL / 2});
  EXPECT_EQ(predicted({}, slow, 1).time.value, ~0ULL);
}

TEST_F(AcceptanceCostTest, MemoryThatCannotBeSaidIsTheMost) {
  memory({{range(0, 1ULL << 63), MemoryKind::kUsable},
          {range(1ULL << 63, ~0ULL << 12), MemoryKind::kUnaccepted}});
  EXPECT_EQ(predicted({}, kModel, 1).backed, Bytes{~0ULL});
}

TEST_F(AcceptanceCostTest, TheReportedModelsGiveTheReportedTimes) {
  memory({{range(0_GiB, 90_GiB), MemoryKind::kUnaccepted}});
  EXPECT_NEAR(static_cast<double>(predicted({}, kReportedTdx, 1).time.value), 60e9, 1e8);
  EXPECT_NEAR(static_cast<double>(predicted({}, kReportedTdx, 4).time.value), 40e9, 1e8);
  EXPECT_EQ(predicted({}, kReportedTdx, 32).time, predicted({}, kReportedTdx, 4).time);
  memory({{range(0_GiB, 128_GiB), MemoryKind::kUnaccepted}});
  EXPECT_NEAR(static_cast<double>(predicted({}, kReportedSnp, 1).time.value), 205e9, 1e8);
}

TEST_F(AcceptanceCostTest, AModelOfOneFigureSharesAllOfIt) {
  vm(8_GiB);
  const auto model = CostModel::per_2m({1'400'000});
  EXPECT_EQ(predicted({}, model, 1).time.value, 4096 * 1'400'000ULL);
  EXPECT_EQ(predicted({}, model, 8).time.value, 512 * 1'400'000ULL);
  EXPECT_EQ(model.page_4k.parallel.value, 1'400'000U / 512);
}

TEST_F(AcceptanceCostTest, WhatIsAcceptableWithinATimeIsPredictedToTakeNoLonger) {
  vm(64_GiB);
  for (const std::uint32_t cpus : {1U, 2U, 4U, 64U}) {
    for (const std::uint64_t limit : {kSecond, 7 * kSecond + 123'457}) {
      const Bytes most = acceptable_within({limit}, kReportedTdx, cpus);
      EXPECT_LE(predicted({.scope = kAtLeast, .at_least = most}, kReportedTdx, cpus).time.value,
                limit);
      EXPECT_GT(
          predicted({.scope = kAtLeast, .at_least = most + 4_MiB}, kReportedTdx, cpus).time.value,
          limit);
    }
  }
}

TEST_F(AcceptanceCostTest, AModelWithoutCostAcceptsAnythingInNoTime) {
  EXPECT_EQ(acceptable_within({0}, CostModel::per_2m({0}), 1), Bytes{~0ULL & ~0x1F'FFFFULL});
}

TEST_F(AcceptanceCostTest, Regression_K01_ATimeOutIsForeseenForEachPolicy) {
  vm(64_GiB);
  constexpr Nanoseconds kTimeOut{30 * kSecond};
  const Prediction everything = predicted({}, kReportedTdx, 1);
  const Prediction low = predicted({.scope = kBelow4G}, kReportedTdx, 1);
  const Prediction least = predicted({.scope = kAtLeast, .at_least = 256_MiB}, kReportedTdx, 1);
  EXPECT_GT(everything.time, kTimeOut);
  EXPECT_LT(low.time, kTimeOut);
  EXPECT_LT(least.time, low.time);
  // And with the memory that the host must find for it.
  EXPECT_GT(everything.backed, 64_GiB);
  EXPECT_GE(low.backed, 2_GiB);
  EXPECT_LT(low.backed, 2_GiB + 64_KiB);
  EXPECT_LT(least.backed, 257_MiB);
}

TEST_F(AcceptanceCostTest, Regression_K01_MoreCpusDoNotSaveAVmThatTheHostsLocksHoldUp) {
  vm(256_GiB);
  EXPECT_GT(predicted({}, kReportedTdx, 128).time.value, 60 * kSecond);
}

}  // namespace
}  // namespace accede::firmware
