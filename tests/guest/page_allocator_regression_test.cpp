// Bugs that the page allocators of other systems had with unaccepted memory; the names are the rows
// of the project's list.
#include "accede/guest/background.hpp"
#include "accede/guest/page_allocator.hpp"
#include "tests/guest/allocator_fixture.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <random>
#include <vector>

namespace accede::guest {
namespace {

using test::area;
using test::run_on_cpus;
using test::SmallVm;
using test::TestHooks;
using test::unaccepted;
using test::usable;
using test::VmConfig;

constexpr AllocOptions kNoWait{.no_wait = true};

// Unaccepted memory did not count as usable: reclaim ran for ever beside gigabytes of it.
TEST(PageAllocatorRegression, Regression_L04_UnacceptedMemoryCountsAsFreeAndIsUsedToTheLastPage) {
  SmallVm vm;
  EXPECT_EQ(vm.allocator.counters().free, 256_MiB);
  std::uint64_t pages = 0;
  while (vm.allocator.counters().free != Bytes{0}) {
    ASSERT_TRUE(vm.allocator.allocate(Order{0})) << "after " << pages << " pages";
    ++pages;
  }
  EXPECT_EQ(pages, 65536U);
}

// The refill went for the wrong watermark: what is accepted must be what the policy asks for.
TEST(PageAllocatorRegression, Regression_L05_LazyRefillsByOneUnit) {
  SmallVm vm{VmConfig{.memory = {unaccepted(64_MiB, 64_MiB)}}};
  for (int unit = 1; unit <= 32; ++unit) {
    ASSERT_TRUE(vm.allocator.allocate(Order{9}));
    EXPECT_EQ(vm.platform.accepted_bytes(), 2_MiB * static_cast<std::uint64_t>(unit));
  }
}
TEST(PageAllocatorRegression, Regression_L05_BackgroundRefillsToItsTarget) {
  SmallVm<Background> vm{VmConfig{.memory = {unaccepted(64_MiB, 256_MiB)}}};
  BackgroundAcceptor background{vm.allocator, {.floor = 24_MiB}};
  for (int round = 0; round < 4; ++round) {
    while (background.step()->sleep_ns != BackgroundStep::kUntilWoken) {
    }
    EXPECT_EQ(vm.allocator.zone(0).counters().free.bytes(), 24_MiB);
    for (int block = 0; block < 4; ++block) {
      ASSERT_TRUE(vm.allocator.allocate(kMaxOrder));
    }
  }
}

// The bulk path forgot acceptance and failed, or gave out what was not accepted.
TEST(PageAllocatorRegression, Regression_L06_EveryWayToGetMemoryGivesAcceptedMemory) {
  const VmConfig config{.memory = {unaccepted(64_MiB, 64_MiB)}};
  const auto touchable = [](auto& vm, PhysAddr at, Bytes size) {
    return vm.touchable(*PhysRange::make(at, size)) && vm.problem().empty();
  };
  for (unsigned order = 0; order <= 10; ++order) {
    SmallVm vm{config};
    EXPECT_TRUE(touchable(vm, *vm.allocator.allocate(Order{order}), Order{order}.bytes()));
  }
  SmallVm bulk{config};
  std::array<PhysAddr, 700> pages;
  ASSERT_EQ(bulk.allocator.allocate_bulk(pages), pages.size());
  for (const PhysAddr page : pages) {
    ASSERT_TRUE(bulk.touchable(*PhysRange::make(page, 4_KiB)));
  }
  SmallVm runs{config};
  const PhysRange run = *runs.allocator.allocate_contiguous(PageCount{1500}, 64_KiB);
  EXPECT_TRUE(touchable(runs, run.begin(), run.size()));
  SmallVm out{config};
  ASSERT_TRUE(*out.allocator.take_out(area(70_MiB, 9_MiB), true));
  EXPECT_TRUE(touchable(out, PhysAddr{(70_MiB).value()}, 9_MiB));
}

// Requests that may not wait never accepted, found nothing, and failed for ever.
TEST(PageAllocatorRegression, Regression_L07_ANoWaitRequestNeverSaysOutOfMemoryFalsely) {
  SmallVm vm{VmConfig{.memory = {unaccepted(64_MiB, 16_MiB)}}};
  while (vm.allocator.counters().free != Bytes{0}) {
    const auto page = vm.allocator.allocate(Order{0}, kNoWait);
    if (!page) {
      ASSERT_EQ(page.error().kind, AllocErrorKind::kWouldAccept);
      ASSERT_TRUE(vm.allocator.allocate(Order{0}));
    }
  }
}
TEST(PageAllocatorRegression, Regression_L07_ConcurrentNoWaitRequestsNeverSayItEither) {
  for (int round = 0; round < 20; ++round) {
    SmallVm vm{VmConfig{.memory = {unaccepted(64_MiB, 8_MiB)}, .cpus = 3}};
    std::atomic<bool> more = true;
    run_on_cpus(3, [&](unsigned cpu) {
      if (cpu < 2) {
        while (vm.allocator.counters().unaccepted != Bytes{0}) {
          ASSERT_TRUE(vm.allocator.accept_ahead(0, Order{9}, ZoneEnd::kTop));
        }
        more = false;
        return;
      }
      while (more) {
        const auto block = vm.allocator.allocate(Order{9}, kNoWait);
        if (block) {
          ASSERT_TRUE(vm.allocator.free(*block, Order{9}));
        } else {
          ASSERT_EQ(block.error().kind, AllocErrorKind::kWouldAccept);
        }
      }
    });
  }
}

// Out of memory before the watermarks were set up, with all memory unaccepted.
TEST(PageAllocatorRegression, Regression_L08_TheFirstAllocationEverWorks) {
  for (unsigned order = 0; order <= 10; ++order) {
    SmallVm lazy{VmConfig{.memory = {unaccepted(64_MiB, 16_MiB)}}};
    EXPECT_TRUE(lazy.allocator.allocate(Order{order}));
    // Nobody has started the acceptor thread yet.
    SmallVm<Background> background{VmConfig{.memory = {unaccepted(64_MiB, 16_MiB)}}};
    EXPECT_TRUE(background.allocator.allocate(Order{order}));
  }
}

// A global switch that went off with the last unaccepted page deadlocked, then raced.
TEST(PageAllocatorRegression, Regression_L09_ConcurrentAccountingIsExactWhenTheLastMemoryGoes) {
  for (int round = 0; round < 5; ++round) {
    SmallVm vm{VmConfig{.memory = {usable(0_MiB, 4_MiB), unaccepted(4_MiB, 28_MiB)}, .cpus = 4}};
    std::array<std::vector<PhysAddr>, 4> held;
    run_on_cpus(4, [&](unsigned cpu) {
      while (const auto page = vm.allocator.allocate(Order{0})) {
        held[cpu].push_back(*page);
      }
    });
    EXPECT_EQ(held[0].size() + held[1].size() + held[2].size() + held[3].size(), 8192U);
    EXPECT_EQ(vm.allocator.counters().free, Bytes{0});
    EXPECT_EQ(vm.allocator.zone(0).counters().accepting, PageCount{0});
    EXPECT_EQ(vm.table.unaccepted(), Bytes{0});
    run_on_cpus(4, [&](unsigned cpu) {
      for (const PhysAddr page : held[cpu]) {
        ASSERT_TRUE(vm.allocator.free(page, Order{0}));
      }
    });
    EXPECT_EQ(vm.allocator.counters().free, 32_MiB);
    EXPECT_EQ(vm.problem(), "");
  }
}

// Isolating pages for off-lining met unaccepted blocks that it did not know.
TEST(PageAllocatorRegression, Regression_L10_TakingOutAcceptsOrLeavesUnacceptedBlocksAsTold) {
  SmallVm vm;
  const PhysRange accepted = area(62_MiB, 6_MiB);
  const PhysRange skipped = area(128_MiB, 6_MiB);
  ASSERT_TRUE(*vm.allocator.take_out(accepted, true));
  EXPECT_TRUE(vm.touchable(accepted));
  ASSERT_TRUE(*vm.allocator.take_out(skipped, false));
  EXPECT_FALSE(vm.platform.any_accepted(skipped));
  EXPECT_EQ(vm.allocator.counters().free, 244_MiB);
  EXPECT_EQ(vm.problem(), "");
}

// The first version of deferred set-up accepted all memory of large machines.
TEST(PageAllocatorRegression, Regression_L17_AddingALargeMapInParallelAcceptsNothing) {
  SmallVm vm{VmConfig{.memory = {usable(0_MiB, 64_MiB), unaccepted(64_MiB, 8128_MiB)},
                      .cpus = 4,
                      .add_memory = false}};
  run_on_cpus(4, [&](unsigned cpu) {
    for (std::uint64_t block = cpu; block < 2048; block += 4) {
      const PhysRange part = area(4_MiB * block, 4_MiB);
      vm.allocator.prepare(part);
      ASSERT_TRUE(vm.allocator.add(part));
    }
  });
  EXPECT_EQ(vm.platform.call_count(), 0U);
  EXPECT_EQ(vm.allocator.counters().free, 8192_MiB);
  EXPECT_EQ(vm.problem(), "");
}

// With watermarks still zero every early allocation accepted 4 MiB more: 13 GiB by the boot CPU.
TEST(PageAllocatorRegression, Regression_L18_248CpusBootWithLittleMoreAcceptedThanTheyUse) {
  constexpr unsigned kCpus = 248;
  SmallVm vm{
      VmConfig{.memory = {usable(0_MiB, 64_MiB), unaccepted(64_MiB, 16320_MiB)}, .cpus = kCpus}};
  const auto bounded = [&] { return vm.platform.accepted_bytes() <= vm.used() + 64_MiB; };
  std::mt19937_64 random{18};
  // The boot CPU sets up what every CPU needs, a few pages at a time, ...
  for (unsigned i = 0; i < kCpus * 64; ++i) {
    ASSERT_TRUE(vm.allocator.allocate(Order{static_cast<unsigned>(random() % 4)}));
    ASSERT_TRUE(i % 64 != 0 || bounded());
  }
  // ... then all of them run.
  for (unsigned i = 0; i < kCpus * 64; ++i) {
    TestHooks::run_on(static_cast<unsigned>(random() % kCpus));
    ASSERT_TRUE(vm.allocator.allocate(Order{static_cast<unsigned>(random() % 3)}));
    ASSERT_TRUE(i % 64 != 0 || bounded());
  }
  TestHooks::run_on(0);
  EXPECT_TRUE(bounded());
  EXPECT_EQ(vm.acceptor.counters().longest_step, 2_MiB);
}

}  // namespace
}  // namespace accede::guest
