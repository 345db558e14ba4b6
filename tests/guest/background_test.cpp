#include "accede/guest/background.hpp"

#include "tests/guest/allocator_fixture.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace accede::guest {
namespace {

using test::area;
using test::SmallVm;
using test::TestHooks;
using test::unaccepted;
using test::VmConfig;

constexpr std::uint64_t kMs = 1'000'000;

class BackgroundTest : public testing::Test {
 protected:
  using Vm = SmallVm<Background>;
  using Acceptor = BackgroundAcceptor<Vm::Allocator>;

  /// Steps until the acceptor wants to sleep until it is woken; a step takes 1 ms by its clock.
  void settle() {
    for (int i = 0; i < 10000; ++i) {
      const auto step = background.step();
      ASSERT_TRUE(step);
      if (step->sleep_ns == BackgroundStep::kUntilWoken) {
        return;
      }
      vm.hooks.now_ns += step->sleep_ns;
    }
    FAIL() << "never sleeps";
  }
  void take(Bytes amount) {
    for (std::uint64_t i = 0; i < amount / 4_KiB; ++i) {
      ASSERT_TRUE(vm.allocator.allocate(Order{0}));
    }
  }
  [[nodiscard]] Bytes free() const { return vm.zone_free(); }

  struct OneGigabyte : Vm {
    OneGigabyte() : Vm{VmConfig{.memory = {unaccepted(1024_MiB, 1024_MiB)}, .cpus = 2}} {
      this->platform.on_entry([this](PhysRange range) {
        this->hooks.now_ns += step_ns;
        asked.push_back(range);
      });
    }
    [[nodiscard]] Bytes zone_free() const {
      return this->allocator.zone(0).counters().free.bytes();
    }
    std::uint64_t step_ns = kMs;
    std::vector<PhysRange> asked;
  };
  OneGigabyte vm;
  Acceptor background{vm.allocator};
};

TEST_F(BackgroundTest, FillsTheReserveToItsFloorAndSleeps) {
  settle();
  EXPECT_EQ(free(), 8_MiB);
  EXPECT_EQ(vm.problem(), "");
}

TEST_F(BackgroundTest, AStepAcceptsOneUnit) {
  ASSERT_EQ(background.step()->accepted, 2_MiB);
  EXPECT_EQ(vm.platform.accepted_bytes(), 4_MiB) << "the first one and its guard";
  ASSERT_EQ(background.step()->accepted, 2_MiB);
  EXPECT_EQ(vm.platform.accepted_bytes(), 6_MiB);
}

TEST_F(BackgroundTest, WorksFromTheEndThatRequestsDoNotUse) {
  settle();
  ASSERT_TRUE(vm.allocator.allocate(kMaxOrder));
  take(8_MiB);
  EXPECT_EQ(vm.platform.accepted_runs().front().begin(), PhysAddr{(1024_MiB).value()});
  settle();
  EXPECT_LT(vm.platform.accepted_runs().front().end(), PhysAddr{(1100_MiB).value()});
  EXPECT_EQ(vm.problem(), "");
}

TEST_F(BackgroundTest, NeverAcceptsABlockThatARequestAccepts) {
  bool inside = false;
  vm.platform.on_entry([&](PhysRange range) {
    if (!inside) {
      inside = true;
      // While a request accepts from the top, a step runs to its end at the bottom.
      EXPECT_EQ(background.step()->accepted, 2_MiB);
      inside = false;
      EXPECT_EQ(range.end(), PhysAddr{(2048_MiB).value()});
    } else {
      EXPECT_EQ(range.begin().align_down(4_MiB), PhysAddr{(1024_MiB).value()});
    }
  });
  ASSERT_TRUE(vm.allocator.allocate(Order{0}));
  EXPECT_EQ(vm.acceptor.counters().waits, 0U);
  EXPECT_EQ(vm.problem(), "");
}

TEST_F(BackgroundTest, KeepsMoreWhenMemoryIsTakenFaster) {
  settle();
  for (int i = 0; i < 30; ++i) {
    vm.hooks.now_ns += kMs;
    take(1_MiB);
    ASSERT_TRUE(background.step());
  }
  settle();
  EXPECT_GT(background.reserve(0).target(), 10_MiB);
  EXPECT_GE(free(), background.reserve(0).low());
}

TEST_F(BackgroundTest, NeverKeepsMoreThanTheCeiling) {
  Acceptor small{vm.allocator, {.floor = 2_MiB, .ceiling = 16_MiB}};
  for (int i = 0; i < 30; ++i) {
    vm.hooks.now_ns += kMs;
    take(4_MiB);
    ASSERT_TRUE(small.step());
  }
  while (small.step()->sleep_ns != BackgroundStep::kUntilWoken) {
    vm.hooks.now_ns += kMs / 10;
  }
  EXPECT_LE(free(), 18_MiB);
}

TEST_F(BackgroundTest, IsWokenWhenTheReserveGetsLow) {
  settle();
  take(1020_KiB);
  EXPECT_EQ(vm.hooks.wakes, 0U);
  take(60_KiB);
  EXPECT_EQ(vm.hooks.wakes, 1U);
}

TEST_F(BackgroundTest, IsWokenOnceEachTimeItSleeps) {
  settle();
  take(6_MiB);
  EXPECT_EQ(vm.hooks.wakes, 1U);
  settle();
  take(6_MiB);
  EXPECT_EQ(vm.hooks.wakes, 2U);
}

TEST_F(BackgroundTest, IsWokenByContiguousRequestsToo) {
  settle();
  ASSERT_TRUE(vm.allocator.allocate_contiguous(PageCount{1024}));
  EXPECT_EQ(vm.hooks.wakes, 1U);
}

TEST_F(BackgroundTest, IsNotWokenWhileItRuns) {
  ASSERT_TRUE(background.step());
  take(8_MiB);
  EXPECT_EQ(vm.hooks.wakes, 0U);
}

TEST_F(BackgroundTest, IsNotWokenWhenNothingIsLeftToAccept) {
  ASSERT_TRUE(vm.allocator.accept_everything());
  settle();
  take(1020_MiB);
  EXPECT_EQ(vm.hooks.wakes, 0U);
}

TEST_F(BackgroundTest, DoesNotFallAsleepWhenTheReserveIsLow) {
  settle();
  vm.allocator.policy().set_asleep(false);
  take(2_MiB);
  EXPECT_EQ(vm.hooks.wakes, 0U) << "nobody sleeps";
  EXPECT_NE(background.step()->sleep_ns, BackgroundStep::kUntilWoken);
}

TEST_F(BackgroundTest, RestsSoThatItUsesNoMoreThanItsShare) {
  for (const unsigned percent : {10U, 50U, 90U}) {
    OneGigabyte fresh;
    Acceptor shy{fresh.allocator, {.floor = 512_MiB, .ceiling = 512_MiB, .cpu_percent = percent}};
    std::uint64_t slept = 0;
    for (int i = 0; i < 100; ++i) {
      const auto step = shy.step();
      ASSERT_TRUE(step);
      ASSERT_NE(step->sleep_ns, BackgroundStep::kUntilWoken);
      slept += step->sleep_ns;
      fresh.hooks.now_ns += step->sleep_ns;
    }
    const std::uint64_t all = fresh.hooks.now_ns;
    EXPECT_NEAR(static_cast<double>(all - slept) / static_cast<double>(all), percent / 100.0, 0.01);
  }
}

TEST_F(BackgroundTest, MayUseAWholeCpuWhenTold) {
  Acceptor greedy{vm.allocator, {.floor = 64_MiB, .ceiling = 64_MiB, .cpu_percent = 100}};
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(greedy.step()->sleep_ns, 0U);
  }
}

