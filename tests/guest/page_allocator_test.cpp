#include "accede/guest/page_allocator.hpp"

#include "tests/guest/allocator_fixture.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace accede::guest {
namespace {

using test::area;
using test::SmallVm;
using test::TestHooks;
using test::unaccepted;
using test::usable;
using test::VmConfig;

constexpr AllocOptions kNoWait{.no_wait = true};

/// 4 MiB that can be used at once, `lazy` of unaccepted memory behind it.
VmConfig small(Bytes lazy = 16_MiB) {
  return {.memory = {usable(0_MiB, 4_MiB), unaccepted(4_MiB, lazy)}};
}
/// Only unaccepted memory.
VmConfig nothing_accepted(Bytes lazy = 16_MiB) {
  return {.memory = {unaccepted(16_MiB, lazy)}};
}
VmConfig two_nodes() {
  return {.memory = {usable(0_MiB, 16_MiB), unaccepted(16_MiB, 48_MiB)},
          .zones = {{.span = area(0_MiB, 32_MiB), .node = 0},
                    {.span = area(32_MiB, 32_MiB), .node = 1}},
          .cpus = 2};
}

template <class Vm>
std::vector<PhysAddr> take_all(Vm& vm, Order order, AllocOptions options = {}) {
  std::vector<PhysAddr> pages;
  while (const auto page = vm.allocator.allocate(order, options)) {
    pages.push_back(*page);
  }
  return pages;
}
template <class Vm>
void give_back(Vm& vm, const std::vector<PhysAddr>& pages, Order order) {
  for (const PhysAddr page : pages) {
    ASSERT_TRUE(vm.allocator.free(page, order));
  }
}

// --- Adding memory ---

TEST(PageAllocatorAdd, LazyKeepsEverythingUnacceptedThatIsAtLeastAUnit) {
  for (const Bytes unit : {4_KiB, 64_KiB, 2_MiB, 8_MiB}) {
    VmConfig config{.memory = {usable(0_MiB, 16_MiB), unaccepted(16_MiB, 48_MiB)}, .unit = unit};
    SmallVm vm{config};
    EXPECT_EQ(vm.platform.accepted_bytes(), Bytes{0}) << unit.value();
    EXPECT_EQ(vm.problem(), "");
  }
}

TEST(PageAllocatorAdd, PiecesSmallerThanAUnitAreAcceptedAtOnce) {
  VmConfig config = nothing_accepted();
  config.add_memory = false;
  SmallVm vm{config};
  vm.allocator.prepare(area(16_MiB, 16_MiB));
  ASSERT_TRUE(vm.allocator.add(area(21_MiB, 64_KiB)));
  EXPECT_EQ(vm.platform.accepted_runs(), std::vector{area(20_MiB, 2_MiB)});
  EXPECT_EQ(vm.allocator.counters().unaccepted, Bytes{0});
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorAdd, AcceptedMemoryBeforeUnacceptedMemoryWaitsForItsGuard) {
  SmallVm vm{small()};
  // Code may read past the end of the last accepted page.
  EXPECT_EQ(vm.allocator.counters().unaccepted, 20_MiB);
  ASSERT_EQ(take_all(vm, Order{0}).size(), 5120U);
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorAdd, EagerAcceptsAll) {
  SmallVm<Eager> vm;
  EXPECT_EQ(vm.platform.accepted_runs(), std::vector{area(64_MiB, 192_MiB)});
  EXPECT_EQ(vm.allocator.counters().unaccepted, Bytes{0});
  EXPECT_EQ(vm.table.unaccepted(), Bytes{0});
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorAdd, AnEagerFailureLeavesTheBlockUnacceptedAndAddsTheRest) {
  VmConfig config = small();
  config.add_memory = false;
  SmallVm<Eager> vm{config};
  vm.platform.fail_at(PhysAddr{(8_MiB).value()}, FailureKind::kRefused, 7);
  EXPECT_FALSE(vm.add_all());
  EXPECT_EQ(vm.allocator.counters().total, 20_MiB);
  EXPECT_EQ(vm.allocator.counters().free, 20_MiB);
  EXPECT_EQ(vm.problem(), "");
  EXPECT_EQ(take_all(vm, Order{0}).size(), 5120U);
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorAdd, AForeignTableMayHaveBitsInsideUsableMemory) {
  VmConfig config{.memory = {usable(0_MiB, 32_MiB)},
                  .table_memory = {unaccepted(6_MiB, 4_MiB), unaccepted(18_MiB, 6_MiB)}};
  SmallVm vm{config};
  EXPECT_EQ(vm.platform.accepted_bytes(), Bytes{0});
  EXPECT_EQ(vm.problem(), "");
  EXPECT_EQ(take_all(vm, Order{0}).size(), 8192U);
  EXPECT_EQ(vm.platform.accepted_bytes(), 10_MiB);
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorAdd, MemoryOutsideTheZonesIsIgnored) {
  VmConfig config = small();
  config.zones = {{.span = area(0_MiB, 8_MiB)}};
  SmallVm vm{config};
  EXPECT_EQ(vm.allocator.counters().total, 8_MiB);
}

TEST(PageAllocatorAdd, AHoleIsNeverHandedOut) {
  VmConfig config{
      .memory = {usable(0_MiB, 1_MiB), unaccepted(5_MiB, 6_MiB), usable(13_MiB, 1_MiB)}};
  SmallVm vm{config};
  for (const PhysAddr page : take_all(vm, Order{0})) {
    const bool memory = page < PhysAddr{(1_MiB).value()} || area(5_MiB, 6_MiB).contains(page) ||
                        area(13_MiB, 1_MiB).contains(page);
    ASSERT_TRUE(memory) << std::hex << page.value();
  }
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorAdd, PageInformationInUnacceptedMemoryBreaksAnInvariant) {
  SmallVm vm{VmConfig{.add_memory = false}};
  EXPECT_TRUE(vm.allocator.invariants());
  std::vector<Zone> zones(1);
  std::vector<CpuCache> caches(1);
  SmallVm<>::Allocator other{vm.acceptor, zones, caches, vm.hooks};
  std::vector<std::byte> metadata(Zone::metadata_bytes(area(0_MiB, 4_MiB)).value());
  other.open_zone(0, area(0_MiB, 4_MiB), 0, metadata, PhysAddr{(64_MiB).value()});
  other.prepare(area(0_MiB, 4_MiB));
  EXPECT_FALSE(other.invariants());
}

// --- Single blocks ---

TEST(PageAllocator, EveryBlockIsAlignedToItsSizeAndAccepted) {
  for (unsigned order = 0; order <= 10; ++order) {
    SmallVm vm{nothing_accepted()};
    const auto block = vm.allocator.allocate(Order{order});
    ASSERT_TRUE(block);
    EXPECT_TRUE(block->is_aligned(Order{order}.bytes()));
    EXPECT_TRUE(vm.touchable(area(Bytes{block->value()}, Order{order}.bytes())));
    EXPECT_EQ(vm.problem(), "");
  }
}

TEST(PageAllocator, AllMemoryCanBeAllocatedAndNothingTwice) {
  SmallVm vm;
  const auto pages = take_all(vm, Order{0});
  EXPECT_EQ(std::set(pages.begin(), pages.end()).size(), 65536U);
  EXPECT_EQ(vm.allocator.counters().free, Bytes{0});
  EXPECT_EQ(vm.table.unaccepted(), Bytes{0});
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocator, FreedMemoryMergesBackToTheLargestBlocks) {
  SmallVm vm{small()};
  give_back(vm, take_all(vm, Order{0}), Order{0});
  EXPECT_EQ(vm.allocator.counters().free, 20_MiB);
  vm.allocator.drain_caches();
  EXPECT_EQ(take_all(vm, kMaxOrder).size(), 5U);
}

TEST(PageAllocator, FreedMemoryStaysAccepted) {
  SmallVm vm{small()};
  for (int round = 0; round < 3; ++round) {
    give_back(vm, take_all(vm, Order{2}), Order{2});
  }
  EXPECT_EQ(vm.platform.accepted_bytes(), 16_MiB);
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocator, SaysOutOfMemoryWhenNothingIsLeft) {
  SmallVm vm{small()};
  EXPECT_EQ(take_all(vm, Order{0}).size(), 5120U);
  EXPECT_EQ(vm.allocator.allocate(Order{0}).error().kind, AllocErrorKind::kOutOfMemory);
  EXPECT_EQ(vm.allocator.allocate(Order{5}).error().kind, AllocErrorKind::kOutOfMemory);
}

TEST(PageAllocator, AcceptsUntilSmallPiecesMakeALargeBlock) {
  VmConfig config = nothing_accepted(4_MiB);
  config.unit = 64_KiB;
  SmallVm vm{config};
  const auto page = vm.allocator.allocate(Order{0});
  ASSERT_TRUE(page);
  EXPECT_EQ(vm.platform.accepted_bytes(), 64_KiB);
  EXPECT_EQ(vm.allocator.allocate(kMaxOrder).error().kind, AllocErrorKind::kOutOfMemory);
  ASSERT_TRUE(vm.allocator.free(*page, Order{0}));
  EXPECT_TRUE(vm.allocator.allocate(kMaxOrder));
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocator, PagesInTheCacheOfAnotherCpuAreMemoryTooWhenNothingElseIsLeft) {
  VmConfig config = small(4_MiB);
  config.cpus = 2;
  SmallVm vm{config};
  const auto pages = take_all(vm, Order{0});
  TestHooks::run_on(1);
  ASSERT_TRUE(vm.allocator.free(pages[0], Order{0}));
  TestHooks::run_on(0);
  EXPECT_EQ(vm.allocator.cached(0), PageCount{1});
  EXPECT_EQ(vm.allocator.allocate(Order{0}), pages[0]);
}

TEST(PageAllocator, CachedPagesMergeWhenALargeBlockIsWanted) {
  SmallVm vm{small(4_MiB)};
  const auto pages = take_all(vm, Order{0});
  const PhysAddr first = *std::min_element(pages.begin(), pages.end());
  for (const std::uint64_t page : {0U, 1U, 2U, 3U}) {
    ASSERT_TRUE(vm.allocator.free(first + PageCount{page}.bytes(), Order{0}));
  }
  EXPECT_EQ(vm.allocator.allocate(Order{2}), first);
}

TEST(PageAllocator, HoldsNoLockWhileThePlatformAccepts) {
  SmallVm vm{nothing_accepted()};
  unsigned calls = 0;
  vm.platform.on_entry([&](PhysRange) {
    EXPECT_FALSE(TestHooks::interrupts_are_off());
    // Somebody else asks meanwhile, and would wait for ever if a lock were held.
    vm.allocator.drain_caches();
    EXPECT_EQ(vm.allocator.exact_counters(0).managed.bytes(), 16_MiB);
    ++calls;
  });
  EXPECT_TRUE(vm.allocator.allocate(Order{0}));
  EXPECT_TRUE(vm.allocator.take_out(area(16_MiB, 8_MiB), true));
  EXPECT_EQ(calls, 6U);
}

TEST(PageAllocator, CountsARequestThatHadToAcceptOnce) {
  VmConfig config = nothing_accepted(4_MiB);
  config.unit = 64_KiB;
  SmallVm vm{config};
  ASSERT_TRUE(vm.allocator.allocate(Order{0}));
  EXPECT_EQ(vm.allocator.accept_waits(), 1U);
  ASSERT_TRUE(vm.allocator.allocate(Order{0}));
  EXPECT_EQ(vm.allocator.accept_waits(), 1U) << "the cache had one";
}

TEST(PageAllocator, AMachineWithoutUnacceptedMemoryNeedsNoTable) {
  VmConfig config{.memory = {usable(0_MiB, 16_MiB)}};
  SmallVm<NoAcceptance> vm{config};
  EXPECT_EQ(take_all(vm, Order{0}).size(), 4096U);
  EXPECT_EQ(vm.allocator.accept_waits(), 0U);
  EXPECT_EQ(vm.problem(), "");
}

// --- How much is accepted at a time ---

class PageAllocatorUnits : public testing::TestWithParam<Bytes> {
 protected:
  [[nodiscard]] static VmConfig config() {
    return {.memory = {unaccepted(16_MiB, 48_MiB)}, .unit = GetParam()};
  }
};

TEST_P(PageAllocatorUnits, TheFirstPageCostsOneUnit) {
  SmallVm vm{config()};
  ASSERT_TRUE(vm.allocator.allocate(Order{0}));
  EXPECT_EQ(vm.platform.accepted_bytes(), GetParam());
  EXPECT_EQ(vm.problem(), "");
}

TEST_P(PageAllocatorUnits, NoPageCostsMoreThanOneUnit) {
  SmallVm vm{config()};
  EXPECT_EQ(take_all(vm, Order{0}).size(), 12288U);
  EXPECT_EQ(vm.acceptor.counters().longest_call, GetParam());
  EXPECT_EQ(vm.acceptor.counters().longest_step, GetParam());
  EXPECT_EQ(vm.table.unaccepted(), Bytes{0});
  EXPECT_EQ(vm.problem(), "");
}

INSTANTIATE_TEST_SUITE_P(Sizes, PageAllocatorUnits, testing::Values(4_KiB, 64_KiB, 2_MiB, 8_MiB),
                         [](const auto& unit) {
                           return std::to_string(unit.param / 1_KiB) + "KiB";
                         });

TEST(PageAllocatorLazy, ARequestCostsAtMostTwoUnitsWhereTheGuardIsUnacceptedToo) {
  // What lies above the block was taken out of use unaccepted.
  SmallVm vm{nothing_accepted(4_MiB)};
  ASSERT_TRUE(vm.allocator.take_out(area(18_MiB, 2_MiB), false));
  ASSERT_TRUE(vm.allocator.allocate(Order{0}));
  EXPECT_EQ(vm.acceptor.counters().longest_call, 4_MiB);
  ASSERT_TRUE(vm.allocator.free_contiguous(area(18_MiB, 2_MiB)));
  EXPECT_EQ(take_all(vm, Order{9}).size(), 1U);
  EXPECT_EQ(vm.problem(), "");
}

// --- No wait ---

TEST(PageAllocatorNoWait, GivesAcceptedMemory) {
  SmallVm vm{small()};
  ASSERT_TRUE(vm.allocator.accept_ahead(0, vm.allocator.unit_order(), ZoneEnd::kTop));
  const auto calls = vm.platform.call_count();
  EXPECT_EQ(take_all(vm, Order{0}, kNoWait).size(), 512U);
  EXPECT_EQ(vm.platform.call_count(), calls);
}

TEST(PageAllocatorNoWait, SaysThatItWouldHaveToAccept) {
  SmallVm vm{nothing_accepted()};
  EXPECT_EQ(vm.allocator.allocate(Order{0}, kNoWait).error().kind, AllocErrorKind::kWouldAccept);
  EXPECT_EQ(vm.platform.call_count(), 0U);
}

TEST(PageAllocatorNoWait, SaysOutOfMemoryOnlyWhenNoUnacceptedMemoryIsLeft) {
  SmallVm vm{nothing_accepted(4_MiB)};
  std::vector<PhysAddr> pages;
  for (;;) {
    const auto page = vm.allocator.allocate(Order{0}, kNoWait);
    if (!page && page.error().kind == AllocErrorKind::kOutOfMemory) {
      break;
    }
    if (!page) {
      EXPECT_NE(vm.allocator.counters().unaccepted, Bytes{0});
      ASSERT_NE(*vm.allocator.accept_ahead(0, Order{9}, ZoneEnd::kTop), Bytes{0});
    }
    pages.push_back(page.value_or(PhysAddr{}));
  }
  EXPECT_EQ(vm.allocator.counters().free, Bytes{0});
}

TEST(PageAllocatorNoWait, AsksAlsoWhileTheLastMemoryIsBeingAccepted) {
  SmallVm vm{nothing_accepted(4_MiB)};
  vm.platform.on_entry([&](PhysRange) {
    EXPECT_EQ(vm.allocator.counters().unaccepted, Bytes{0});
    EXPECT_EQ(vm.allocator.allocate(Order{0}, kNoWait).error().kind, AllocErrorKind::kWouldAccept);
  });
  EXPECT_TRUE(vm.allocator.allocate(kMaxOrder));
}

// --- Freeing what must not be freed ---

class PageAllocatorFree : public testing::Test {
 protected:
  /// Calls free() and checks that nothing changed.
  void refused(PhysAddr address, Order order, FreeError error) {
    const MemoryCounters before = vm.allocator.counters();
    const auto result = vm.allocator.free(address, order);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error(), error);
    EXPECT_EQ(vm.allocator.counters().free, before.free);
    EXPECT_EQ(vm.problem(), "");
  }
  SmallVm<> vm;
};

