#include "accede/guest/acceptor.hpp"

#include "tests/guest/fake_platform.hpp"
#include "tests/guest/naive_table.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace accede::guest {
namespace {

using test::FakePlatform;
using test::NaiveTable;
using test::OwnedTable;
using test::range;

constexpr std::uint64_t k2M = 2 << 20;
constexpr std::uint64_t kBase = 1ULL << 32;

/// Tests have more threads than CPUs: whoever waits gives way.
struct Yield {
  void operator()() const { std::this_thread::yield(); }
};
using TestAcceptor = Acceptor<FakePlatform, Yield>;

/// Units [first, after) of the table at kBase.
PhysRange units(std::uint64_t first, std::uint64_t after) {
  return range(kBase + first * k2M, kBase + after * k2M);
}
/// The same without the last page: no guard unit.
PhysRange inside(std::uint64_t first, std::uint64_t after) {
  return range(kBase + first * k2M, kBase + after * k2M - 4096);
}

/// A table of unaccepted units at 4 GiB, a platform and an acceptor.
struct Guest {
  explicit Guest(std::uint64_t count = 64, Bytes step = 2_MiB)
      : table{OwnedTable::all_set(kBase, count)}, platform{step}, acceptor{*table, platform} {}

  /// True when no unit of the table has a bit that disagrees with the platform.
  [[nodiscard]] bool consistent() {
    const auto bits = test::bits_of(*table);
    for (std::size_t i = 0; i < bits.size(); ++i) {
      const PhysRange unit = units(i, i + 1);
      if (bits[i] ? platform.accepted(unit) : !platform.accepted(unit)) {
        return false;
      }
    }
    return platform.double_accepts().empty() && table->invariants();
  }