TEST_F(BackgroundTest, StepsBackWhileItsCpuHasOtherWork) {
  vm.hooks.busy = true;
  const auto step = background.step();
  EXPECT_EQ(step->accepted, Bytes{0});
  EXPECT_GT(step->sleep_ns, 0U);
  EXPECT_NE(step->sleep_ns, BackgroundStep::kUntilWoken);
  EXPECT_EQ(vm.platform.call_count(), 0U);
  vm.hooks.busy = false;
  EXPECT_EQ(background.step()->accepted, 2_MiB);
}

TEST_F(BackgroundTest, AnErrorOfThePlatformIsReturnedAndTheNextStepTriesElsewhere) {
  vm.platform.fail_at(PhysAddr{(1024_MiB).value()}, FailureKind::kRefused, 9, vm.platform.kAlways);
  const auto step = background.step();
  ASSERT_FALSE(step);
  EXPECT_EQ(step.error().failure.status, 9U);
  EXPECT_EQ(vm.allocator.counters().free, 1024_MiB);
  settle();
  EXPECT_EQ(free(), 8_MiB);
  EXPECT_EQ(vm.problem(), "");
}

TEST(BackgroundZones, TheZoneThatLacksMostComesFirst) {
  VmConfig config{.memory = {unaccepted(16_MiB, 128_MiB)},
                  .zones = {{.span = area(16_MiB, 64_MiB), .node = 0},
                            {.span = area(80_MiB, 64_MiB), .node = 1}}};
  SmallVm<Background> vm{config};
  BackgroundAcceptor background{vm.allocator};
  ASSERT_TRUE(vm.allocator.accept_ahead(0, kMaxOrder, ZoneEnd::kBottom));
  ASSERT_TRUE(background.step());
  ASSERT_TRUE(background.step());
  EXPECT_EQ(vm.allocator.zone(0).counters().free.bytes(), 4_MiB);
  EXPECT_EQ(vm.allocator.zone(1).counters().free.bytes(), 4_MiB);
  while (background.step()->sleep_ns != BackgroundStep::kUntilWoken) {
  }
  EXPECT_EQ(vm.allocator.zone(0).counters().free.bytes(), 8_MiB);
  EXPECT_EQ(vm.allocator.zone(1).counters().free.bytes(), 8_MiB);
}

}  // namespace
}  // namespace accede::guest