TEST_F(PageAllocatorFree, TwiceIsRefused) {
  const PhysAddr page = *vm.allocator.allocate(Order{0});
  ASSERT_TRUE(vm.allocator.free(page, Order{0}));
  refused(page, Order{0}, FreeError::kWrongState);
  const PhysAddr block = *vm.allocator.allocate(Order{4});
  ASSERT_TRUE(vm.allocator.free(block, Order{4}));
  refused(block, Order{4}, FreeError::kWrongState);
}

TEST_F(PageAllocatorFree, AnotherOrderIsRefused) {
  const PhysAddr block = *vm.allocator.allocate(Order{4});
  refused(block, Order{3}, FreeError::kWrongOrder);
  refused(block, Order{5}, FreeError::kWrongOrder);
  refused(block, Order{0}, FreeError::kWrongOrder);
  EXPECT_TRUE(vm.allocator.free(block, Order{4}));
}

TEST_F(PageAllocatorFree, APartOfABlockIsRefused) {
  const PhysAddr block = *vm.allocator.allocate(Order{4});
  refused(block + 4_KiB, Order{0}, FreeError::kWrongState);
}

TEST_F(PageAllocatorFree, AFreeBlockIsRefused) {
  refused(PhysAddr{0}, kMaxOrder, FreeError::kWrongState);
  refused(PhysAddr{(128_MiB).value()}, kMaxOrder, FreeError::kWrongState);
}

