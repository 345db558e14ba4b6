// Random actions on a page allocator against a naive reference, and many threads on one.
// To repeat a failure: ACCEDE_TEST_SEED=<seed printed>.
#include "accede/guest/background.hpp"
#include "accede/guest/page_allocator.hpp"
#include "tests/guest/allocator_actions.hpp"
#include "tests/guest/allocator_fixture.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace accede::guest {
namespace {

using test::ActionBytes;
using test::allocator_seed;
using test::AllocatorActions;
using test::area;
using test::run_on_cpus;
using test::SmallVm;
using test::TestHooks;
using test::unaccepted;
using test::usable;
using test::VmConfig;

std::vector<std::uint8_t> random_bytes(std::mt19937_64& random, std::size_t count) {
  std::vector<std::uint8_t> bytes(count);
  for (std::uint8_t& byte : bytes) {
    byte = static_cast<std::uint8_t>(random());
  }
  return bytes;
}

class PageAllocatorModel : public testing::TestWithParam<std::uint64_t> {};

TEST_P(PageAllocatorModel, RandomActionsAgreeWithTheNaiveReference) {
  const std::uint64_t seed = allocator_seed(GetParam());
  SCOPED_TRACE("ACCEDE_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random{seed};
  const auto config = random_bytes(random, 16);
  ActionBytes start{config};
  AllocatorActions actions{start};
  for (int i = 0; i < 400; ++i) {
    const auto bytes = random_bytes(random, 64);
    ActionBytes source{bytes};
    ASSERT_EQ(actions.step(source), "") << "step " << i;
  }
  EXPECT_EQ(actions.finish(), "");
}

INSTANTIATE_TEST_SUITE_P(Seeds, PageAllocatorModel, testing::Range<std::uint64_t>(1, 61));

// --- Many CPUs ---

constexpr unsigned kCpus = 4;

/// One CPU's random requests and frees; frees all in the end.
template <class Vm>
void work(Vm& vm, std::uint64_t seed, int requests) {
  std::mt19937_64 random{seed};
  std::vector<std::pair<PhysAddr, Order>> held;
  const auto release = [&] {
    std::swap(held[random() % held.size()], held.back());
    ASSERT_TRUE(vm.allocator.free(held.back().first, held.back().second));
    held.pop_back();
  };
  for (int i = 0; i < requests; ++i) {
    const Order order{static_cast<unsigned>(random() % 4 == 0 ? random() % 10 : 0)};
    const AllocOptions options{.no_wait = random() % 8 == 0};
    if (const auto block = vm.allocator.allocate(order, options)) {
      ASSERT_FALSE(vm.acceptor.contains_unaccepted(*PhysRange::make(*block, order.bytes())));
      held.emplace_back(*block, order);
    }
    while (held.size() > 300 || (!held.empty() && random() % 3 == 0)) {
      release();
    }
    if (random() % 256 == 0) {
      if (const auto run = vm.allocator.allocate_contiguous(PageCount{1 + random() % 600})) {
        ASSERT_TRUE(vm.allocator.free_contiguous(*run));
      }
    }
  }
  while (!held.empty()) {
    release();
  }
}

template <class Vm>
void expect_all_free(Vm& vm) {
  EXPECT_EQ(vm.allocator.counters().free, vm.total());
  EXPECT_EQ(vm.platform.accepted_bytes() + vm.table.unaccepted(), vm.unaccepted_at_start());
  EXPECT_EQ(vm.problem(), "");
}

VmConfig four_cpus() {
  return {.memory = {usable(0_MiB, 8_MiB), unaccepted(8_MiB, 56_MiB)},
          .zones = {{.span = area(0_MiB, 32_MiB), .node = 0},
                    {.span = area(32_MiB, 32_MiB), .node = 1}},
          .unit = 64_KiB,
          .cpus = kCpus};
}

TEST(PageAllocatorConcurrent, CpusAllocateAndFreeUnderLazy) {
  const std::uint64_t seed = allocator_seed(1);
  SCOPED_TRACE("ACCEDE_TEST_SEED=" + std::to_string(seed));
  for (std::uint64_t round = 0; round < 4; ++round) {
    SmallVm vm{four_cpus()};
    vm.allocator.assign_cpu(1, 1);
    run_on_cpus(kCpus, [&](unsigned cpu) { work(vm, seed + round * kCpus + cpu, 3000); });
    expect_all_free(vm);
  }
}

TEST(PageAllocatorConcurrent, CpusAddMemoryEagerlyAtTheSameTime) {
  VmConfig config = four_cpus();
  config.add_memory = false;
  for (int round = 0; round < 4; ++round) {
    SmallVm<Eager> vm{config};
    run_on_cpus(kCpus, [&](unsigned cpu) {
      for (std::uint64_t block = cpu; block < 16; block += kCpus) {
        const PhysRange part = area(4_MiB * block, 4_MiB);
        vm.allocator.prepare(part);
        ASSERT_TRUE(vm.allocator.add(part));
      }
    });
    EXPECT_EQ(vm.platform.accepted_bytes(), 56_MiB);
    EXPECT_EQ(vm.allocator.counters().unaccepted, Bytes{0});
    expect_all_free(vm);
  }
}

TEST(PageAllocatorConcurrent, CpusAcceptEverythingTogether) {
  SmallVm vm{four_cpus()};
  run_on_cpus(kCpus, [&](unsigned) { ASSERT_TRUE(vm.allocator.accept_everything()); });
  EXPECT_EQ(vm.platform.accepted_bytes(), 56_MiB);
  EXPECT_EQ(vm.allocator.counters().unaccepted, Bytes{0});
  expect_all_free(vm);
}

TEST(PageAllocatorConcurrent, MemoryIsTakenOutAndGivenBackWhileCpusAllocate) {
  SmallVm vm{four_cpus()};
  run_on_cpus(kCpus, [&](unsigned cpu) {
    if (cpu != 0) {
      work(vm, cpu, 2000);
      return;
    }
    std::mt19937_64 random{5};
    for (int i = 0; i < 400; ++i) {
      const PhysRange range = area(4_KiB * (random() % 15000), 4_KiB * (1 + random() % 1000));
      const auto taken = vm.allocator.take_out(range, i % 2 == 0);
      ASSERT_TRUE(taken);
      if (*taken) {
        ASSERT_TRUE(vm.allocator.free_contiguous(range));
      }
    }
  });
  expect_all_free(vm);
}

TEST(PageAllocatorConcurrent, APageThatManyCpusFreeIsFreedOnce) {
  SmallVm vm{four_cpus()};
  for (int round = 0; round < 200; ++round) {
    const PhysAddr page = *vm.allocator.allocate(Order{0});
    std::atomic<int> freed = 0;
    run_on_cpus(kCpus, [&](unsigned) { freed += vm.allocator.free(page, Order{0}) ? 1 : 0; });
    ASSERT_EQ(freed, 1);
  }
  expect_all_free(vm);
}

/// An acceptor thread as an embedder writes it: a wake-up during a step ends the next sleep.
template <class Vm>
class AcceptorThread {
 public:
  AcceptorThread(Vm& vm, const ReserveConfig& config) : vm_{vm}, background_{vm.allocator, config} {
    thread_ = std::jthread{[this] { run(); }};
  }
  ~AcceptorThread() {
    stop_ = true;
    vm_.hooks.wake_acceptor();
  }
  [[nodiscard]] bool sleeps() const { return sleeps_; }

 private:
  void run() {
    TestHooks::run_on(0);
    while (!stop_) {
      const std::uint64_t seen = vm_.hooks.wakes;
      const auto step = background_.step();
      if (step && step->sleep_ns == BackgroundStep::kUntilWoken && !stop_) {
        sleeps_ = true;
        vm_.hooks.wakes.wait(seen);
        sleeps_ = false;
      }
      vm_.hooks.now_ns += 1'000'000;
    }
  }

  Vm& vm_;
  BackgroundAcceptor<typename Vm::Allocator> background_;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> sleeps_ = false;
  std::jthread thread_;
};

TEST(PageAllocatorConcurrent, CpusAllocateAndFreeBesideAnAcceptorThread) {
  const std::uint64_t seed = allocator_seed(1);
  SCOPED_TRACE("ACCEDE_TEST_SEED=" + std::to_string(seed));
  for (std::uint64_t round = 0; round < 4; ++round) {
    SmallVm<Background> vm{four_cpus()};
    {
      AcceptorThread acceptor{vm, {.floor = 2_MiB}};
      run_on_cpus(kCpus, [&](unsigned cpu) { work(vm, seed + round * kCpus + cpu, 2000); });
    }
    expect_all_free(vm);
  }
}

TEST(PageAllocatorConcurrent, AnAcceptorThreadNeverSleepsOnALowReserve) {
  const std::uint64_t seed = allocator_seed(1);
  SCOPED_TRACE("ACCEDE_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random{seed};
  for (int round = 0; round < 4; ++round) {
    SmallVm<Background> vm{VmConfig{.memory = {unaccepted(64_MiB, 64_MiB)}, .unit = 64_KiB}};
    AcceptorThread acceptor{vm, {.floor = 1_MiB, .ceiling = 1_MiB}};
    const auto content = [&] {
      const ZoneCounters zone = vm.allocator.exact_counters(0);
      return zone.unaccepted == PageCount{0} || (acceptor.sleeps() && zone.free.bytes() >= 896_KiB);
    };
    while (vm.allocator.counters().unaccepted != Bytes{0}) {
      // Some of these meet the thread just when it falls asleep.
      for (std::uint64_t i = random() % 8; i > 0; --i) {
        ASSERT_TRUE(vm.allocator.allocate(Order{3}));
      }
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
      while (!content()) {
        ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "a wake-up was lost";
        std::this_thread::yield();
      }
    }
  }
}

}  // namespace
}  // namespace accede::guest