  OwnedTable table;
  FakePlatform platform;
  TestAcceptor acceptor;
};

TEST(Acceptor, AcceptsTheUnitsOfARangeAndTheGuard) {
  Guest guest;
  EXPECT_EQ(guest.acceptor.accept(range(kBase + 5 * k2M + 100, kBase + 7 * k2M)), 6_MiB);
  EXPECT_EQ(guest.platform.accepted_runs(), std::vector{units(5, 8)});
  EXPECT_FALSE(guest.table->any_unaccepted(units(5, 8)));
  EXPECT_TRUE(guest.table->any_unaccepted(units(4, 5)));
  EXPECT_TRUE(guest.table->any_unaccepted(units(8, 9)));
  EXPECT_TRUE(guest.consistent());
}

TEST(Acceptor, WhatIsAcceptedCostsNoFurtherCall) {
  Guest guest;
  ASSERT_TRUE(guest.acceptor.accept(units(0, 4)));
  const std::size_t calls = guest.platform.call_count();
  EXPECT_EQ(guest.acceptor.accept(units(0, 4)), 0_B);
  EXPECT_EQ(guest.acceptor.accept(inside(1, 3)), 0_B);
  EXPECT_EQ(guest.platform.call_count(), calls);
}

TEST(Acceptor, AcceptsOnlyWhatIsStillUnaccepted) {
  Guest guest;
  ASSERT_TRUE(guest.acceptor.accept(inside(3, 4)));
  ASSERT_TRUE(guest.acceptor.accept(inside(6, 7)));
  EXPECT_EQ(guest.acceptor.accept(inside(2, 8)), 8_MiB);
  EXPECT_TRUE(guest.consistent());
}

TEST(Acceptor, SaysWhetherARangeOrItsGuardIsUnaccepted) {
  Guest guest;
  ASSERT_TRUE(guest.acceptor.accept(inside(0, 4)));
  EXPECT_FALSE(guest.acceptor.contains_unaccepted(inside(0, 4)));
  EXPECT_TRUE(guest.acceptor.contains_unaccepted(units(0, 4)));
  EXPECT_TRUE(guest.acceptor.contains_unaccepted(range(0, kBase + 5 * k2M)));
  EXPECT_FALSE(guest.acceptor.contains_unaccepted(range(0, kBase)));
}

TEST(Acceptor, AnEmptyRangeNeedsNothing) {
  Guest guest;
  EXPECT_EQ(guest.acceptor.accept(range(kBase, kBase)), 0_B);
  EXPECT_FALSE(guest.acceptor.contains_unaccepted(range(kBase, kBase)));
  EXPECT_EQ(guest.acceptor.counters().accept_calls, 0U);
}

TEST(Acceptor, WithoutATableEveryCallIsANoOp) {
  UnacceptedTable table;
  FakePlatform platform;
  TestAcceptor acceptor{table, platform};
  EXPECT_EQ(acceptor.accept(range(0, ~0ULL)), 0_B);
  EXPECT_FALSE(acceptor.contains_unaccepted(range(0, ~0ULL)));
  const auto some = acceptor.accept_some(range(0, 1 << 30), 2_MiB);
  ASSERT_TRUE(some);
  EXPECT_TRUE(some->rest.empty());
  EXPECT_EQ(platform.call_count(), 0U);
}

TEST(Acceptor, WithoutAConfidentialPlatformEveryCallIsANoOpAndTheTableStays) {
  OwnedTable table{OwnedTable::all_set(kBase, 8)};
  NoPlatform platform;
  Acceptor<NoPlatform> acceptor{*table, platform};
  EXPECT_EQ(acceptor.accept(units(0, 8)), 0_B);
  EXPECT_FALSE(acceptor.contains_unaccepted(units(0, 8)));
  const auto some = acceptor.accept_some(units(0, 8), 2_MiB);
  ASSERT_TRUE(some);
  EXPECT_TRUE(some->rest.empty());
  const auto rest = acceptor.accept_rest(units(0, 8), 2_MiB);
  ASSERT_TRUE(rest);
  EXPECT_TRUE(rest->rest.empty());
  EXPECT_EQ(table->unaccepted(), 16_MiB);
}

TEST(Acceptor, BitsAreSetWhileThePlatformWorks) {
  Guest guest;
  guest.platform.on_entry([&](PhysRange asked) {
    EXPECT_EQ(guest.table->count(asked), asked.size());
    EXPECT_TRUE(guest.acceptor.contains_unaccepted(asked));
  });
  EXPECT_TRUE(guest.acceptor.accept(units(0, 10)));
  EXPECT_EQ(guest.platform.call_count(), 11U);
}

TEST(Acceptor, ATableThatIsAttachedLaterSetsTheUnit) {
  OwnedTable table;
  FakePlatform platform{2_MiB};
  TestAcceptor acceptor{*table, platform};
  ASSERT_TRUE(table.attach(OwnedTable::all_set(kBase, 8, 8_MiB).bytes()));
  EXPECT_EQ(acceptor.step(), 8_MiB);
  EXPECT_EQ(acceptor.accept(range(kBase, kBase + 4096)), 8_MiB);
  EXPECT_EQ(platform.accepted_runs(), std::vector{range(kBase, kBase + 4 * k2M)});
}

// --- Failures ---

TEST(Acceptor, AFailureLeavesTheBitsAndNamesUnitPageAndStatus) {
  Guest guest;
  const PhysAddr page{kBase + 3 * k2M + 5 * 4096};
  guest.platform.fail_at(page, FailureKind::kRefused, 0xC0DE);
  const auto result = guest.acceptor.accept(inside(2, 6));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().units, units(3, 4));
  EXPECT_EQ(result.error().failure.kind, FailureKind::kRefused);
  EXPECT_EQ(result.error().failure.status, 0xC0DEU);
  EXPECT_EQ(result.error().failure.at, page);
  EXPECT_EQ(result.error().failure.done_end, page);
  EXPECT_EQ(result.error().accepted, 2_MiB);
  EXPECT_FALSE(guest.table->any_unaccepted(units(2, 3)));
  EXPECT_EQ(guest.table->count(units(3, 6)), 6_MiB);
  EXPECT_TRUE(guest.consistent());
}

TEST(Acceptor, ARetryGoesOnAtThePageThatFailed) {
  for (const std::uint64_t failed : {0U, 1U, 7U, 511U}) {
    Guest guest;
    guest.platform.fail_at(PhysAddr{kBase + failed * 4096}, FailureKind::kRefused, 1);
    ASSERT_FALSE(guest.acceptor.accept(inside(0, 1)));
    EXPECT_EQ(guest.acceptor.accept(inside(0, 1)), 2_MiB);
    EXPECT_EQ(guest.platform.calls().back().range, range(kBase + failed * 4096, kBase + k2M));
    EXPECT_TRUE(guest.consistent());
  }
}

