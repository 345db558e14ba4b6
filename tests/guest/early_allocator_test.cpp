#include "accede/guest/early_allocator.hpp"

#include "accede/guest/acceptor.hpp"
#include "tests/guest/early_fixture.hpp"
#include "tests/guest/fake_platform.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace accede::guest {
namespace {

using test::FakePlatform;
using test::MapAndTable;
using test::pa;
using test::range_of;
using test::TestRam;
using testing::ElementsAre;

using TestAcceptor = Acceptor<FakePlatform>;
using Early = EarlyAllocator<TestAcceptor>;

/// 64 MiB: the first 16 accepted, the rest not; the table lies in the accepted part.
class EarlyAllocatorTest : public testing::Test {
 protected:
  static constexpr PhysAddr kTableAt{0x100008};

  std::vector<PhysRange> free_ranges(NodeId node = kAnyNode) {
    std::vector<PhysRange> list;
    early.ranges().for_each_free(node, [&](const EarlyRange& gap) { list.push_back(gap.range); });
    return list;
  }

  void add_all() {
    ASSERT_TRUE(early.add_memory(machine.map));
    ASSERT_TRUE(early.reserve_table(machine.table));
  }

  TestRam ram{64_MiB};
  MapAndTable machine{{{.range = range_of(4_KiB, 16_MiB), .kind = MemoryKind::kUsable},
                       {.range = range_of(16_MiB, 64_MiB), .kind = MemoryKind::kUnaccepted}},
                      ram,
                      kTableAt};
  FakePlatform platform;
  TestAcceptor acceptor{machine.table, platform};
  std::array<EarlyRange, 16> memory_storage{};
  std::array<EarlyRange, 16> reserved_storage{};
  Early early{acceptor, ram.window(), memory_storage, reserved_storage};
};

TEST_F(EarlyAllocatorTest, AcceptsTheUnitOfWhatItHandsOutAndNothingElse) {
  add_all();
  const auto got = early.allocate(64_KiB, 4_KiB, {.limits = range_of(40_MiB, 41_MiB)});
  ASSERT_TRUE(got);
  EXPECT_EQ(*got, range_of(41_MiB - 64_KiB, 41_MiB));
  EXPECT_THAT(platform.accepted_runs(), ElementsAre(range_of(40_MiB, 42_MiB)));
  EXPECT_TRUE(early.invariants());
}

TEST_F(EarlyAllocatorTest, AcceptsTheGuardUnitBehindARangeThatEndsOnAUnit) {
  add_all();
  ASSERT_TRUE(early.allocate(2_MiB, 2_MiB, {.limits = range_of(40_MiB, 42_MiB)}));
  EXPECT_THAT(platform.accepted_runs(), ElementsAre(range_of(40_MiB, 44_MiB)));
}

TEST_F(EarlyAllocatorTest, ReservingAcceptsNothing) {
  add_all();
  ASSERT_TRUE(early.reserve(range_of(32_MiB, 48_MiB)));
  EXPECT_EQ(platform.call_count(), 0U);
}

TEST_F(EarlyAllocatorTest, HandsOutFromTheTopOrFromTheBottom) {
  add_all();
  EXPECT_EQ(early.allocate(1_MiB, 1_MiB).value(), range_of(63_MiB, 64_MiB));
  const EarlyPlace bottom{.direction = Direction::kBottomUp};
  EXPECT_EQ(early.allocate(8_KiB, 8_KiB, bottom).value(), range_of(8_KiB, 16_KiB));
  EXPECT_EQ(early.allocate(1_B, 1_B, bottom).value(), range_of(4_KiB, 4097_B));
  EXPECT_EQ(early.allocate(1_B, 64_B, bottom).value().begin(), PhysAddr{4096 + 64});
}

TEST_F(EarlyAllocatorTest, NeverHandsOutAddressZero) {
  ASSERT_TRUE(early.add_memory(range_of(0_B, 8_KiB)));
  EXPECT_EQ(early.allocate(4_KiB, 1_B).value(), range_of(4_KiB, 8_KiB));
  EXPECT_EQ(early.allocate(1_B, 1_B).error().kind, EarlyErrorKind::kOutOfMemory);
}

TEST_F(EarlyAllocatorTest, KeepsEveryAlignmentUpToTheLargest) {
  add_all();
  for (unsigned shift = 0; shift < 64; ++shift) {
    for (const Direction direction : {Direction::kTopDown, Direction::kBottomUp}) {
      const Bytes align{std::uint64_t{1} << shift};
      const auto got = early.allocate(3_B, align, {.direction = direction});
      if (shift <= 25) {
        ASSERT_TRUE(got) << shift;
        EXPECT_TRUE(got->begin().is_aligned(align));
        ASSERT_TRUE(early.free(*got));
      } else {
        EXPECT_EQ(got.error().kind, EarlyErrorKind::kOutOfMemory) << shift;
      }
    }
  }
}

TEST_F(EarlyAllocatorTest, MemoryAtTheTopOfTheAddressSpaceIsMemory) {
  const PhysAddr last{std::numeric_limits<std::uint64_t>::max()};
  ASSERT_TRUE(early.add_memory(*PhysRange::make(PhysAddr{last.value() - 0xFFF}, last)));
  EXPECT_EQ(early.allocate(0x1000_B, 1_B).error().kind, EarlyErrorKind::kOutOfMemory);
  const EarlyPlace bottom{.direction = Direction::kBottomUp};
  EXPECT_EQ(early.allocate(1_B, 1_MiB, bottom).error().kind, EarlyErrorKind::kOutOfMemory);
  EXPECT_TRUE(early.allocate(0xFFF_B, 4_KiB, bottom));
}

TEST_F(EarlyAllocatorTest, StaysOnTheNodeThatWasAskedFor) {
  add_all();
  ASSERT_TRUE(early.assign_node(range_of(32_MiB, 128_MiB), NodeId{1}));
  const auto low = early.allocate(1_MiB, 4_KiB, {.node = NodeId{0}});
  EXPECT_EQ(low.value(), range_of(31_MiB, 32_MiB));
  EXPECT_EQ(early.allocate(1_MiB, 4_KiB, {.node = NodeId{1}}).value(), range_of(63_MiB, 64_MiB));
  EXPECT_EQ(early.allocate(32_MiB, 4_KiB, {.node = NodeId{1}}).error().kind,
            EarlyErrorKind::kOutOfMemory);
  EXPECT_EQ(early.allocate(1_B, 1_B, {.node = NodeId{2}}).error().kind,
            EarlyErrorKind::kOutOfMemory);
  EXPECT_THAT(free_ranges(NodeId{1}), ElementsAre(range_of(32_MiB, 63_MiB)));
  EXPECT_EQ(early.ranges().free_bytes(NodeId{1}), 31_MiB);
}

TEST_F(EarlyAllocatorTest, NodesOfNeighboursDoNotMergeAndEqualOnesDo) {
  ASSERT_TRUE(early.add_memory(range_of(1_MiB, 2_MiB), NodeId{0}));
  ASSERT_TRUE(early.add_memory(range_of(2_MiB, 3_MiB), NodeId{1}));
  ASSERT_TRUE(early.add_memory(range_of(3_MiB, 4_MiB), NodeId{0}));
  EXPECT_EQ(early.ranges().memory().entries().size(), 3U);
  EXPECT_EQ(early.allocate(2_MiB, 4_KiB).error().kind, EarlyErrorKind::kOutOfMemory);
  ASSERT_TRUE(early.assign_node(range_of(2_MiB, 3_MiB), NodeId{0}));
  EXPECT_THAT(early.ranges().memory().entries(),
              ElementsAre(EarlyRange{.range = range_of(1_MiB, 4_MiB)}));
  EXPECT_TRUE(early.invariants());
}

TEST_F(EarlyAllocatorTest, MemoryThatIsReportedOnTwoNodesIsAnError) {
  ASSERT_TRUE(early.add_memory(range_of(1_MiB, 4_MiB), NodeId{0}));
  EXPECT_TRUE(early.add_memory(range_of(2_MiB, 5_MiB), NodeId{0}));
  EXPECT_EQ(early.add_memory(range_of(3_MiB, 6_MiB), NodeId{1}).error().kind,
            EarlyErrorKind::kNodeConflict);
  EXPECT_THAT(early.ranges().memory().entries(),
              ElementsAre(EarlyRange{.range = range_of(1_MiB, 5_MiB)}));
}

TEST_F(EarlyAllocatorTest, ReservationsMayLieOutsideTheMemoryAndHoldWhenItComes) {
  ASSERT_TRUE(early.reserve(range_of(3_MiB, 5_MiB)));
  ASSERT_TRUE(early.add_memory(range_of(1_MiB, 4_MiB)));
  EXPECT_THAT(free_ranges(), ElementsAre(range_of(1_MiB, 3_MiB)));
}

TEST_F(EarlyAllocatorTest, FreeGivesBackAPartAndRefusesItTheSecondTime) {
  add_all();
  const PhysRange got = early.allocate(16_KiB, 4_KiB).value();
  const auto part = *PhysRange::make(got.begin() + 4_KiB, 4_KiB);
  ASSERT_TRUE(early.free(part));
  EXPECT_EQ(early.free(part).error().kind, EarlyErrorKind::kNotReserved);
  EXPECT_EQ(early.free(got).error().kind, EarlyErrorKind::kNotReserved);
  EXPECT_EQ(early.allocate(4_KiB, 4_KiB).value(), part);
  EXPECT_TRUE(early.free(got));
  EXPECT_TRUE(early.invariants());
}

TEST_F(EarlyAllocatorTest, AListNeverGrowsIntoWhatIsFreedByMistake) {
  EarlyRange reserved[1];
  Early tiny{acceptor, ram.window(), memory_storage, reserved};
  ASSERT_TRUE(tiny.add_memory(range_of(4_KiB, 8_KiB)));
  tiny.allow_growth();
  EXPECT_EQ(tiny.free(range_of(4_KiB, 8_KiB)).error().kind, EarlyErrorKind::kNotReserved);
  EXPECT_EQ(tiny.bookkeeping(), 0_B);
}

TEST_F(EarlyAllocatorTest, MemoryThatWasFreedIsNotAcceptedAgain) {
  add_all();
  ASSERT_TRUE(early.free(early.allocate(16_KiB, 4_KiB).value()));
  const std::size_t calls = platform.call_count();
  ASSERT_TRUE(early.allocate(16_KiB, 4_KiB));
  EXPECT_EQ(platform.call_count(), calls);
}

TEST_F(EarlyAllocatorTest, AFailedAcceptGivesTheMemoryBackAndSaysWhy) {
  add_all();
  const auto before = free_ranges();
  platform.fail_at(PhysAddr{0x3F00000}, FailureKind::kRefused, 0xC0DE);
  const auto got = early.allocate(1_MiB, 4_KiB);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, EarlyErrorKind::kAcceptFailed);
  EXPECT_EQ(got.error().accept.failure.status, 0xC0DEU);
  EXPECT_EQ(free_ranges(), before);
  EXPECT_EQ(early.allocate(1_MiB, 4_KiB).value(), range_of(63_MiB, 64_MiB));
  EXPECT_TRUE(platform.double_accepts().empty());
}

