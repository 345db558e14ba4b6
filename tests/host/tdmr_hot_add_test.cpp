// Memory that is added when the TDMRs are fixed.
#include "accede/host/tdmr_hot_add.hpp"
#include "tests/host/tdmr_fixture.hpp"

#include <gtest/gtest.h>

namespace accede::host {
namespace {

using test::between;
using test::cmr;
using test::ram;
using test::TdmrHost;

constexpr std::uint64_t kOutsideStatus = 0xC000'0101'0000'0008;
constexpr std::uint64_t kReservedStatus = 0xC000'0300'0000'0008;

/// A TDMR of [4 GiB, 6 GiB) whose last 512 MiB are no convertible memory.
class TdmrHotAdd : public testing::Test {
 protected:
  TdmrHotAdd() {
    host_.memory = {ram(between(4_GiB, 5_GiB + 512_MiB))};
    host_.convert_everything();
    tdmrs_ = host_.plan().tdmrs;
  }
  [[nodiscard]] HotAddAnswer judge(PhysRange range,
                                   TdmrPromise promise = TdmrPromise::kEveryPage) const {
    return judge_hot_add(tdmrs_, promise, range);
  }

 private:
  TdmrHost host_;
  std::span<const PlannedTdmr> tdmrs_;
};

TEST_F(TdmrHotAdd, MemoryInsideATdmrIsUsable) {
  const HotAddAnswer answer = judge(between(4_GiB, 5_GiB));
  EXPECT_EQ(answer.outcome, HotAddOutcome::kUsable);
  EXPECT_EQ(answer.usable, 1_GiB);
  EXPECT_EQ(answer.aug_status, 0U);
}

TEST_F(TdmrHotAdd, MemoryOutsideEveryTdmrIsRefused) {
  const HotAddAnswer answer = judge(between(8_GiB, 9_GiB));
  EXPECT_EQ(answer.outcome, HotAddOutcome::kRefused);
  EXPECT_EQ(answer.outside, 1_GiB);
  EXPECT_EQ(answer.aug_status, kOutsideStatus);
  EXPECT_EQ(answer.first_bad, PhysAddr{8ULL << 30});
}

TEST_F(TdmrHotAdd, AHostThatChecksAfterwardsLosesATdToIt) {
  EXPECT_EQ(judge(between(8_GiB, 9_GiB), TdmrPromise::kBestEffort).outcome,
            HotAddOutcome::kKillsTd);
  EXPECT_EQ(judge(between(4_GiB, 5_GiB), TdmrPromise::kBestEffort).outcome, HotAddOutcome::kUsable);
}

TEST_F(TdmrHotAdd, AReservedAreaHasNoMetadataForIt) {
  const HotAddAnswer answer = judge(between(5_GiB + 512_MiB, 6_GiB));
  EXPECT_EQ(answer.outcome, HotAddOutcome::kRefused);
  EXPECT_EQ(answer.reserved, 512_MiB);
  EXPECT_EQ(answer.aug_status, kReservedStatus);
}

TEST_F(TdmrHotAdd, TheFirstPageThatFailsDecidesTheStatus) {
  const HotAddAnswer answer = judge(between(5_GiB, 7_GiB));
  EXPECT_EQ(answer.aug_status, kReservedStatus);
  EXPECT_EQ(answer.usable + answer.reserved, 1_GiB);
  EXPECT_EQ(answer.outside, 1_GiB);
  EXPECT_EQ(answer.first_bad, PhysAddr{5ULL << 30} + answer.usable);
  EXPECT_EQ(judge(between(3_GiB, 7_GiB)).aug_status, kOutsideStatus);
}

TEST_F(TdmrHotAdd, PartialPagesDoNotCount) {
  const HotAddAnswer answer = judge(between((8ULL << 30) + 1, (8ULL << 30) + 4095));
  EXPECT_EQ(answer.outcome, HotAddOutcome::kUsable);
  EXPECT_EQ(answer.usable, Bytes{});
  EXPECT_EQ(judge(between(~0ULL - 9000, ~0ULL)).outside, 4_KiB);
}

}  // namespace
}  // namespace accede::host