TEST(Acceptor, APageThatStaysBusyIsTriedFromThereEachTime) {
  Guest guest;
  const PhysAddr page{kBase + 4096 * 100};
  guest.platform.busy_at(page, 20);
  for (int i = 0; i < 20; ++i) {
    const auto result = guest.acceptor.accept(inside(0, 1));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().failure.kind, FailureKind::kBusyForever);
    EXPECT_EQ(result.error().failure.at, page);
  }
  EXPECT_TRUE(guest.acceptor.accept(inside(0, 1)));
  EXPECT_TRUE(guest.consistent());
}

TEST(Acceptor, AUnitThatFailsAgainAndAgainDoesNotPushOutAnother) {
  Guest guest;
  guest.platform.fail_at(PhysAddr{kBase + 4096}, FailureKind::kRefused, 1);
  ASSERT_FALSE(guest.acceptor.accept(inside(0, 1)));
  guest.platform.busy_at(PhysAddr{kBase + 5 * k2M + 4096}, 30);
  for (int i = 0; i < 30; ++i) {
    ASSERT_FALSE(guest.acceptor.accept(inside(5, 6)));
  }
  EXPECT_TRUE(guest.acceptor.accept(inside(0, 1)));
  EXPECT_TRUE(guest.acceptor.accept(inside(5, 6)));
  EXPECT_TRUE(guest.consistent());
}

TEST(Acceptor, EightUnitsThatFailedPartWayAreRemembered) {
  Guest guest{64, 16_MiB};
  for (std::uint64_t i = 0; i < 8; ++i) {
    guest.platform.fail_at(PhysAddr{kBase + 2 * i * k2M + 4096 * (i + 1)}, FailureKind::kRefused,
                           1);
    ASSERT_FALSE(guest.acceptor.accept(inside(2 * i, 2 * i + 1)));
  }
  EXPECT_EQ(guest.acceptor.accept(inside(0, 17)), 34_MiB);
  EXPECT_TRUE(guest.consistent());
}

TEST(Acceptor, BeyondThatTheOldestIsForgottenAndEndsInAlreadyAccepted) {
  Guest guest;
  for (std::uint64_t i = 0; i < 9; ++i) {
    guest.platform.fail_at(PhysAddr{kBase + i * k2M + 4096}, FailureKind::kRefused, 1);
    ASSERT_FALSE(guest.acceptor.accept(inside(i, i + 1)));
  }
  for (std::uint64_t i = 1; i < 9; ++i) {
    EXPECT_TRUE(guest.acceptor.accept(inside(i, i + 1))) << i;
  }
  const auto oldest = guest.acceptor.accept(inside(0, 1));
  ASSERT_FALSE(oldest);
  EXPECT_EQ(oldest.error().failure.kind, FailureKind::kAlreadyAccepted);
}

TEST(Acceptor, TheOldestIsTheOneThatFailedFirst) {
  Guest guest;
  const auto fail_part_way = [&](std::uint64_t unit) {
    guest.platform.fail_at(PhysAddr{kBase + unit * k2M + 4096}, FailureKind::kRefused, 1);
    ASSERT_FALSE(guest.acceptor.accept(inside(unit, unit + 1)));
  };
  for (std::uint64_t i = 0; i < 8; ++i) {
    fail_part_way(i);
  }
  ASSERT_TRUE(guest.acceptor.accept(inside(0, 1)));  // makes room for one
  fail_part_way(8);
  fail_part_way(9);  // pushes out unit 1, the oldest that is left
  for (std::uint64_t i = 2; i < 10; ++i) {
    EXPECT_TRUE(guest.acceptor.accept(inside(i, i + 1))) << i;
  }
  EXPECT_FALSE(guest.acceptor.accept(inside(1, 2)));
}

