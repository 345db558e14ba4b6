#include "accede/guest/zone.hpp"

#include "tests/guest/allocator_fixture.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace accede::guest {
namespace {

using test::area;

constexpr Order kUnit{9};

/// A zone with its storage, empty.
struct OwnedZone {
  explicit OwnedZone(PhysRange span, std::byte garbage = std::byte{0xA5})
      : metadata(Zone::metadata_bytes(span).value(), garbage) {
    zone.open(span, 0, metadata);
    zone.prepare(span);
  }
  /// Adds the block of `order` at `at`.
  void add(Bytes at, Order order, PageState state) {
    zone.add({.frame = frame(at), .order = order}, state);
  }
  [[nodiscard]] Frame frame(Bytes at) const { return zone.frame_of(PhysAddr{at.value()}); }
  [[nodiscard]] BlockHead head(Bytes at) const { return zone.info(frame(at)).head(); }

  std::vector<std::byte> metadata;
  Zone zone;
};

BlockHead head(PageState state, unsigned order) {
  return {.state = state, .order = Order{order}};
}

TEST(Zone, NeedsTwelveBytesForEveryPageOfItsSpan) {
  EXPECT_EQ(Zone::metadata_bytes(area(4_MiB, 4_MiB)), Bytes{12 * 1024});
  EXPECT_EQ(Zone::metadata_bytes(area(4_MiB, 4_KiB)), Bytes{12});
  EXPECT_EQ(Zone::metadata_bytes(PhysRange{}), Bytes{0});
}

TEST(Zone, NeedsThemAlsoFromTheLargestBlockThatBeginsBeforeIt) {
  EXPECT_EQ(Zone::metadata_bytes(area(5_MiB, 1_MiB)), Bytes{12 * 512});
}

TEST(Zone, SplittingABlockLeavesItsUpperHalvesFree) {
  OwnedZone owned{area(4_MiB, 4_MiB)};
  owned.add(4_MiB, kMaxOrder, PageState::kFree);
  EXPECT_EQ(owned.zone.take(Order{0}), owned.frame(4_MiB));
  EXPECT_EQ(owned.head(4_MiB), head(PageState::kAllocated, 0));
  for (unsigned order = 0; order < 10; ++order) {
    EXPECT_EQ(owned.head(4_MiB + Order{order}.bytes()), head(PageState::kFree, order));
  }
  EXPECT_EQ(owned.zone.counters().free, PageCount{1023});
  EXPECT_TRUE(owned.zone.invariants());
}

TEST(Zone, PagesTakenOneByOneAscend) {
  OwnedZone owned{area(0_MiB, 4_MiB)};
  owned.add(0_MiB, kMaxOrder, PageState::kFree);
  for (std::uint32_t i = 0; i < 1024; ++i) {
    EXPECT_EQ(owned.zone.take(Order{0}), Frame{i});
  }
  EXPECT_EQ(owned.zone.take(Order{0}), std::nullopt);
}

TEST(Zone, FreedPagesMergeToTheBlockTheyCameFrom) {
  OwnedZone owned{area(0_MiB, 4_MiB)};
  owned.add(0_MiB, kMaxOrder, PageState::kFree);
  while (owned.zone.take(Order{0})) {
  }
  for (std::uint32_t i = 0; i < 1024; ++i) {
    owned.zone.put({.frame = Frame{i * 7 % 1024}, .order = Order{0}});
    ASSERT_TRUE(owned.zone.invariants()) << i;
  }
  EXPECT_EQ(owned.head(0_MiB), head(PageState::kFree, 10));
  EXPECT_EQ(owned.zone.counters().free, PageCount{1024});
}

TEST(Zone, AFreeBlockDoesNotMergeWithItsUnacceptedBuddy) {
  OwnedZone owned{area(0_MiB, 4_MiB)};
  owned.add(0_MiB, kUnit, PageState::kFree);
  owned.add(2_MiB, kUnit, PageState::kUnaccepted);
  EXPECT_EQ(owned.head(0_MiB), head(PageState::kFree, 9));
  EXPECT_EQ(owned.head(2_MiB), head(PageState::kUnaccepted, 9));
  EXPECT_EQ(owned.zone.take(kMaxOrder), std::nullopt);
}

TEST(Zone, UnacceptedBuddiesDoNotMergeEither) {
  OwnedZone owned{area(0_MiB, 4_MiB)};
  owned.add(0_MiB, kUnit, PageState::kUnaccepted);
  owned.add(2_MiB, kUnit, PageState::kUnaccepted);
  EXPECT_EQ(owned.head(0_MiB), head(PageState::kUnaccepted, 9));
  EXPECT_EQ(owned.head(2_MiB), head(PageState::kUnaccepted, 9));
}

TEST(Zone, AnAcceptedBlockMergesWithItsFreeBuddy) {
  OwnedZone owned{area(0_MiB, 4_MiB)};
  owned.add(0_MiB, kUnit, PageState::kFree);
  owned.add(2_MiB, kUnit, PageState::kUnaccepted);
  owned.zone.accepted(*owned.zone.take_unaccepted(kUnit, ZoneEnd::kTop));
  EXPECT_EQ(owned.head(0_MiB), head(PageState::kFree, 10));
  EXPECT_EQ(owned.zone.counters().accepting, PageCount{0});
  EXPECT_TRUE(owned.zone.invariants());
}

TEST(Zone, SplittingAnUnacceptedBlockLeavesTheRestUnaccepted) {
  OwnedZone owned{area(0_MiB, 4_MiB)};
  owned.add(0_MiB, kMaxOrder, PageState::kUnaccepted);
  const auto block = owned.zone.take_unaccepted(Order{7}, ZoneEnd::kTop);
  EXPECT_EQ(block, (Block{.frame = owned.frame(3584_KiB), .order = Order{7}}));
  EXPECT_EQ(owned.head(3584_KiB), head(PageState::kAccepting, 7));
  EXPECT_EQ(owned.head(3072_KiB), head(PageState::kUnaccepted, 7));
  EXPECT_EQ(owned.head(2048_KiB), head(PageState::kUnaccepted, 8));
  EXPECT_EQ(owned.head(0_KiB), head(PageState::kUnaccepted, 9));
  EXPECT_EQ(owned.zone.counters().unaccepted, PageCount{896});
  EXPECT_EQ(owned.zone.counters().accepting, PageCount{128});
  EXPECT_TRUE(owned.zone.invariants());
}

TEST(Zone, UnacceptedMemoryIsTakenDownwardsFromTheTop) {
  OwnedZone owned{area(0_MiB, 12_MiB)};
  for (const Bytes at : {0_MiB, 4_MiB, 8_MiB}) {
    owned.add(at, kMaxOrder, PageState::kUnaccepted);
  }
  for (const Bytes at : {10_MiB, 8_MiB, 6_MiB, 4_MiB, 2_MiB, 0_MiB}) {
    EXPECT_EQ(owned.zone.take_unaccepted(kUnit, ZoneEnd::kTop)->frame, owned.frame(at));
  }
  EXPECT_FALSE(owned.zone.has_unaccepted());
}

TEST(Zone, UnacceptedMemoryIsTakenUpwardsFromTheBottom) {
  OwnedZone owned{area(0_MiB, 12_MiB)};
  for (const Bytes at : {0_MiB, 4_MiB, 8_MiB}) {
    owned.add(at, kMaxOrder, PageState::kUnaccepted);
  }
  for (const Bytes at : {0_MiB, 2_MiB, 4_MiB, 6_MiB, 8_MiB, 10_MiB}) {
    EXPECT_EQ(owned.zone.take_unaccepted(kUnit, ZoneEnd::kBottom)->frame, owned.frame(at));
  }
  EXPECT_FALSE(owned.zone.has_unaccepted());
}

TEST(Zone, WhatOneEndCutOffIsLeftForThatEnd) {
  OwnedZone owned{area(0_MiB, 16_MiB)};
  for (const Bytes at : {0_MiB, 4_MiB, 8_MiB, 12_MiB}) {
    owned.add(at, kMaxOrder, PageState::kUnaccepted);
  }
  for (const Bytes at : {0_MiB, 2_MiB, 4_MiB}) {
    EXPECT_EQ(owned.zone.take_unaccepted(kUnit, ZoneEnd::kTop)->frame, owned.frame(14_MiB - at));
    EXPECT_EQ(owned.zone.take_unaccepted(kUnit, ZoneEnd::kBottom)->frame, owned.frame(at));
  }
}

TEST(Zone, GivesTheLargestUnacceptedBlockWhenNoneIsLargeEnough) {
  OwnedZone owned{area(0_MiB, 4_MiB)};
  owned.add(0_KiB, Order{3}, PageState::kUnaccepted);
  owned.add(2_MiB, Order{8}, PageState::kUnaccepted);
  EXPECT_EQ(owned.zone.take_unaccepted(kMaxOrder, ZoneEnd::kTop),
            (Block{.frame = owned.frame(2_MiB), .order = Order{8}}));
  EXPECT_EQ(owned.zone.take_unaccepted(kMaxOrder, ZoneEnd::kTop),
            (Block{.frame = owned.frame(0_MiB), .order = Order{3}}));
}

TEST(Zone, ABlockThatCouldNotBeAcceptedStaysUnacceptedMemory) {
  OwnedZone owned{area(0_MiB, 4_MiB)};
  owned.add(0_MiB, kMaxOrder, PageState::kUnaccepted);
  const auto block = owned.zone.take_unaccepted(kUnit, ZoneEnd::kTop);
  owned.zone.not_accepted(*block, ZoneEnd::kTop);
  EXPECT_EQ(owned.head(2_MiB), head(PageState::kRefused, 9));
  EXPECT_EQ(owned.zone.counters().unaccepted, PageCount{1024});
  EXPECT_EQ(owned.zone.counters().accepting, PageCount{0});
  EXPECT_TRUE(owned.zone.invariants());
}

TEST(Zone, ABlockThatCouldNotBeAcceptedIsTriedAfterAllOthers) {
  OwnedZone owned{area(0_MiB, 8_MiB)};
  owned.add(0_MiB, kMaxOrder, PageState::kUnaccepted);
  owned.add(4_MiB, kMaxOrder, PageState::kUnaccepted);
  owned.zone.not_accepted(*owned.zone.take_unaccepted(kUnit, ZoneEnd::kTop), ZoneEnd::kTop);
  for (const Bytes at : {4_MiB, 2_MiB, 0_MiB, 6_MiB}) {
    EXPECT_EQ(owned.zone.take_unaccepted(kUnit, ZoneEnd::kTop)->frame, owned.frame(at));
  }
}

TEST(Zone, RefusedBlocksTakeTurns) {
  OwnedZone owned{area(0_MiB, 4_MiB)};
  owned.add(0_MiB, kUnit, PageState::kUnaccepted);
  owned.add(2_MiB, kUnit, PageState::kUnaccepted);
  for (const Bytes at : {2_MiB, 0_MiB, 2_MiB, 0_MiB}) {
    const auto block = owned.zone.take_unaccepted(kUnit, ZoneEnd::kTop);
    EXPECT_EQ(block->frame, owned.frame(at));
    owned.zone.not_accepted(*block, ZoneEnd::kTop);
  }
}

// The storage is full of words that read as free blocks of two pages.
TEST(Zone, DoesNotMergeWithMemoryBeforeItsSpan) {
  OwnedZone owned{area(6_MiB + 8_KiB, 8_KiB), std::byte{1}};
  owned.add(6_MiB + 8_KiB, Order{1}, PageState::kFree);
  EXPECT_EQ(owned.head(6_MiB + 8_KiB), head(PageState::kFree, 1));
  EXPECT_TRUE(owned.zone.invariants());
}

TEST(Zone, DoesNotMergeBeyondItsEnd) {
  OwnedZone owned{area(0_MiB, 3_MiB)};
  owned.add(2_MiB, Order{8}, PageState::kFree);
  EXPECT_EQ(owned.head(2_MiB), head(PageState::kFree, 8));
  EXPECT_TRUE(owned.zone.invariants());
}

TEST(Zone, FindsTheBlockOfAnyOfItsPages) {
  OwnedZone owned{area(0_MiB, 4_MiB)};
  owned.add(0_MiB, kMaxOrder, PageState::kFree);
  ASSERT_TRUE(owned.zone.take(Order{3}));
  const Block expected{.frame = owned.frame(2_MiB), .order = Order{9}};
  EXPECT_EQ(owned.zone.block_of(owned.frame(2_MiB)), expected);
  EXPECT_EQ(owned.zone.block_of(owned.frame(3_MiB)), expected);
  EXPECT_EQ(owned.zone.block_of(owned.frame(4092_KiB)), expected);
  EXPECT_EQ(owned.zone.block_of(owned.frame(28_KiB)),
            (Block{.frame = owned.frame(0_MiB), .order = Order{3}}));
}

TEST(Zone, ARangeWithAHoleIsNotAllFree) {
  OwnedZone owned{area(0_MiB, 4_MiB)};
  owned.add(0_MiB, kUnit, PageState::kFree);
  Frame resume{};
  EXPECT_TRUE(owned.zone.all_free(owned.frame(0_MiB), owned.frame(2_MiB), resume));
  EXPECT_FALSE(owned.zone.all_free(owned.frame(1_MiB), owned.frame(3_MiB), resume));
  EXPECT_EQ(resume, owned.frame(2_MiB + 4_KiB));
}

TEST(Zone, SaysWhereToGoOnAfterABlockInTheWay) {
  OwnedZone owned{area(0_MiB, 4_MiB)};
  owned.add(0_MiB, kMaxOrder, PageState::kFree);
  ASSERT_EQ(owned.zone.take(Order{8}), owned.frame(0_MiB));
  Frame resume{};
  EXPECT_FALSE(owned.zone.all_free(owned.frame(512_KiB), owned.frame(2_MiB), resume));
  EXPECT_EQ(resume, owned.frame(1_MiB));
}

TEST(Zone, UnacceptedAndRefusedBlocksAreFreeToBeTakenAsARange) {
  OwnedZone owned{area(0_MiB, 4_MiB)};
  owned.add(0_MiB, kUnit, PageState::kFree);
  owned.add(2_MiB, kUnit, PageState::kUnaccepted);
  owned.zone.not_accepted(*owned.zone.take_unaccepted(Order{8}, ZoneEnd::kTop), ZoneEnd::kTop);
  Frame resume{};
  EXPECT_TRUE(owned.zone.all_free(owned.frame(0_MiB), owned.frame(4_MiB), resume));
}

TEST(Zone, TakingARangeCutsTheBlocksAtItsEndsAndKeepsTheirKind) {
  OwnedZone owned{area(0_MiB, 8_MiB)};
  owned.add(0_MiB, kMaxOrder, PageState::kFree);
  owned.add(4_MiB, kMaxOrder, PageState::kUnaccepted);
  owned.zone.take_range(owned.frame(3_MiB), owned.frame(5_MiB + 4_KiB));
  EXPECT_EQ(owned.head(3_MiB), head(PageState::kAllocated, 8));
  EXPECT_EQ(owned.head(4_MiB), head(PageState::kAccepting, 8));
  EXPECT_EQ(owned.head(5_MiB), head(PageState::kAccepting, 0));
  EXPECT_EQ(owned.head(0_MiB), head(PageState::kFree, 9));
  EXPECT_EQ(owned.head(2_MiB), head(PageState::kFree, 8));
  EXPECT_EQ(owned.head(5_MiB + 4_KiB), head(PageState::kUnaccepted, 0));
  EXPECT_EQ(owned.head(6_MiB), head(PageState::kUnaccepted, 9));
  const ZoneCounters counters = owned.zone.counters();
  EXPECT_EQ(counters.free, PageCount{768});
  EXPECT_EQ(counters.unaccepted, PageCount{767});
  EXPECT_EQ(counters.accepting, PageCount{257});
  EXPECT_TRUE(owned.zone.invariants());
}

TEST(Zone, ABlockThatSettlesIsNoLongerBeingAccepted) {
  OwnedZone owned{area(0_MiB, 4_MiB)};
  owned.add(0_MiB, kMaxOrder, PageState::kUnaccepted);
  const auto block = owned.zone.take_unaccepted(kMaxOrder, ZoneEnd::kTop);
  owned.zone.settle(*block, PageState::kTakenOut);
  EXPECT_EQ(owned.zone.counters().accepting, PageCount{0});
  EXPECT_EQ(owned.zone.counters().unaccepted, PageCount{0});
  owned.zone.add_back_unaccepted(*block);
  EXPECT_EQ(owned.zone.counters().unaccepted, PageCount{1024});
  EXPECT_TRUE(owned.zone.invariants());
}

TEST(Zone, EveryStateOfAPageHasItsOwnText) {
  std::vector<std::string_view> texts;
  for (int state = 0; state <= static_cast<int>(PageState::kRefused); ++state) {
    const auto text = to_string(static_cast<PageState>(state));
    EXPECT_EQ(std::count(texts.begin(), texts.end(), text), 0) << text;
    texts.push_back(text);
  }
  EXPECT_EQ(to_string(static_cast<PageState>(200)), "unknown");
}

}  // namespace
}  // namespace accede::guest
