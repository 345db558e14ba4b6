// Requests for ranges, and what the allocator does when the platform fails.
#include "accede/guest/page_allocator.hpp"

#include "tests/guest/allocator_fixture.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <vector>

namespace accede::guest {
namespace {

using test::area;
using test::SmallVm;
using test::unaccepted;
using test::usable;
using test::VmConfig;

constexpr AllocOptions kNoWait{.no_wait = true};

VmConfig mixed() {
  return {.memory = {usable(0_MiB, 8_MiB), unaccepted(8_MiB, 24_MiB)}};
}
VmConfig nothing_accepted(Bytes lazy = 16_MiB) {
  return {.memory = {unaccepted(16_MiB, lazy)}};
}

// --- Contiguous ---

TEST(PageAllocatorContiguous, GivesAnyNumberOfPages) {
  SmallVm vm{mixed()};
  for (const std::uint64_t pages : {1U, 3U, 1000U, 1025U}) {
    const auto run = vm.allocator.allocate_contiguous(PageCount{pages});
    ASSERT_TRUE(run);
    EXPECT_EQ(run->size(), PageCount{pages}.bytes());
    EXPECT_TRUE(vm.touchable(*run));
    EXPECT_EQ(vm.problem(), "");
  }
}

TEST(PageAllocatorContiguous, CrossesBlocksAcceptedOrNot) {
  SmallVm vm{mixed()};
  const auto run = vm.allocator.allocate_contiguous(PageCount{7 * 1024});
  EXPECT_EQ(run, area(0_MiB, 28_MiB));
  EXPECT_EQ(vm.platform.accepted_runs(), std::vector{area(8_MiB, 22_MiB)}) << "and the guard";
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorContiguous, KeepsTheAlignment) {
  SmallVm vm{mixed()};
  ASSERT_TRUE(vm.allocator.allocate(Order{0}));
  vm.allocator.drain_caches();
  for (const Bytes alignment : {4_KiB, 64_KiB, 1_MiB, 8_MiB}) {
    const auto run = vm.allocator.allocate_contiguous(PageCount{3}, alignment);
    ASSERT_TRUE(run);
    EXPECT_TRUE(run->begin().is_aligned(alignment));
  }
}

TEST(PageAllocatorContiguous, LeavesWhatSticksOutFree) {
  SmallVm vm{mixed()};
  ASSERT_TRUE(vm.allocator.allocate_contiguous(PageCount{1}));
  EXPECT_EQ(vm.allocator.counters().free, 32_MiB - 4_KiB);
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorContiguous, GoesBackWholly) {
  SmallVm vm{mixed()};
  const auto run = vm.allocator.allocate_contiguous(PageCount{8 * 1024});
  ASSERT_TRUE(run);
  EXPECT_EQ(vm.allocator.counters().free, Bytes{0});
  ASSERT_TRUE(vm.allocator.free_contiguous(*run));
  EXPECT_EQ(vm.allocator.counters().free, 32_MiB);
  EXPECT_EQ(vm.allocator.counters().unaccepted, Bytes{0});
  EXPECT_EQ(vm.allocator.allocate_contiguous(PageCount{8 * 1024}), *run);
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorContiguous, GoesAroundWhatIsInUse) {
  SmallVm vm{mixed()};
  const auto hole = vm.allocator.allocate_contiguous(PageCount{1}, 2_MiB);
  const auto run = vm.allocator.allocate_contiguous(PageCount{512}, 2_MiB);
  EXPECT_EQ(hole, area(0_MiB, 4_KiB));
  EXPECT_EQ(run, area(2_MiB, 2_MiB));
}

TEST(PageAllocatorContiguous, SaysOutOfMemoryWhenNoRunIsLongEnough) {
  SmallVm vm{mixed()};
  ASSERT_TRUE(vm.allocator.take_out(area(16_MiB, 4_KiB), false));
  EXPECT_EQ(vm.allocator.allocate_contiguous(PageCount{4097}).error().kind,
            AllocErrorKind::kOutOfMemory);
  EXPECT_EQ(vm.allocator.allocate_contiguous(PageCount{1ULL << 40}).error().kind,
            AllocErrorKind::kOutOfMemory);
  EXPECT_TRUE(vm.allocator.allocate_contiguous(PageCount{4096}));
}

TEST(PageAllocatorContiguous, WithoutWaitTakesTheFirstRunThatIsAccepted) {
  SmallVm vm{VmConfig{.memory = {unaccepted(16_MiB, 16_MiB), usable(40_MiB, 8_MiB)}}};
  EXPECT_EQ(vm.allocator.allocate_contiguous(PageCount{300}, 1_MiB, kNoWait),
            area(40_MiB, 1200_KiB));
  EXPECT_EQ(vm.platform.call_count(), 0U);
}

TEST(PageAllocatorContiguous, WithoutWaitSaysThatItWouldHaveToAccept) {
  SmallVm vm{mixed()};
  EXPECT_EQ(vm.allocator.allocate_contiguous(PageCount{4096}, 4_KiB, kNoWait).error().kind,
            AllocErrorKind::kWouldAccept);
  EXPECT_EQ(vm.platform.call_count(), 0U);
  EXPECT_EQ(vm.allocator.counters().free, 32_MiB);
}

TEST(PageAllocatorContiguous, FallsBackToOtherNodes) {
  SmallVm vm{VmConfig{.memory = {usable(0_MiB, 16_MiB), unaccepted(16_MiB, 16_MiB)},
                      .zones = {{.span = area(0_MiB, 16_MiB), .node = 0},
                                {.span = area(16_MiB, 16_MiB), .node = 1}}}};
  EXPECT_EQ(vm.allocator.allocate_contiguous(PageCount{4096}, 4_KiB, {.node = 1}),
            area(16_MiB, 16_MiB));
  EXPECT_EQ(vm.allocator.allocate_contiguous(PageCount{4096}, 4_KiB, {.node = 1}),
            area(0_MiB, 16_MiB));
}

// --- Taking memory out of use ---

TEST(PageAllocatorTakeOut, AcceptsFirstWhenTold) {
  SmallVm vm{mixed()};
  EXPECT_TRUE(*vm.allocator.take_out(area(12_MiB, 4_MiB), true));
  EXPECT_TRUE(vm.platform.accepted(area(12_MiB, 4_MiB)));
  EXPECT_EQ(vm.allocator.counters().free, 28_MiB);
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorTakeOut, LeavesUnacceptedMemoryUnacceptedWhenTold) {
  SmallVm vm{mixed()};
  EXPECT_TRUE(*vm.allocator.take_out(area(12_MiB, 4_MiB), false));
  EXPECT_EQ(vm.platform.call_count(), 0U);
  EXPECT_EQ(vm.allocator.counters().free, 28_MiB);
  EXPECT_EQ(vm.allocator.counters().unaccepted, 24_MiB);
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorTakeOut, WhatWasTakenOutIsNotHandedOut) {
  SmallVm vm{mixed()};
  const PhysRange out = area(11_MiB, 6_MiB);
  ASSERT_TRUE(*vm.allocator.take_out(out, false));
  while (const auto page = vm.allocator.allocate(Order{0})) {
    ASSERT_FALSE(out.contains(*page));
  }
  EXPECT_EQ(vm.allocator.counters().free, Bytes{0});
}

TEST(PageAllocatorTakeOut, WhatIsGivenBackIsWhatItWas) {
  for (const bool accept : {true, false}) {
    SmallVm vm{mixed()};
    const PhysRange out = area(3_MiB, 8_MiB);
    ASSERT_TRUE(*vm.allocator.take_out(out, accept));
    ASSERT_TRUE(vm.allocator.free_contiguous(out));
    EXPECT_EQ(vm.allocator.counters().free, 32_MiB);
    EXPECT_EQ(vm.problem(), "");
    EXPECT_EQ(vm.allocator.allocate_contiguous(PageCount{8192}), area(0_MiB, 32_MiB));
    EXPECT_EQ(vm.problem(), "");
  }
}

TEST(PageAllocatorTakeOut, OfMemoryInUseIsRefused) {
  SmallVm vm{mixed()};
  const PhysAddr page = *vm.allocator.allocate(Order{0});
  EXPECT_FALSE(*vm.allocator.take_out(*PhysRange::make(page.align_down(4_MiB), 4_MiB), true));
  EXPECT_EQ(vm.allocator.counters().free, 32_MiB - 4_KiB);
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorTakeOut, TwiceIsRefused) {
  SmallVm vm{mixed()};
  ASSERT_TRUE(*vm.allocator.take_out(area(12_MiB, 4_MiB), false));
  EXPECT_FALSE(*vm.allocator.take_out(area(14_MiB, 4_MiB), false));
}

TEST(PageAllocatorTakeOut, OfMemoryOutsideOrInTwoZonesIsRefused) {
  SmallVm vm{VmConfig{
      .memory = {usable(0_MiB, 16_MiB)},
      .zones = {{.span = area(0_MiB, 8_MiB), .node = 0}, {.span = area(8_MiB, 8_MiB), .node = 0}}}};
  EXPECT_FALSE(*vm.allocator.take_out(area(64_MiB, 4_MiB), true));
  EXPECT_FALSE(*vm.allocator.take_out(area(4_MiB, 8_MiB), true));
  EXPECT_FALSE(*vm.allocator.take_out(area(4_MiB, 0_MiB), true));
}

TEST(PageAllocatorTakeOut, FindsPagesThatOnlyACacheHolds) {
  SmallVm vm{mixed()};
  const PhysAddr page = *vm.allocator.allocate(Order{0});
  ASSERT_TRUE(vm.allocator.free(page, Order{0}));
  EXPECT_TRUE(*vm.allocator.take_out(*PhysRange::make(page.align_down(4_MiB), 4_MiB), true));
}

// --- The platform fails ---

TEST(PageAllocatorFailure, ReturnsTheErrorAndKeepsTheMemory) {
  SmallVm vm{nothing_accepted()};
  vm.platform.fail_at(PhysAddr{(31_MiB).value()}, FailureKind::kRefused, 0xC0DE);
  const auto page = vm.allocator.allocate(Order{0});
  ASSERT_FALSE(page);
  EXPECT_EQ(page.error().kind, AllocErrorKind::kAcceptFailed);
  EXPECT_EQ(page.error().accept.failure.status, 0xC0DEU);
  EXPECT_EQ(page.error().accept.failure.at, PhysAddr{(31_MiB).value()});
  EXPECT_EQ(vm.allocator.counters().free, 16_MiB);
  EXPECT_EQ(vm.allocator.counters().unaccepted, 16_MiB);
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorFailure, OnceDoesNotLoseAPage) {
  SmallVm vm{nothing_accepted()};
  vm.platform.fail_at(PhysAddr{(31_MiB).value()}, FailureKind::kRefused, 1);
  ASSERT_FALSE(vm.allocator.allocate(Order{0}));
  unsigned pages = 0;
  while (vm.allocator.allocate(Order{0})) {
    ++pages;
  }
  EXPECT_EQ(pages, 4096U);
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorFailure, OfOnePageForEverCostsOnlyTheUnitsThatNeedIt) {
  SmallVm vm{nothing_accepted()};
  // The first unit that is tried; the unit below it needs it as its guard.
  vm.platform.fail_at(PhysAddr{(31_MiB).value()}, FailureKind::kRefused, 1, vm.platform.kAlways);
  unsigned pages = 0;
  unsigned failures = 0;
  for (int i = 0; i < 5000; ++i) {
    (vm.allocator.allocate(Order{0}) ? pages : failures) += 1;
  }
  EXPECT_EQ(pages, 4096U - 2 * 512);
  EXPECT_EQ(vm.allocator.counters().free, 4_MiB);
  EXPECT_EQ(vm.problem(), "");
  vm.platform.stop_failing();
  while (vm.allocator.allocate(Order{0})) {
    ++pages;
  }
  EXPECT_EQ(pages, 4096U);
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorFailure, OfOnePageForEverFailsOneRequestForEachUnitThatNeedsIt) {
  SmallVm vm{nothing_accepted()};
  vm.platform.fail_at(PhysAddr{(31_MiB).value()}, FailureKind::kRefused, 1, vm.platform.kAlways);
  unsigned failures = 0;
  for (unsigned pages = 0; pages < 3072;) {
    vm.allocator.allocate(Order{0}) ? ++pages : ++failures;
    ASSERT_LE(failures, 2U);
  }
}

TEST(PageAllocatorFailure, InTheMiddleOfABulkGivesWhatWasThere) {
  SmallVm vm{nothing_accepted()};
  vm.platform.fail_at(PhysAddr{(29_MiB).value()}, FailureKind::kRefused, 1);
  std::array<PhysAddr, 2048> pages;
  EXPECT_EQ(vm.allocator.allocate_bulk(pages), 512U);
  EXPECT_EQ(vm.allocator.counters().free, 14_MiB);
}

TEST(PageAllocatorFailure, OfAContiguousRequestGivesTheRunBack) {
  SmallVm vm{mixed()};
  vm.platform.fail_at(PhysAddr{(17_MiB).value()}, FailureKind::kBusyForever, 5);
  const auto run = vm.allocator.allocate_contiguous(PageCount{5 * 1024});
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error().kind, AllocErrorKind::kAcceptFailed);
  EXPECT_EQ(run.error().accept.failure.status, 5U);
  EXPECT_EQ(vm.allocator.counters().free, 32_MiB);
  EXPECT_EQ(vm.problem(), "");
  EXPECT_TRUE(vm.allocator.allocate_contiguous(PageCount{5 * 1024}));
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorFailure, OfTakingOutGivesTheRangeBack) {
  SmallVm vm{mixed()};
  vm.platform.fail_at(PhysAddr{(17_MiB).value()}, FailureKind::kRefused, 5);
  const auto out = vm.allocator.take_out(area(6_MiB, 12_MiB), true);
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().failure.status, 5U);
  EXPECT_EQ(vm.allocator.counters().free, 32_MiB);
  EXPECT_EQ(vm.problem(), "");
  EXPECT_TRUE(*vm.allocator.take_out(area(6_MiB, 12_MiB), true));
}