TEST(Acceptor, AFailureInsideAStepKeepsTheUnitsBeforeIt) {
  Guest guest{64, 16_MiB};
  guest.platform.fail_at(PhysAddr{kBase + 5 * k2M + 4096}, FailureKind::kRefused, 7);
  const auto result = guest.acceptor.accept(inside(0, 8));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().units, units(5, 8));
  EXPECT_EQ(result.error().accepted, 10_MiB) << "the units of the failed step count too";
  EXPECT_EQ(guest.table->unaccepted(), 128_MiB - 10_MiB);
  EXPECT_EQ(guest.acceptor.counters().accepted, 10_MiB);
  EXPECT_EQ(guest.acceptor.accept(inside(0, 8)), 6_MiB);
  EXPECT_EQ(guest.platform.calls().back().range, range(kBase + 5 * k2M + 4096, kBase + 8 * k2M));
  EXPECT_TRUE(guest.consistent());
}

TEST(Acceptor, AFailureOnAUnitBoundaryNeedsNoMemory) {
  Guest guest{64, 16_MiB};
  for (std::uint64_t i = 0; i < 20; ++i) {
    guest.platform.fail_at(PhysAddr{kBase + (3 * i + 1) * k2M}, FailureKind::kRefused, 7);
    const auto result = guest.acceptor.accept(inside(3 * i, 3 * i + 2));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().units, units(3 * i + 1, 3 * i + 2));
    EXPECT_EQ(result.error().accepted, 2_MiB);
  }
  EXPECT_EQ(guest.acceptor.accept(inside(0, 64)), 128_MiB - 40_MiB);
  EXPECT_TRUE(guest.consistent());
}

TEST(Acceptor, AStepIsCutWhereAUnitFailedEarlier) {
  Guest guest{64, 16_MiB};
  for (const std::uint64_t unit : {2U, 3U, 6U}) {
    guest.platform.fail_at(PhysAddr{kBase + unit * k2M + 8192}, FailureKind::kRefused, 7);
    ASSERT_FALSE(guest.acceptor.accept(inside(unit, unit + 1)));
  }
  EXPECT_EQ(guest.acceptor.accept(inside(0, 8)), 16_MiB);
  EXPECT_TRUE(guest.consistent());
}

TEST(Acceptor, AFailureInALaterPieceOfAStepCountsTheEarlierPieces) {
  Guest guest{64, 16_MiB};
  guest.platform.fail_at(PhysAddr{kBase + 2 * k2M + 8192}, FailureKind::kRefused, 7, 2);
  ASSERT_FALSE(guest.acceptor.accept(inside(2, 3)));
  const auto result = guest.acceptor.accept(inside(0, 8));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().accepted, 4_MiB);
  EXPECT_EQ(guest.acceptor.counters().accepted, 4_MiB);
  EXPECT_EQ(guest.acceptor.counters().longest_call, 4_MiB);
}

TEST(Acceptor, AcceptedMemoryOfferedAsUnacceptedIsAnAttackNotASuccess) {
  Guest guest;
  guest.platform.assume_accepted(range(kBase + k2M, kBase + k2M + 4096));
  const auto result = guest.acceptor.accept(inside(0, 4));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().failure.kind, FailureKind::kAlreadyAccepted);
  EXPECT_EQ(result.error().units, units(1, 2));
  EXPECT_TRUE(guest.table->any_unaccepted(units(1, 2)));
}

/// Says that it got further than it was asked to, or less far than nothing.
struct LyingPlatform {
  PlatformResult accept(PhysRange) {
    ++calls;
    return std::unexpected{PlatformFailure{.kind = FailureKind::kHostLied,
                                           .status = 1,
                                           .at = done_end,
                                           .size = PageSize::k4K,
                                           .done_end = done_end}};
  }
  PlatformResult convert(PhysRange, Visibility) { return {}; }
  [[nodiscard]] PlatformKind kind() const { return PlatformKind::kTdx; }
  [[nodiscard]] Bytes preferred_step() const { return 4_MiB; }

  PhysAddr done_end;
  unsigned calls = 0;
};