TEST_F(PageAllocatorFree, AnAddressOutsideAllZonesIsRefused) {
  refused(PhysAddr{(256_MiB).value()}, Order{0}, FreeError::kNotOurs);
  refused(PhysAddr{~std::uint64_t{0} & ~std::uint64_t{4095}}, Order{0}, FreeError::kNotOurs);
}

TEST_F(PageAllocatorFree, AnAddressInsideAPageIsRefused) {
  const PhysAddr page = *vm.allocator.allocate(Order{0});
  refused(page + Bytes{1}, Order{0}, FreeError::kNotOurs);
}

TEST_F(PageAllocatorFree, MemoryThatIsTakenOutIsRefused) {
  ASSERT_TRUE(*vm.allocator.take_out(area(128_MiB, 4_MiB), false));
  refused(PhysAddr{(128_MiB).value()}, kMaxOrder, FreeError::kWrongState);
}

TEST_F(PageAllocatorFree, ARangeWithOneFreePageIsRefusedWholly) {
  const PhysRange run = *vm.allocator.allocate_contiguous(PageCount{64});
  const Bytes free = vm.allocator.counters().free;
  const auto longer = *PhysRange::make(run.begin(), 272_KiB);
  EXPECT_EQ(vm.allocator.free_contiguous(longer).error(), FreeError::kWrongState);
  EXPECT_EQ(vm.allocator.counters().free, free);
  EXPECT_TRUE(vm.allocator.free_contiguous(run));
}