TEST_F(EarlyAllocatorTest, AFailedAcceptBetweenTwoReservationsNeedsNoRoomToGiveBack) {
  EarlyRange memory[1];
  EarlyRange reserved[2];
  Early tiny{acceptor, ram.window(), memory, reserved};
  ASSERT_TRUE(tiny.add_memory(range_of(32_MiB, 40_MiB)));
  ASSERT_TRUE(tiny.reserve(range_of(32_MiB, 35_MiB)));
  ASSERT_TRUE(tiny.reserve(range_of(36_MiB, 40_MiB)));
  platform.fail_after(0, FailureKind::kRefused, 1);
  EXPECT_EQ(tiny.allocate(1_MiB, 4_KiB).error().kind, EarlyErrorKind::kAcceptFailed);
  EXPECT_EQ(tiny.ranges().free_bytes(), 1_MiB);
  EXPECT_TRUE(tiny.invariants());
}

TEST_F(EarlyAllocatorTest, AFullListThatCannotGrowIsAnErrorAndChangesNothing) {
  EarlyRange memory[1];
  EarlyRange reserved[1];
  Early tiny{acceptor, ram.window(), memory, reserved};
  ASSERT_TRUE(tiny.add_memory(range_of(4_KiB, 8_MiB)));
  EXPECT_EQ(tiny.add_memory(range_of(9_MiB, 10_MiB)).error().kind, EarlyErrorKind::kNoRoom);
  EXPECT_EQ(tiny.assign_node(range_of(1_MiB, 2_MiB), NodeId{1}).error().kind,
            EarlyErrorKind::kNoRoom);
  const PhysRange got = tiny.allocate(12_KiB, 4_KiB).value();
  EXPECT_EQ(tiny.free(*PhysRange::make(got.begin() + 4_KiB, 4_KiB)).error().kind,
            EarlyErrorKind::kNoRoom);
  EXPECT_EQ(tiny.reserve(range_of(1_MiB, 2_MiB)).error().kind, EarlyErrorKind::kNoRoom);
  EXPECT_TRUE(tiny.free(got));
  EXPECT_TRUE(tiny.invariants());
}