TEST(Acceptor, ProgressOutsideTheRequestTouchesNoOtherUnit) {
  for (const PhysAddr done_end : {PhysAddr{0}, PhysAddr{kBase}, PhysAddr{~0ULL}}) {
    OwnedTable table{OwnedTable::all_set(kBase, 8)};
    LyingPlatform platform{.done_end = done_end};
    Acceptor<LyingPlatform> acceptor{*table, platform};
    EXPECT_FALSE(acceptor.accept(inside(2, 4)));
    EXPECT_EQ(table->count(units(0, 2)), 4_MiB);
    EXPECT_EQ(table->count(units(4, 8)), 8_MiB);
    EXPECT_TRUE(table->invariants());
  }
}

// --- Budgets ---

TEST(Acceptor, ABudgetEndsACallAndTheRestFinishesIt) {
  Guest guest;
  auto progress = guest.acceptor.accept_some(units(0, 9), 6_MiB);
  ASSERT_TRUE(progress);
  EXPECT_EQ(progress->accepted, 6_MiB);
  EXPECT_EQ(progress->rest, units(3, 10));
  Bytes sum = progress->accepted;
  int calls = 1;
  while (!progress->rest.empty()) {
    progress = guest.acceptor.accept_rest(progress->rest, 6_MiB);
    ASSERT_TRUE(progress);
    ASSERT_GT(progress->accepted, 0_B);
    sum += progress->accepted;
    ++calls;
  }
  EXPECT_EQ(sum, 20_MiB) << "the guard once";
  EXPECT_EQ(calls, 4);
  EXPECT_EQ(guest.platform.accepted_runs(), std::vector{units(0, 10)});
  EXPECT_EQ(guest.acceptor.counters().accepted, 20_MiB);
  EXPECT_TRUE(guest.consistent());
}

TEST(Acceptor, ABudgetBelowAUnitAcceptsOneUnit) {
  for (const Bytes budget : {0_B, 1_B, 2_MiB - 1_B, 2_MiB, 4_MiB - 1_B}) {
    Guest guest{64, 16_MiB};
    const auto progress = guest.acceptor.accept_some(inside(0, 9), budget);
    ASSERT_TRUE(progress);
    EXPECT_EQ(progress->accepted, 2_MiB) << budget.value();
    EXPECT_EQ(progress->rest, units(1, 9));
  }
}

TEST(Acceptor, ABudgetIsNeverExceededWhateverTheStep) {
  for (std::uint64_t step = 1; step <= 8; ++step) {
    for (std::uint64_t budget = 1; budget <= 12; ++budget) {
      Guest guest{64, 2_MiB * step};
      ASSERT_TRUE(guest.acceptor.accept(inside(4, 5)));
      const auto progress = guest.acceptor.accept_some(inside(0, 30), 2_MiB * budget);
      ASSERT_TRUE(progress);
      EXPECT_EQ(progress->accepted, 2_MiB * budget) << "step " << step;
      EXPECT_EQ(progress->rest.begin(), units(budget + (budget >= 4 ? 1 : 0), 64).begin());
    }
  }
}

TEST(Acceptor, ABudgetThatSufficesLeavesNoRest) {
  Guest guest;
  const auto progress = guest.acceptor.accept_some(units(0, 4), 10_MiB);
  ASSERT_TRUE(progress);
  EXPECT_EQ(progress->accepted, 10_MiB);
  EXPECT_TRUE(progress->rest.empty());
}

TEST(Acceptor, ABudgetedCallThatFailsSaysWhatItDid) {
  Guest guest;
  guest.platform.fail_at(PhysAddr{kBase + 2 * k2M}, FailureKind::kRefused, 3);
  const auto progress = guest.acceptor.accept_some(units(0, 4), 20_MiB);
  ASSERT_FALSE(progress);
  EXPECT_EQ(progress.error().accepted, 4_MiB);
  EXPECT_EQ(progress.error().units, units(2, 3));
}

// --- Counters ---