TEST_F(PageAllocatorFree, ARangeThatCutsABlockIsRefused) {
  const PhysAddr block = *vm.allocator.allocate(Order{4});
  const auto low = *PhysRange::make(block, 32_KiB);
  const auto high = *PhysRange::make(block + 32_KiB, 32_KiB);
  EXPECT_EQ(vm.allocator.free_contiguous(low).error(), FreeError::kWrongState);
  EXPECT_EQ(vm.allocator.free_contiguous(high).error(), FreeError::kWrongState);
  EXPECT_TRUE(vm.allocator.free(block, Order{4}));
}

TEST_F(PageAllocatorFree, ARangeThatIsEmptyForeignOrUnalignedIsRefused) {
  const PhysRange run = *vm.allocator.allocate_contiguous(PageCount{2});
  const auto refuse = [&](PhysAddr begin, Bytes size) {
    EXPECT_EQ(vm.allocator.free_contiguous(*PhysRange::make(begin, size)).error(),
              FreeError::kNotOurs);
  };
  refuse(run.begin(), Bytes{0});
  refuse(run.begin(), 5_KiB);
  refuse(run.begin() + 1_KiB, 4_KiB);
  refuse(PhysAddr{(256_MiB).value()}, 4_KiB);
  refuse(PhysAddr{(252_MiB).value()}, 8_MiB);
  EXPECT_TRUE(vm.allocator.free_contiguous(run));
}