TEST_F(EarlyAllocatorTest, AListThatCannotGrowForWantOfMemoryStillServesWhatNeedsNoRoom) {
  EarlyRange reserved[1];
  Early tiny{acceptor, ram.window(), memory_storage, reserved};
  tiny.allow_growth();
  ASSERT_TRUE(tiny.add_memory(range_of(4_KiB, 4_KiB + 64_B)));
  const PhysRange got = tiny.allocate(64_B, 1_B).value();
  EXPECT_EQ(tiny.allocate(1_B, 1_B).error().kind, EarlyErrorKind::kOutOfMemory);
  EXPECT_TRUE(tiny.free(got));
  EXPECT_EQ(tiny.bookkeeping(), 0_B);
}

TEST_F(EarlyAllocatorTest, GrowsOnlyWhenAllowedAndOnlyWhereTheWindowReaches) {
  EarlyRange memory[1];
  EarlyRange reserved[1];
  Early tiny{acceptor, ram.window(), memory, reserved};
  ASSERT_TRUE(tiny.add_memory(range_of(4_KiB, 64_MiB)));
  EXPECT_EQ(tiny.bookkeeping(), 0_B);
  tiny.allow_growth(range_of(0_B, 8_MiB));
  ASSERT_TRUE(tiny.reserve(range_of(60_MiB, 61_MiB)));
  EXPECT_GT(tiny.bookkeeping(), 0_B);
  const auto book = tiny.ranges().reserved().entries().front().range;
  EXPECT_EQ(book.end(), pa(8_MiB));
  EXPECT_TRUE(tiny.invariants());
}