TEST(Acceptor, CountersAreExact) {
  Guest guest{64, 8_MiB};
  ASSERT_TRUE(guest.acceptor.accept(inside(0, 10)));  // 4 + 4 + 2 units
  ASSERT_TRUE(guest.acceptor.accept(inside(0, 10)));  // nothing to do
  guest.platform.fail_at(PhysAddr{kBase + 21 * k2M}, FailureKind::kRefused, 3);
  ASSERT_FALSE(guest.acceptor.accept(inside(20, 24)));
  const AcceptorCounters counters = guest.acceptor.counters();
  EXPECT_EQ(counters.accept_calls, 2U);
  EXPECT_EQ(counters.platform_calls, 4U);
  EXPECT_EQ(counters.waits, 0U);
  EXPECT_EQ(counters.failures, 1U);
  EXPECT_EQ(counters.accepted, 22_MiB);
  EXPECT_EQ(counters.longest_step, 8_MiB);
  EXPECT_EQ(counters.longest_call, 20_MiB);
}

TEST(Acceptor, Regression_L03_no_platform_call_is_longer_than_the_step) {
  for (const Bytes step : {0_B, 4_KiB, 2_MiB, 3_MiB, 6_MiB, 64_MiB}) {
    Guest guest{64, step};
    const Bytes bound = guest.acceptor.step();
    EXPECT_EQ(bound, 2_MiB * std::max<std::uint64_t>(1, step / 2_MiB));
    ASSERT_TRUE(guest.acceptor.accept(units(0, 64)));
    Bytes longest;
    for (const FakePlatform::Call& call : guest.platform.calls()) {
      longest = std::max(longest, call.range.size());
    }
    EXPECT_LE(longest, bound);
    EXPECT_EQ(guest.acceptor.counters().longest_step, longest) << "and it is reported";
  }
}

// --- accept_all() ---

struct Regions {
  explicit Regions(std::vector<MemoryRegion> list) : regions{std::move(list)} {
    const auto result = MemoryMap::from_regions(regions);
    EXPECT_TRUE(result);
    map = result.value_or(MemoryMap{});
  }
  std::vector<MemoryRegion> regions;
  MemoryMap map;
};

TEST(AcceptAll, AcceptsEveryUnacceptedRegionAndNothingElse) {
  const Regions regions{{{range(0, 0x9F000), MemoryKind::kUsable, 0},
                         {range(0x100000, 0x7FF000), MemoryKind::kUnaccepted, 0},
                         {range(kBase, kBase + 9 * k2M), MemoryKind::kUnaccepted, 0}}};
  FakePlatform platform;
  EXPECT_EQ(accept_all(regions.map, platform), Bytes{0x6FF000 + 9 * k2M});
  EXPECT_EQ(platform.accepted_runs(),
            (std::vector{range(0x100000, 0x7FF000), range(kBase, kBase + 9 * k2M)}));
}

TEST(AcceptAll, StepsEndAtMultiplesOfTheStep) {
  const Regions regions{{{range(0x1FF000, 0x601000), MemoryKind::kUnaccepted, 0}}};
  FakePlatform platform;
  ASSERT_TRUE(accept_all(regions.map, platform));
  std::vector<PhysRange> steps;
  for (const FakePlatform::Call& call : platform.calls()) {
    steps.push_back(call.range);
  }
  EXPECT_EQ(steps, (std::vector{range(0x1FF000, 0x200000), range(0x200000, 0x400000),
                                range(0x400000, 0x600000), range(0x600000, 0x601000)}));
}

TEST(AcceptAll, ReachesTheTopOfTheAddressSpace) {
  const PhysRange top = range(~0ULL - 0x2FFF, ~0ULL - 0xFFF);
  const Regions regions{{{top, MemoryKind::kUnaccepted, 0}}};
  FakePlatform platform;
  EXPECT_EQ(accept_all(regions.map, platform), 8_KiB);
  EXPECT_TRUE(platform.accepted(top));
}

TEST(AcceptAll, EndsWithTheFirstFailure) {
  const Regions regions{{{range(0, 16 * k2M), MemoryKind::kUnaccepted, 0}}};
  FakePlatform platform;
  platform.fail_at(PhysAddr{5 * k2M}, FailureKind::kHostLied, 9);
  const auto result = accept_all(regions.map, platform);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, FailureKind::kHostLied);
  EXPECT_EQ(result.error().done_end, PhysAddr{5 * k2M});
  EXPECT_EQ(platform.accepted_bytes(), 10_MiB);
}