// --- Counters ---

TEST(PageAllocatorCounters, FreeMemoryIncludesWhatIsUnaccepted) {
  SmallVm vm;
  const MemoryCounters counters = vm.allocator.counters();
  EXPECT_EQ(counters.total, 256_MiB);
  EXPECT_EQ(counters.free, 256_MiB);
  EXPECT_EQ(counters.unaccepted, 196_MiB) << "with the block whose guard is unaccepted";
}

TEST(PageAllocatorCounters, FreeMemoryIncludesWhatCpuCachesHold) {
  SmallVm vm;
  ASSERT_TRUE(vm.allocator.allocate(Order{0}));
  EXPECT_EQ(vm.allocator.cached(0), PageCount{14});
  EXPECT_EQ(vm.allocator.counters().free, 256_MiB - 4_KiB);
  vm.allocator.drain_caches();
  EXPECT_EQ(vm.allocator.cached(0), PageCount{0});
  EXPECT_EQ(vm.allocator.counters().free, 256_MiB - 4_KiB);
}

TEST(PageAllocatorCounters, AcceptingDoesNotChangeHowMuchIsFree) {
  SmallVm vm{nothing_accepted()};
  EXPECT_EQ(vm.allocator.accept_ahead(0, Order{9}, ZoneEnd::kBottom), 2_MiB);
  EXPECT_EQ(vm.allocator.counters().free, 16_MiB);
  EXPECT_EQ(vm.allocator.counters().unaccepted, 14_MiB);
}