TEST_F(EarlyAllocatorTest, AListDoesNotGrowIntoWhatIsJustBeingReserved) {
  EarlyRange reserved[1];
  Early tiny{acceptor, ram.window(), memory_storage, reserved};
  ASSERT_TRUE(tiny.add_memory(range_of(4_KiB, 64_MiB)));
  tiny.allow_growth();
  const PhysRange kernel = range_of(48_MiB, 64_MiB);
  ASSERT_TRUE(tiny.reserve(kernel));
  EXPECT_GT(tiny.bookkeeping(), 0_B);
  EXPECT_THAT(tiny.ranges().reserved().entries().back().range.end(), pa(64_MiB));
  EXPECT_EQ(tiny.ranges().free_bytes(), 64_MiB - 4_KiB - kernel.size() - tiny.bookkeeping());
}

TEST_F(EarlyAllocatorTest, Regression_L12_TheReservationOfTheTableCoversItsLastByte) {
  for (std::uint64_t offset = 0; offset < 2 * 4096; offset += 8) {
    const PhysAddr where{0x200000 + offset};
    MapAndTable other{
        {{.range = range_of(16_MiB, 64_MiB), .kind = MemoryKind::kUnaccepted}}, ram, where};
    std::array<EarlyRange, 4> memory{};
    std::array<EarlyRange, 4> reserved{};
    Early fresh{acceptor, ram.window(), memory, reserved};
    ASSERT_TRUE(fresh.add_memory(range_of(1_MiB, 4_MiB)));
    ASSERT_TRUE(fresh.reserve_table(other.table));
    ASSERT_EQ(fresh.ranges().reserved().entries().size(), 1U);
    const PhysRange kept = fresh.ranges().reserved().entries()[0].range;
    const PhysRange table = *PhysRange::make(where, Bytes{other.table.bytes().size()});
    EXPECT_TRUE(kept.contains(table));
    EXPECT_TRUE(kept.begin().is_aligned(4_KiB) && kept.end().is_aligned(4_KiB));
    EXPECT_EQ(kept.begin(), table.begin().align_down(4_KiB));
    EXPECT_EQ(kept.end(), table.end().align_up(4_KiB));
  }
}