TEST(AcceptAll, AMapWithoutUnacceptedMemoryIsDone) {
  FakePlatform platform;
  EXPECT_EQ(accept_all(MemoryMap{}, platform), 0_B);
}

// --- Several CPUs ---

void run_threads(unsigned count, const std::function<void(unsigned)>& body) {
  std::barrier start{static_cast<std::ptrdiff_t>(count)};
  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      start.arrive_and_wait();
      body(i);
    });
  }
}

/// Lets `count` calls meet inside the platform; gives up after a while so that a failing test ends.
class Meeting {
 public:
  explicit Meeting(unsigned count) : count_{count} {}
  [[nodiscard]] bool attend() {
    arrived_.fetch_add(1);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{20};
    while (arrived_.load() < count_) {
      if (std::chrono::steady_clock::now() > end) {
        return false;
      }
      std::this_thread::yield();
    }
    return true;
  }

 private:
  unsigned count_;
  std::atomic<unsigned> arrived_ = 0;
};

TEST(AcceptorConcurrent, Regression_L01_parallel_accepts_of_different_units_overlap_in_time) {
  Guest guest;
  Meeting meeting{4};
  guest.platform.on_entry([&](PhysRange) { EXPECT_TRUE(meeting.attend()); });
  run_threads(4, [&](unsigned thread) {
    EXPECT_EQ(guest.acceptor.accept(inside(thread * 10, thread * 10 + 1)), 2_MiB);
  });
  EXPECT_EQ(guest.platform.most_at_once(), 4U);
  EXPECT_EQ(guest.acceptor.counters().waits, 0U);
  EXPECT_TRUE(guest.consistent());
}

TEST(AcceptorConcurrent, Regression_L01_no_lock_is_held_during_a_platform_call) {
  // Whatever is asked from inside a platform call is answered: looking, counting, accepting others.
  Guest guest;
  std::atomic<unsigned> nested = 0;
  guest.platform.on_entry([&](PhysRange asked) {
    if (asked.begin() == PhysAddr{kBase} && nested.fetch_add(1) == 0) {
      std::jthread other{[&] {
        EXPECT_EQ(guest.acceptor.accept(units(10, 12)), 6_MiB);
        EXPECT_TRUE(guest.acceptor.contains_unaccepted(units(0, 1)));
        EXPECT_EQ(guest.acceptor.counters().accepted, 6_MiB);
        guest.table->mark_unaccepted(units(12, 13));
        EXPECT_EQ(guest.table->count(units(10, 13)), 2_MiB);
      }};
    }
  });
  EXPECT_EQ(guest.acceptor.accept(inside(0, 1)), 2_MiB);
  EXPECT_EQ(nested.load(), 1U);
}

TEST(AcceptorConcurrent, Regression_L02_neighbours_never_wait_for_each_other) {
  // Each thread's units, its guard included, end where the next one's begin.
  Guest guest{64, 4_MiB};
  Meeting meeting{4};
  guest.platform.on_entry([&](PhysRange) { EXPECT_TRUE(meeting.attend()); });
  run_threads(4, [&](unsigned thread) {
    EXPECT_EQ(guest.acceptor.accept(units(2 * thread, 2 * thread + 1)), 4_MiB);
  });
  EXPECT_EQ(guest.platform.most_at_once(), 4U);
  EXPECT_EQ(guest.acceptor.counters().waits, 0U);
  EXPECT_EQ(guest.platform.accepted_runs(), std::vector{units(0, 8)});
}

TEST(AcceptorConcurrent, OfThreadsThatNeedOneUnitOneAcceptsItAndAllSeeIt) {
  for (int round = 0; round < 100; ++round) {
    Guest guest{8};
    std::atomic<std::uint64_t> accepted = 0;
    unsigned content = 0;  // not atomic: TSan sees a reader that does not wait for the accept
    guest.platform.on_entry([&](PhysRange) { content = 1; });
    run_threads(4, [&](unsigned) {
      const auto result = guest.acceptor.accept(inside(3, 4));
      ASSERT_TRUE(result);
      accepted += result->value();
      EXPECT_EQ(content, 1U);
    });
    EXPECT_EQ(accepted.load(), k2M);
    EXPECT_EQ(guest.platform.call_count(), 1U);
    EXPECT_TRUE(guest.consistent());
  }
}