TEST(PageAllocatorCounters, CountEachNodeForItself) {
  SmallVm vm{two_nodes()};
  ASSERT_TRUE(vm.allocator.allocate(kMaxOrder, {.node = 1}));
  EXPECT_EQ(vm.allocator.counters(0).free, 32_MiB);
  EXPECT_EQ(vm.allocator.counters(1).free, 28_MiB);
  EXPECT_EQ(vm.allocator.counters(1).total, 32_MiB);
  EXPECT_EQ(vm.allocator.counters(7).total, Bytes{0});
}

TEST(PageAllocatorCounters, SayHowMuchPageInformationThereIs) {
  SmallVm vm{two_nodes()};
  EXPECT_EQ(vm.allocator.metadata(), Bytes{12} * 16384);
}

// --- Bulk ---

TEST(PageAllocatorBulk, FillsItsArrayWithDifferentAcceptedPages) {
  SmallVm vm{nothing_accepted()};
  std::vector<PhysAddr> pages(1000);
  EXPECT_EQ(vm.allocator.allocate_bulk(pages), 1000U);
  EXPECT_EQ(std::set(pages.begin(), pages.end()).size(), 1000U);
  for (const PhysAddr page : pages) {
    ASSERT_TRUE(vm.touchable(area(Bytes{page.value()}, 4_KiB)));
  }
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorBulk, GivesWhatThereIs) {
  SmallVm vm{nothing_accepted(4_MiB)};
  std::vector<PhysAddr> pages(2000);
  EXPECT_EQ(vm.allocator.allocate_bulk(pages), 1024U);
  EXPECT_EQ(vm.allocator.allocate_bulk(pages).error().kind, AllocErrorKind::kOutOfMemory);
}

