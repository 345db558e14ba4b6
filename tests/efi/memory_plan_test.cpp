// What the firmware accepts of a memory map that a test makes up, and what it leaves.
#include "accede/efi/memory_plan.hpp"

#include "tests/efi/fake_firmware.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace accede::efi {
namespace {

using abi::efi::MemoryType;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;
using enum firmware::AcceptanceScope;
using test::FakeFirmware;

constexpr std::uint64_t kMiB = 1U << 20;
constexpr std::uint64_t k4GiB = 1ULL << 32;

PhysRange mib(std::uint64_t begin, std::uint64_t end) {
  return *PhysRange::make(PhysAddr{begin * kMiB}, PhysAddr{end * kMiB});
}

class MemoryPlanTest : public ::testing::Test {
 protected:
  MemoryPlanTest() {
    fake_.add(MemoryType::kBootServicesCode, 0, 0x1000);
    fake_.add(MemoryType::kConventional, 0x1000, 0xA'0000);
    fake_.add(MemoryType::kConventional, 1 * kMiB, 8 * kMiB);
    fake_.add(MemoryType::kAcpiNvs, 8 * kMiB, 9 * kMiB);
    fake_.add(MemoryType::kConventional, 9 * kMiB, 1001 * kMiB);
    fake_.add(MemoryType::kBootServicesData, 1001 * kMiB, 1023 * kMiB);
    fake_.add(MemoryType::kRuntimeServicesData, 1023 * kMiB, 1024 * kMiB);
    fake_.add(MemoryType::kConventional, k4GiB, k4GiB + 1024 * kMiB);
  }
  MemoryPlan plan(FirmwareGoal goal) {
    const auto ram = survey_ram(firmware_);
    EXPECT_TRUE(ram);
    const auto made = plan_memory(firmware_, ram.value_or(RangeList{}), goal);
    EXPECT_TRUE(made) << (made ? "" : made.error().what);
    return made.value_or(MemoryPlan{});
  }
  MemoryPlan at_least(std::uint64_t mebibytes, std::uint64_t room = 0) {
    return plan({.scope = kAtLeast,
                 .at_least = Bytes{mebibytes * kMiB},
                 .loader_room = Bytes{room * kMiB}});
  }
  /// Usable once the firmware has followed `plan`, fringes of used memory and all.
  static Bytes usable(const MemoryPlan& plan) {
    // ACPI and runtime memory, the legacy hole's page is not listed.
    return plan.ram.size() - plan.left.size() - Bytes{2 * kMiB};
  }

  FakeFirmware fake_;
  Firmware firmware_ = fake_.firmware();
};

TEST_F(MemoryPlanTest, BelowFourGigabytesLeavesWhatIsAbove) {
  const MemoryPlan made = plan({.scope = kBelow4G, .at_least = {}, .loader_room = {}});
  EXPECT_THAT(made.pending.view(), ElementsAre(mib(4096, 5120)));
  EXPECT_THAT(made.accepted.view(), IsEmpty());
  EXPECT_THAT(made.left.view(), ElementsAreArray(made.pending.view()));
}

TEST_F(MemoryPlanTest, EverythingLeavesNothing) {
  const MemoryPlan made = plan({.scope = kEverything, .at_least = {}, .loader_room = {}});
  EXPECT_THAT(made.pending.view(), ElementsAre(mib(4096, 5120)));
  EXPECT_THAT(made.accepted.view(), ElementsAreArray(made.pending.view()));
  EXPECT_THAT(made.left.view(), IsEmpty());
}

TEST_F(MemoryPlanTest, AtLeastAcceptsFromTheLowestAddressOnAndLeavesMemoryBelowFourGigabytes) {
  const MemoryPlan made = at_least(256);
  EXPECT_THAT(made.pending.view(), ElementsAre(mib(2, 8), mib(10, 1000), mib(4096, 5120)))
      << "whole large pages of what is free";
  ASSERT_EQ(made.accepted.view().size(), 2U);
  EXPECT_EQ(made.accepted.view()[0], mib(2, 8));
  EXPECT_EQ(made.accepted.view()[1].begin(), PhysAddr{10 * kMiB});
  EXPECT_GE(usable(made), Bytes{256 * kMiB});
  EXPECT_LT(usable(made), Bytes{258 * kMiB}) << "what was in use counts";
  EXPECT_THAT(made.left.view(),
              ElementsAre(*PhysRange::make(made.accepted.view()[1].end(), PhysAddr{1000 * kMiB}),
                          mib(4096, 5120)));
}

TEST_F(MemoryPlanTest, TheLoadersRoomIsTheHighestBelowFourGigabytesAndDoesNotCount) {
  const MemoryPlan made = at_least(256, 100);
  ASSERT_EQ(made.accepted.view().size(), 3U);
  EXPECT_EQ(made.accepted.view()[2], mib(900, 1000));
  EXPECT_GE(usable(made), Bytes{356 * kMiB});
}

TEST_F(MemoryPlanTest, TheLoadersRoomIsTheLargestPieceWhereNoneIsLargeEnough) {
  EXPECT_THAT(at_least(1, 2000).accepted.view(), ElementsAre(mib(10, 1000)));
}

TEST_F(MemoryPlanTest, ASmallPieceAboveTheRoomIsLeft) {
  fake_.map[4].number_of_pages -= 512;  // 9 to 999 MiB
  fake_.add(MemoryType::kRuntimeServicesCode, 999 * kMiB, 1000 * kMiB);
  fake_.add(MemoryType::kConventional, 1024 * kMiB, 1030 * kMiB);
  const MemoryPlan made = at_least(1, 100);
  EXPECT_THAT(made.accepted.view(), ElementsAre(mib(898, 998)));
}

TEST_F(MemoryPlanTest, AtLeastMoreThanThereIsAcceptsEverything) {
  const MemoryPlan made = at_least(100'000);
  EXPECT_THAT(made.accepted.view(), ElementsAreArray(made.pending.view()));
  EXPECT_THAT(made.left.view(), IsEmpty());
}

TEST_F(MemoryPlanTest, AtLeastGoesOnAboveFourGigabytes) {
  const MemoryPlan made = at_least(1500);
  ASSERT_EQ(made.left.view().size(), 1U);
  EXPECT_GT(made.left.view()[0].begin(), PhysAddr{k4GiB + 470 * kMiB});
  EXPECT_EQ(made.left.view()[0].end(), PhysAddr{k4GiB + 1024 * kMiB});
}

TEST_F(MemoryPlanTest, AcceptedAndLeftArePendingAndNothingElse) {
  for (std::uint64_t wanted = 0; wanted < 2100; wanted += 37) {
    const MemoryPlan made = at_least(wanted, wanted % 200);
    RangeList both = made.accepted;
    for (const PhysRange range : made.left.view()) {
      ASSERT_TRUE(both.add(range));
    }
    EXPECT_THAT(both.view(), ElementsAreArray(made.pending.view())) << wanted;
  }
}

TEST_F(MemoryPlanTest, NeverTakesWhatIsInUseWhateverTheOrderOfTheMap) {
  std::ranges::reverse(fake_.map);
  const MemoryPlan made = at_least(0);
  EXPECT_THAT(made.pending.view(), ElementsAre(mib(2, 8), mib(10, 1000), mib(4096, 5120)));
  EXPECT_THAT(made.ram.view(), ElementsAre(*PhysRange::make(PhysAddr{}, PhysAddr{0xA'0000}),
                                           mib(1, 1024), mib(4096, 5120)));
}

TEST_F(MemoryPlanTest, WhatTheFirmwareTakesWhileMemoryIsClaimedIsNotPending) {
  fake_.map.pop_back();  // what is claimed here is really allocated: little
  const MemoryPlan made = at_least(1018);
  ASSERT_THAT(made.left.view(), ElementsAre(mib(998, 1000)));
  fake_.map[4].number_of_pages -= 4 * 256;  // 9 to 997 MiB
  fake_.add(MemoryType::kBootServicesData, 997 * kMiB, 998 * kMiB);
  const auto claimed = claim_left(firmware_, made);
  ASSERT_TRUE(claimed);
  EXPECT_THAT(claimed->accepted.view(), ElementsAre(mib(2, 8), mib(10, 997)));
  EXPECT_THAT(claimed->left.view(), ElementsAreArray(made.left.view()));
  EXPECT_THAT(claimed->pending.view(), ElementsAre(mib(2, 8), mib(10, 997), mib(998, 1000)));
}

TEST_F(MemoryPlanTest, RefusesAMapThatContradictsItself) {
  fake_.add(MemoryType::kBootServicesData, k4GiB, k4GiB + kMiB);
  const auto ram = survey_ram(firmware_);
  const auto made = plan_memory(firmware_, ram.value_or(RangeList{}), {});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().what, guest::to_string(guest::MapErrorKind::kOverlap));
}

TEST_F(MemoryPlanTest, RefusesAMapWithMorePiecesThanTheEmulatorTakes) {
  for (std::uint64_t i = 0; i < 70; ++i) {
    fake_.add(MemoryType::kConventional, 2 * k4GiB + 2 * i * kMiB, 2 * k4GiB + (2 * i + 1) * kMiB);
  }
  const auto ram = survey_ram(firmware_);
  ASSERT_FALSE(ram);
  EXPECT_NE(ram.error().what.find("more scattered"), std::string_view::npos);
}

TEST(RangeListTest, KeepsItsRangesSortedAndMergesNeighbours) {
  RangeList list;
  EXPECT_TRUE(list.empty());
  for (const PhysRange range : {mib(8, 10), mib(2, 4), mib(20, 30), mib(4, 8)}) {
    ASSERT_TRUE(list.add(range));
  }
  EXPECT_THAT(list.view(), ElementsAre(mib(2, 10), mib(20, 30)));
  EXPECT_EQ(list.size(), Bytes{18 * kMiB});
}

TEST(RangeListTest, SaysWhenItIsFull) {
  RangeList list;
  for (std::uint64_t i = 0; i < emulator::LaunchInfo::kMaxRanges; ++i) {
    ASSERT_TRUE(list.add(mib(2 * i, 2 * i + 1)));
  }
  EXPECT_FALSE(list.add(mib(1000, 1001)));
  EXPECT_TRUE(list.add(mib(1, 2))) << "joins two";
  EXPECT_TRUE(list.add(mib(1000, 1001)));
}

}  // namespace
}  // namespace accede::efi