// --- Accepting ahead ---

TEST(PageAllocatorAhead, AcceptsOneBlockAndSaysHowMuchBecameFree) {
  SmallVm vm{nothing_accepted(4_MiB)};
  EXPECT_EQ(vm.allocator.accept_ahead(0, Order{9}, ZoneEnd::kBottom), 2_MiB);
  EXPECT_EQ(vm.allocator.accept_ahead(0, Order{9}, ZoneEnd::kBottom), 2_MiB);
  EXPECT_EQ(vm.allocator.accept_ahead(0, Order{9}, ZoneEnd::kBottom), 0_MiB);
  EXPECT_EQ(vm.platform.accepted_bytes(), 4_MiB);
}

TEST(PageAllocatorAhead, AFailureIsReportedAndTheNextStepTriesElsewhere) {
  SmallVm vm{nothing_accepted()};
  vm.platform.fail_at(PhysAddr{(16_MiB).value()}, FailureKind::kRefused, 3, vm.platform.kAlways);
  EXPECT_FALSE(vm.allocator.accept_ahead(0, Order{9}, ZoneEnd::kBottom));
  for (int i = 0; i < 7; ++i) {
    EXPECT_EQ(vm.allocator.accept_ahead(0, Order{9}, ZoneEnd::kBottom), 2_MiB);
  }
  EXPECT_FALSE(vm.allocator.accept_ahead(0, Order{9}, ZoneEnd::kBottom));
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorAhead, EverythingIsEverything) {
  SmallVm vm{mixed()};
  EXPECT_EQ(vm.allocator.accept_everything(), 28_MiB) << "with the block whose guard was missing";
  EXPECT_EQ(vm.platform.accepted_bytes(), 24_MiB);
  EXPECT_EQ(vm.allocator.counters().unaccepted, Bytes{0});
  EXPECT_EQ(vm.problem(), "");
}

}  // namespace
}  // namespace accede::guest
