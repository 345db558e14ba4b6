// Several vCPUs in one guest, on real memory: who accepts, who waits, and that nobody loses a page.
#include "accede/guest/background.hpp"
#include "tests/testbed/guest_vm.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <cstdint>
#include <random>
#include <vector>

namespace accede::testbed {
namespace {

using guest::AllocErrorKind;
using guest::Background;
using guest::Eager;
using guest::Lazy;
using test::Blocks;
using test::Kernel;
using test::Machine;
using test::on_cpus;
using test::Order;
using test::range;
using test::Snp;
using test::Tdx;
using test::Visibility;

constexpr unsigned kCpus = 4;

template <class Side>
class GuestConcurrencyTest : public testing::Test {};
using Sides = testing::Types<Tdx, Snp>;
TYPED_TEST_SUITE(GuestConcurrencyTest, Sides, test::SideNames);

/// A CPU that allocates and frees at random, and looks after what it holds.
template <class AnyKernel>
class BusyCpu {
 public:
  BusyCpu(AnyKernel& kernel, unsigned cpu)
      : kernel_{kernel}, random_{cpu + 1}, held_{kernel.machine().window(), cpu + 1} {}

  /// False: something went wrong.
  bool run(unsigned steps) {
    for (unsigned i = 0; i < steps; ++i) {
      if (!step()) {
        return false;
      }
    }
    return held_.intact();
  }
  bool give_back() { return held_.intact() && kernel_.give_back(held_); }
  [[nodiscard]] Bytes held() const { return held_.size(); }

 private:
  bool step() {
    constexpr std::array<unsigned, 8> kOrders{0, 0, 0, 1, 2, 4, 7, 9};
    if (held_.size() > 12_MiB) {
      return give_back();
    }
    const Order order{kOrders[random_() % kOrders.size()]};
    const auto error = kernel_.take(held_, order, {.no_wait = random_() % 8 == 0});
    return !error || error->kind == AllocErrorKind::kWouldAccept;
  }