TEST(AcceptorConcurrent, WhoMustWaitFirstDoesWhatItCan) {
  Guest guest;
  std::atomic<bool> go_on = false;
  guest.platform.on_entry([&](PhysRange asked) {
    if (asked.begin() == units(0, 1).begin()) {
      while (!go_on.load()) {
        std::this_thread::yield();
      }
    }
  });
  std::jthread holder{[&] { EXPECT_EQ(guest.acceptor.accept(inside(0, 1)), 2_MiB); }};
  while (guest.platform.most_at_once() == 0) {
    std::this_thread::yield();
  }
  std::jthread other{[&] { EXPECT_EQ(guest.acceptor.accept(inside(0, 4)), 6_MiB); }};
  while (!guest.platform.accepted(units(1, 4))) {
    std::this_thread::yield();
  }
  EXPECT_FALSE(guest.platform.accepted(units(0, 1)));
  go_on = true;
  holder.join();
  other.join();
  EXPECT_TRUE(guest.consistent());
  EXPECT_EQ(guest.acceptor.counters().accepted, 8_MiB);
  EXPECT_EQ(guest.acceptor.counters().waits, 1U);
}

TEST(AcceptorConcurrent, ABudgetThatIsSpentDoesNotWaitForAnother) {
  Guest guest;
  std::atomic<bool> go_on = false;
  guest.platform.on_entry([&](PhysRange asked) {
    while (asked.begin() == units(0, 1).begin() && !go_on.load()) {
      std::this_thread::yield();
    }
  });
  std::jthread holder{[&] { EXPECT_TRUE(guest.acceptor.accept(inside(0, 1))); }};
  while (guest.platform.most_at_once() == 0) {
    std::this_thread::yield();
  }
  // Unit 0 is held; the other three are exactly the budget.
  const auto progress = guest.acceptor.accept_some(inside(0, 4), 6_MiB);
  go_on = true;
  ASSERT_TRUE(progress);
  EXPECT_EQ(progress->accepted, 6_MiB);
  EXPECT_EQ(progress->rest, units(0, 4)) << "the unit that another holds is still to be seen to";
  holder.join();
  const auto rest = guest.acceptor.accept_rest(progress->rest, 6_MiB);
  ASSERT_TRUE(rest);
  EXPECT_EQ(rest->accepted, 0_B);
  EXPECT_TRUE(rest->rest.empty());
}

TEST(AcceptorConcurrent, APlatformThatAlwaysFailsEndsInAnErrorForEveryThread) {
  for (int round = 0; round < 20; ++round) {
    Guest guest{64, 8_MiB};
    guest.platform.fail_after(3, FailureKind::kBusyForever, FakePlatform::kBusyStatus,
                              FakePlatform::kAlways);
    std::atomic<unsigned> errors = 0;
    run_threads(4, [&](unsigned thread) {
      const auto result = guest.acceptor.accept(units(thread, 40));
      EXPECT_FALSE(result);
      errors += result ? 0 : 1;
    });
    EXPECT_EQ(errors.load(), 4U);
    EXPECT_EQ(guest.acceptor.counters().failures, 4U);
    EXPECT_EQ(guest.acceptor.counters().accepted, 0_B);
    EXPECT_EQ(guest.platform.double_accepts(), std::vector<PhysAddr>{});
    guest.platform.stop_failing();
    EXPECT_EQ(guest.acceptor.accept(inside(0, 64)), 128_MiB);
    EXPECT_TRUE(guest.consistent());
  }
}

TEST(AcceptorConcurrent, AThreadThatWaitedForAFailedUnitTriesItItself) {
  Guest guest;
  guest.platform.busy_at(PhysAddr{kBase + 4096}, 1);
  std::atomic<unsigned> errors = 0;
  run_threads(4, [&](unsigned) { errors += guest.acceptor.accept(inside(0, 1)) ? 0 : 1; });
  EXPECT_EQ(errors.load(), 1U);
  EXPECT_TRUE(guest.consistent());
  EXPECT_EQ(guest.acceptor.counters().accepted, 2_MiB);
}

}  // namespace
}  // namespace accede::guest