TEST(PageAllocatorBulk, DoesNotAcceptWhenItMayNotWait) {
  SmallVm vm{nothing_accepted()};
  std::vector<PhysAddr> pages(2000);
  EXPECT_EQ(vm.allocator.allocate_bulk(pages, kNoWait).error().kind, AllocErrorKind::kWouldAccept);
  ASSERT_TRUE(vm.allocator.accept_ahead(0, Order{9}, ZoneEnd::kTop));
  EXPECT_EQ(vm.allocator.allocate_bulk(pages, kNoWait), 512U);
}

TEST(PageAllocatorBulk, OfNothingIsNothing) {
  SmallVm vm;
  EXPECT_EQ(vm.allocator.allocate_bulk({}), 0U);
}

// --- Nodes ---

TEST(PageAllocatorNodes, ARequestIsServedByItsOwnNodeFirst) {
  SmallVm vm{two_nodes()};
  vm.allocator.assign_cpu(1, 1);
  EXPECT_LT(*vm.allocator.allocate(Order{0}), PhysAddr{(32_MiB).value()});
  TestHooks::run_on(1);
  EXPECT_GE(*vm.allocator.allocate(Order{0}), PhysAddr{(32_MiB).value()});
  EXPECT_GE(*vm.allocator.allocate(Order{6}), PhysAddr{(32_MiB).value()});
  TestHooks::run_on(0);
}

TEST(PageAllocatorNodes, ItsOwnUnacceptedMemoryComesBeforeTheAcceptedMemoryOfOthers) {
  SmallVm vm{two_nodes()};
  EXPECT_GE(*vm.allocator.allocate(Order{0}, {.node = 1}), PhysAddr{(32_MiB).value()});
  EXPECT_NE(vm.platform.accepted_bytes(), Bytes{0});
}

TEST(PageAllocatorNodes, AFullNodeFallsBackToTheOthers) {
  SmallVm vm{two_nodes()};
  EXPECT_EQ(take_all(vm, kMaxOrder, {.node = 1}).size(), 16U);
  EXPECT_EQ(vm.problem(), "");
}

TEST(PageAllocatorNodes, ANodeThatDoesNotExistMeansTheOwnOne) {
  SmallVm vm{two_nodes()};
  EXPECT_LT(*vm.allocator.allocate(Order{0}, {.node = 9}), PhysAddr{(32_MiB).value()});
}

TEST(PageAllocatorNodes, APageThatIsFreedOnAnotherNodeGoesHome) {
  SmallVm vm{two_nodes()};
  vm.allocator.assign_cpu(1, 1);
  const PhysAddr page = *vm.allocator.allocate(Order{0}, {.node = 0});
  TestHooks::run_on(1);
  ASSERT_TRUE(vm.allocator.free(page, Order{0}));
  EXPECT_EQ(vm.allocator.cached(1), PageCount{0});
  TestHooks::run_on(0);
  EXPECT_EQ(vm.allocator.counters(0).free, 32_MiB);
  EXPECT_EQ(vm.problem(), "");
}

// --- What people read ---

TEST(PageAllocator, EveryErrorHasItsOwnText) {
  std::set<std::string_view> texts;
  using enum AllocErrorKind;
  for (const auto kind : {kOutOfMemory, kWouldAccept, kAcceptFailed}) {
    texts.insert(to_string(kind));
  }
  for (const auto error : {FreeError::kNotOurs, FreeError::kWrongState, FreeError::kWrongOrder}) {
    texts.insert(to_string(error));
  }
  EXPECT_EQ(texts.size(), 6U);
}

}  // namespace
}  // namespace accede::guest