  AnyKernel& kernel_;
  std::mt19937 random_;
  Blocks held_;
};

/// After all CPUs stopped: what was not accepted is what the table says, and nothing was asked for
/// twice.
template <class AnyKernel>
void expect_exact(AnyKernel& kernel) {
  const Counters counters = kernel.machine().bed().counters();
  EXPECT_EQ(counters.accepted_bytes + kernel.table().unaccepted().value(),
            kernel.machine().unaccepted().size().value());
  EXPECT_EQ(counters.refused, 0U);
  // A block counts as unaccepted as a whole, also when its first unit was somebody's guard.
  EXPECT_GE(kernel.allocator().counters().unaccepted, kernel.table().unaccepted());
  EXPECT_EQ(kernel.problem(), "");
}

/// Runs them until each gave back what it had.
template <class AnyKernel>
void run_busy_cpus(AnyKernel& kernel, unsigned steps) {
  std::atomic<unsigned> wrong = 0;
  on_cpus(kCpus, [&](unsigned cpu) {
    BusyCpu busy{kernel, cpu};
    wrong += !busy.run(steps) || !busy.give_back();
  });
  EXPECT_EQ(wrong, 0U);
}
/// Everything that the early allocator left is free again.
template <class AnyKernel>
void expect_all_free(AnyKernel& kernel) {
  Bytes pages;
  kernel.early().ranges().for_each_free(guest::kAnyNode, [&](const guest::EarlyRange& free) {
    const PhysAddr begin = free.range.begin().align_up(4_KiB);
    const PhysAddr end = free.range.end().align_down(4_KiB);
    pages += begin < end ? end - begin : 0_B;
  });
  EXPECT_EQ(kernel.allocator().counters().total, pages);
  EXPECT_EQ(kernel.allocator().counters().free, pages);
}

TYPED_TEST(GuestConcurrencyTest, ConcurrentCpusAllocateTouchAndFreeUnderTheLazyPolicy) {
  Machine<TypeParam> machine{{.memory = 128_MiB}};
  Kernel<TypeParam, Lazy> kernel{machine, kCpus};
  kernel.boot();
  run_busy_cpus(kernel, 300);
  expect_all_free(kernel);
  expect_exact(kernel);
}

TYPED_TEST(GuestConcurrencyTest, ConcurrentCpusShareOneHostThatBacksInSmallPages) {
  Machine<TypeParam> machine{{.memory = 64_MiB, .backing = host::Backing::k4K}};
  Kernel<TypeParam, Lazy> kernel{machine, kCpus};
  kernel.boot();
  run_busy_cpus(kernel, 100);
  expect_all_free(kernel);
  EXPECT_EQ(machine.bed().counters().accepted_bytes + kernel.table().unaccepted().value(),
            machine.unaccepted().size().value());
  EXPECT_EQ(kernel.problem(), "");
}

TYPED_TEST(GuestConcurrencyTest, ConcurrentCpusAndAnAcceptorThreadKeepExactAccounts) {
  Machine<TypeParam> machine{{.memory = 128_MiB}};
  Kernel<TypeParam, Background> kernel{machine, kCpus + 1};
  kernel.boot();
  std::atomic<bool> stop = false;
  std::atomic<unsigned> failed = 0;
  std::jthread acceptor{[&] {
    test::Hooks::run_on(kCpus);
    guest::BackgroundAcceptor background{kernel.allocator(), {.floor = 16_MiB}};
    while (!stop) {
      const std::uint64_t wakes = kernel.hooks().wakes;
      const auto step = background.step();
      failed += !step.has_value();
      if (step && step->sleep_ns == guest::BackgroundStep::kUntilWoken && !stop) {
        kernel.hooks().wakes.wait(wakes);
      }
    }
  }};
  run_busy_cpus(kernel, 300);
  stop = true;
  kernel.hooks().wake_acceptor();
  acceptor.join();
  EXPECT_EQ(failed, 0U);
  expect_all_free(kernel);
  expect_exact(kernel);
}

TYPED_TEST(GuestConcurrencyTest, ConcurrentCpusGetTheLastPageOfMemoryBetweenThem) {
  Machine<TypeParam> machine{{.memory = 64_MiB}};
  Kernel<TypeParam, Lazy> kernel{machine, kCpus};
  kernel.boot();
  const Bytes free = kernel.allocator().counters().free;
  std::vector<Blocks> held;
  for (unsigned cpu = 0; cpu < kCpus; ++cpu) {
    held.emplace_back(machine.window(), cpu);
  }
  std::atomic<unsigned> wrong = 0;
  on_cpus(kCpus, [&](unsigned cpu) {
    wrong += kernel.take_all(held[cpu]).kind != AllocErrorKind::kOutOfMemory;
  });
  // What a CPU's cache kept for itself is free too.
  Blocks rest{machine.window()};
  EXPECT_EQ(kernel.take_all(rest).kind, AllocErrorKind::kOutOfMemory);
  EXPECT_EQ(wrong, 0U);
  Bytes sum = rest.size();
  for (const Blocks& blocks : held) {
    EXPECT_TRUE(blocks.intact());
    sum += blocks.size();
  }
  EXPECT_EQ(sum, free);
  EXPECT_EQ(kernel.table().unaccepted(), 0_B);
  expect_exact(kernel);
}

TYPED_TEST(GuestConcurrencyTest, Regression_L01_ConcurrentAcceptsOfDifferentUnitsOverlapInTime) {
  Machine<TypeParam> machine{{.memory = 160_MiB}};
  Kernel<TypeParam> kernel{machine, kCpus};
  kernel.boot_to_early();
  std::barrier start{kCpus};
  std::atomic<unsigned> wrong = 0;
  on_cpus(kCpus, [&](unsigned cpu) {
    start.arrive_and_wait();
    for (unsigned unit = cpu; unit < 64; unit += kCpus) {
      const PhysRange pages = range(machine.at(16_MiB) + 2_MiB * unit, 1_MiB);
      wrong += !kernel.acceptor().accept(pages).has_value();
      machine.word(pages.begin()) = unit;
    }
  });
  EXPECT_EQ(wrong, 0U);
  EXPECT_GE(machine.bed().counters().accepts_at_once, 2U);
  EXPECT_EQ(kernel.acceptor().counters().waits, 0U);
  EXPECT_EQ(machine.bed().counters().refused, 0U);
  for (unsigned unit = 0; unit < 64; ++unit) {
    EXPECT_EQ(machine.word(machine.at(16_MiB) + 2_MiB * unit), unit);
  }
}

TYPED_TEST(GuestConcurrencyTest, ConcurrentRequestsForOneUnitAcceptItOnce) {
  Machine<TypeParam> machine{{.memory = 96_MiB}};
  Kernel<TypeParam> kernel{machine, kCpus};
  kernel.boot_to_early();
  std::atomic<std::uint64_t> accepted = 0;
  std::atomic<unsigned> wrong = 0;
  const std::uint64_t before = machine.bed().counters().accepted_bytes;
  on_cpus(kCpus, [&](unsigned) {
    for (unsigned unit = 0; unit < 32; ++unit) {
      const PhysRange pages = range(machine.at(16_MiB) + 2_MiB * unit, 64_KiB);
      const auto result = kernel.acceptor().accept(pages);
      wrong += !result.has_value();
      accepted += result.value_or(0_B).value();
      // Whoever accepted it: when the call returns, the page can be used.
      [[maybe_unused]] const std::uint64_t word = machine.word(pages.begin());
    }
  });
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(accepted, (64_MiB).value());
  EXPECT_EQ(machine.bed().counters().accepted_bytes - before, accepted);
  EXPECT_EQ(machine.bed().counters().refused, 0U);
}

TYPED_TEST(GuestConcurrencyTest, ConcurrentDeferredInitAddsEveryPageOnce) {
  Machine<TypeParam> machine{{.memory = 640_MiB}};
  Kernel<TypeParam, Lazy> kernel{machine, kCpus};
  kernel.boot_to_early();
  test::must(kernel.open_allocator(), "allocator");
  std::atomic<unsigned> wrong = 0;
  std::atomic<unsigned> steps = 0;
  on_cpus(kCpus, [&](unsigned cpu) {
    Blocks blocks{machine.window(), cpu};
    for (;;) {
      const auto more = kernel.init().step();
      wrong += !more.has_value();
      if (!more || !*more) {
        break;
      }
      ++steps;
      wrong += kernel.take(blocks, Order{3}).has_value();
    }
    wrong += !blocks.intact() || !kernel.give_back(blocks);
  });
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(steps, 640U / 64);
  expect_all_free(kernel);
  expect_exact(kernel);
}

TYPED_TEST(GuestConcurrencyTest, ConcurrentEagerInitAcceptsEveryPageOnce) {
  Machine<TypeParam> machine{{.memory = 256_MiB}};
  Kernel<TypeParam, Eager> kernel{machine, kCpus};
  kernel.boot_to_early();
  test::must(kernel.open_allocator(), "allocator");
  std::atomic<unsigned> wrong = 0;
  on_cpus(kCpus, [&](unsigned) { wrong += !kernel.init().run().has_value(); });
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(kernel.table().unaccepted(), 0_B);
  EXPECT_EQ(kernel.allocator().counters().unaccepted, 0_B);
  expect_all_free(kernel);
  expect_exact(kernel);
}

TYPED_TEST(GuestConcurrencyTest, ConcurrentConversionsLeaveOtherPagesAlone) {
  Machine<TypeParam> machine{{.memory = 64_MiB}};
  Kernel<TypeParam, Lazy> kernel{machine, kCpus};
  kernel.boot();
  std::atomic<unsigned> wrong = 0;
  on_cpus(kCpus, [&](unsigned cpu) {
    BusyCpu busy{kernel, cpu};
    for (unsigned round = 0; round < 10; ++round) {
      wrong += !busy.run(10);
      const auto lent = kernel.allocator().allocate(Order{2});
      if (!lent) {
        ++wrong;
        continue;
      }
      const PhysRange pages = range(*lent, 16_KiB);
      wrong += !kernel.platform().convert(pages, Visibility::kShared).has_value();
      machine.word(*lent) = cpu;
      wrong += !kernel.platform().convert(pages, Visibility::kPrivate).has_value();
      wrong += machine.word(*lent) != TypeParam::kFresh;
      wrong += !kernel.allocator().free(*lent, Order{2}).has_value();
    }
    wrong += !busy.give_back();
  });
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(kernel.problem(), "");
}

TYPED_TEST(GuestConcurrencyTest, ConcurrentCpusGetOverAHostThatRefusesNowAndThen) {
  Machine<TypeParam> machine{{.memory = 128_MiB}};
  Kernel<TypeParam, Lazy> kernel{machine, kCpus};
  kernel.boot();
  const bool tdx = TypeParam::kKind == guest::PlatformKind::kTdx;
  std::vector<host::HostileRule> rules;
  for (unsigned i = 0; i < 20; ++i) {
    rules.push_back({.event = tdx ? host::HostileEvent::kAccept : host::HostileEvent::kValidate,
                     .act = host::HostileAct::kStatus,
                     .first = 2 + i * 2ULL,
                     .value = 0xC000'0100'0000'0001});
  }
  machine.play(rules);
  std::atomic<unsigned> wrong = 0;
  std::atomic<unsigned> refused = 0;
  on_cpus(kCpus, [&](unsigned cpu) {
    Blocks blocks{machine.window(), cpu};
    for (;;) {
      const auto error = kernel.take(blocks, Order{cpu});
      if (error && error->kind == AllocErrorKind::kOutOfMemory) {
        break;
      }
      refused += error.has_value();
      wrong += error && error->accept.failure.kind != guest::FailureKind::kRefused;
    }
    wrong += !blocks.intact() || !kernel.give_back(blocks);
  });
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(refused, 20U);
  EXPECT_EQ(machine.bed().counters().accepted_bytes + kernel.table().unaccepted().value(),
            machine.unaccepted().size().value());
  EXPECT_EQ(kernel.allocator().counters().free, kernel.allocator().counters().total);
  EXPECT_EQ(kernel.problem(), "");
}

}  // namespace
}  // namespace accede::testbed