TEST_F(EarlyAllocatorTest, WholePagesAreReservedAsTheyAre) {
  ASSERT_TRUE(early.reserve_pages(range_of(4_KiB, 8_KiB)));
  EXPECT_THAT(early.ranges().reserved().entries(),
              ElementsAre(EarlyRange{.range = range_of(4_KiB, 8_KiB)}));
}

TEST_F(EarlyAllocatorTest, ReservingATableThatIsNotThereReservesNothing) {
  const UnacceptedTable none;
  ASSERT_TRUE(early.reserve_table(none));
  EXPECT_TRUE(early.ranges().reserved().entries().empty());
}

TEST_F(EarlyAllocatorTest, Regression_L15_TheMemoryOfItsOwnListsIsAccepted) {
  EarlyRange memory[1];
  EarlyRange reserved[1];
  Early tiny{acceptor, ram.window(), memory, reserved};
  // Only unaccepted memory, so that a list which is not accepted would be seen.
  ASSERT_TRUE(tiny.add_memory(range_of(16_MiB, 64_MiB)));
  tiny.allow_growth();
  std::vector<PhysRange> odd;
  for (int i = 0; i < 300; ++i) {
    const PhysRange pair = tiny.allocate(8_KiB, 8_KiB).value();
    ASSERT_TRUE(tiny.free(*PhysRange::make(pair.begin(), 4_KiB)));
    odd.push_back(*PhysRange::make(pair.begin() + 4_KiB, 4_KiB));
  }
  for (unsigned i = 0; i < 100; ++i) {
    ASSERT_TRUE(
        tiny.assign_node(*PhysRange::make(pa(17_MiB) + 64_KiB * i, 32_KiB), NodeId{i % 7 + 1}));
  }
  EXPECT_TRUE(tiny.invariants());
  for (const RangeList* list : {&tiny.ranges().memory(), &tiny.ranges().reserved()}) {
    const PhysAddr at = ram.window().address(list->entries().data());
    const Bytes bytes{list->capacity() * sizeof(EarlyRange)};
    EXPECT_TRUE(
        platform.accepted(*PhysRange::make(at.align_down(4_KiB), (at + bytes).align_up(4_KiB))));
    EXPECT_TRUE(tiny.ranges().reserved().overlaps(*PhysRange::make(at, bytes)));
  }
  EXPECT_TRUE(platform.double_accepts().empty());
  // Old lists were given back: what is reserved is the pages and the two lists of today.
  Bytes reserved_bytes;
  for (const EarlyRange& entry : tiny.ranges().reserved().entries()) {
    reserved_bytes += entry.range.size();
  }
  EXPECT_EQ(reserved_bytes, 4_KiB * odd.size() + tiny.bookkeeping());
}

TEST_F(EarlyAllocatorTest, Regression_L15_AListWhoseMemoryIsNotAcceptedIsNotUsed) {
  EarlyRange reserved[2];
  Early tiny{acceptor, ram.window(), memory_storage, reserved};
  ASSERT_TRUE(tiny.add_memory(range_of(16_MiB, 64_MiB)));
  tiny.allow_growth();
  platform.fail_after(0, FailureKind::kAlreadyAccepted, 7);
  const auto done = tiny.reserve(range_of(20_MiB, 21_MiB));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, EarlyErrorKind::kAcceptFailed);
  EXPECT_EQ(done.error().accept.failure.kind, FailureKind::kAlreadyAccepted);
  EXPECT_EQ(tiny.bookkeeping(), 0_B);
  EXPECT_TRUE(tiny.ranges().reserved().entries().empty());
  platform.fail_after(0, FailureKind::kRefused, 7);
  EXPECT_EQ(tiny.allocate(4_KiB, 4_KiB).error().kind, EarlyErrorKind::kAcceptFailed);
  platform.fail_after(0, FailureKind::kRefused, 7);
  EXPECT_EQ(tiny.add_memory(range_of(1_MiB, 2_MiB)).error().kind, EarlyErrorKind::kAcceptFailed);
}

TEST_F(EarlyAllocatorTest, Regression_L06_WhatItHandsOutIsAlwaysAccepted) {
  add_all();
  early.allow_growth();
  platform.assume_accepted(range_of(0_B, 16_MiB));
  while (const auto got = early.allocate(1_MiB + 4_KiB, 64_KiB)) {
    EXPECT_TRUE(platform.accepted(
        *PhysRange::make(got->begin().align_down(4_KiB), got->end().align_up(4_KiB))));
  }
  EXPECT_TRUE(platform.double_accepts().empty());
}

TEST_F(EarlyAllocatorTest, Regression_L18_AcceptsOnlyTheUnitsOfWhatIsUsed) {
  add_all();
  for (int i = 0; i < 256; ++i) {
    ASSERT_TRUE(early.allocate(4_KiB, 4_KiB));
  }
  EXPECT_EQ(platform.accepted_bytes(), 2_MiB);
}

TEST_F(EarlyAllocatorTest, ThePageAllocatorTakesWhatIsFree) {
  ASSERT_TRUE(early.add_memory(range_of(1_MiB, 4_MiB), NodeId{0}));
  ASSERT_TRUE(early.add_memory(range_of(4_MiB, 8_MiB), NodeId{1}));
  ASSERT_TRUE(early.reserve(range_of(2_MiB, 3_MiB)));
  ASSERT_TRUE(early.reserve(range_of(7_MiB, 9_MiB)));
  EXPECT_THAT(free_ranges(),
              ElementsAre(range_of(1_MiB, 2_MiB), range_of(3_MiB, 4_MiB), range_of(4_MiB, 7_MiB)));
  EXPECT_THAT(free_ranges(NodeId{0}), ElementsAre(range_of(1_MiB, 2_MiB), range_of(3_MiB, 4_MiB)));
  EXPECT_EQ(early.ranges().free_bytes(), 5_MiB);
}

TEST_F(EarlyAllocatorTest, EmptyRangesChangeNothing) {
  add_all();
  const auto before = free_ranges();
  const PhysRange nothing = range_of(5_MiB, 5_MiB);
  EXPECT_TRUE(early.reserve(nothing));
  EXPECT_TRUE(early.reserve_pages(nothing));
  EXPECT_TRUE(early.free(nothing));
  EXPECT_TRUE(early.add_memory(nothing));
  EXPECT_TRUE(early.assign_node(nothing, NodeId{9}));
  EXPECT_EQ(free_ranges(), before);
}

TEST_F(EarlyAllocatorTest, WrongRequestsAreBugsOfTheCaller) {
  add_all();
  EXPECT_DEATH(static_cast<void>(early.allocate(0_B, 1_B)), "");
  EXPECT_DEATH(static_cast<void>(early.allocate(1_B, 0_B)), "");
  EXPECT_DEATH(static_cast<void>(early.allocate(1_B, 3_B)), "");
}

TEST(EarlyErrorText, EveryErrorHasOneLine) {
  std::set<std::string_view> texts;
  for (const auto kind :
       {EarlyErrorKind::kOutOfMemory, EarlyErrorKind::kNoRoom, EarlyErrorKind::kNodeConflict,
        EarlyErrorKind::kNotReserved, EarlyErrorKind::kAcceptFailed}) {
    EXPECT_EQ(to_string(kind).find('\n'), std::string_view::npos);
    texts.insert(to_string(kind));
  }
  EXPECT_EQ(texts.size(), 5U);
  EXPECT_FALSE(texts.contains(to_string(static_cast<EarlyErrorKind>(99))));
}

}  // namespace
}  // namespace accede::guest
