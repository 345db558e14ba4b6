// Random actions on an Acceptor against a naive reference, and many threads on one.
// To repeat a failure: ACCEDE_TEST_SEED=<seed printed>.
#include "accede/guest/acceptor.hpp"

#include "tests/guest/fake_platform.hpp"
#include "tests/guest/naive_table.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace accede::guest {
namespace {

using test::FakePlatform;
using test::NaiveTable;
using test::OwnedTable;
using test::range;

/// `fallback`, unless the environment names a seed.
std::uint64_t seed_or(std::uint64_t fallback) {
  const char* const text = std::getenv("ACCEDE_TEST_SEED");
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 0);
}

struct Yield {
  void operator()() const { std::this_thread::yield(); }
};
using TestAcceptor = Acceptor<FakePlatform, Yield>;

/// What one thread's accepts should do, unit by unit and page by page: no steps, no claims.
class NaiveAcceptor {
 public:
  struct Answer {
    std::uint64_t units = 0;            ///< accepted
    std::optional<std::uint64_t> page;  ///< that failed
    FailureKind kind = FailureKind::kRefused;
    std::uint64_t next = 0;  ///< first unit that is left, or `after`
  };

  explicit NaiveAcceptor(NaiveTable table) : table_{std::move(table)} {}

  [[nodiscard]] NaiveTable& table() { return table_; }
  [[nodiscard]] std::uint64_t pages_per_unit() const { return table_.unit / 4096; }
  void fail_at(std::uint64_t page, unsigned times) { failing_[page] += times; }
  [[nodiscard]] std::uint64_t doubles() const { return doubles_; }

  /// Accepts at most `most` of the unaccepted units in [first, after), ascending.
  Answer accept(std::uint64_t first, std::uint64_t after, std::uint64_t most) {
    Answer answer;
    for (std::uint64_t unit = first; unit < after; ++unit) {
      if (!table_.bits[unit]) {
        continue;
      }
      if (answer.units == most) {
        answer.next = unit;
        return answer;
      }
      if (!accept_unit(unit, answer)) {
        return answer;
      }
      ++answer.units;
    }
    answer.next = after;
    return answer;
  }

 private:
  bool accept_unit(std::uint64_t unit, Answer& answer) {
    const std::uint64_t begin = table_.base / 4096 + unit * pages_per_unit();
    std::uint64_t page = begin;
    const auto known = std::find_if(parts_.begin(), parts_.end(),
                                    [&](const Part& part) { return part.unit == unit; });
    if (known != parts_.end()) {
      page = known->page;
      parts_.erase(known);
    }
    for (; page < begin + pages_per_unit(); ++page) {
      const auto failing = failing_.find(page);
      const bool scripted = failing != failing_.end();
      if (!scripted && !forgotten_.contains(unit)) {
        continue;
      }
      if (scripted && --failing->second == 0) {
        failing_.erase(failing);
      }
      answer.page = page;
      answer.kind = scripted ? FailureKind::kRefused : FailureKind::kAlreadyAccepted;
      answer.next = unit;
      doubles_ += scripted ? 0 : 1;
      keep(unit, page, begin);
      return false;
    }
    table_.bits[unit] = false;
    return true;
  }

  /// The last eight units that failed part way are known; older ones can never be accepted.
  void keep(std::uint64_t unit, std::uint64_t page, std::uint64_t begin) {
    if (page == begin) {
      return;
    }
    if (parts_.size() == 8) {
      forgotten_.insert(parts_.front().unit);
      parts_.pop_front();
    }
    parts_.push_back({unit, page});
  }

  struct Part {
    std::uint64_t unit;
    std::uint64_t page;
  };
  NaiveTable table_;
  std::map<std::uint64_t, unsigned> failing_;
  std::deque<Part> parts_;
  std::set<std::uint64_t> forgotten_;
  std::uint64_t doubles_ = 0;
};

/// The same random actions on both.
class Play {
 public:
  explicit Play(std::uint64_t seed)
      : random_{seed},
        naive_{random_table()},
        table_{naive_.table(), below(2) != 0, PhysAddr{0}},
        platform_{Bytes{4096ULL << below(9)}},
        acceptor_{*table_, platform_} {}

  void step() {
    switch (below(10)) {
      case 0:
        return add_failure();
      case 1:
        return contains();
      case 2:
        return release();
      case 3:
      case 4:
      case 5:
        return accept_in_parts();
      default:
        return accept();
    }
  }

  void compare() {
    ASSERT_EQ(test::bits_of(*table_), naive_.table().bits);
    ASSERT_TRUE(table_->invariants());
    ASSERT_EQ(acceptor_.counters().accepted, accepted_);
    ASSERT_EQ(acceptor_.counters().failures, failures_);
    ASSERT_EQ(acceptor_.counters().platform_calls, platform_.call_count());
    ASSERT_EQ(acceptor_.counters().waits, 0U);
    ASSERT_EQ(platform_.double_accepts().size(), naive_.doubles());
    ASSERT_LE(acceptor_.counters().longest_step, acceptor_.step());
  }

 private:
  using Ends = std::pair<std::uint64_t, std::uint64_t>;

  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }

  NaiveTable random_table() {
    NaiveTable table =
        OwnedTable::all_set((1 + below(64)) << 20, 0, Bytes{4096ULL << (1 + below(4))});
    table.bits.resize(8 * (1 + below(100)));
    const std::uint64_t density = 1 + below(8);
    for (std::size_t i = 0; i < table.bits.size(); ++i) {
      table.bits[i] = below(8) < density;
    }
    return table;
  }

  /// Mostly inside the table, seldom aligned.
  PhysRange pick() {
    const NaiveTable& table = naive_.table();
    const std::uint64_t span = table.unit * (table.bits.size() + 4);
    const std::uint64_t at = table.base - 2 * table.unit + below(span);
    const std::uint64_t length = below(below(4) == 0 ? span : 12 * table.unit);
    const std::uint64_t grain = 1ULL << below(14);
    return range(at / grain * grain, (at / grain + length / grain) * grain);
  }

  Ends guarded(PhysRange asked) const {
    return const_cast<Play*>(this)->naive_.table().guarded(asked.begin().value(),
                                                           asked.end().value());
  }
  [[nodiscard]] PhysAddr begin_of(std::uint64_t unit) {
    return PhysAddr{naive_.table().base + unit * naive_.table().unit};
  }

  void add_failure() {
    const NaiveTable& table = naive_.table();
    const std::uint64_t page =
        table.base / 4096 + below(table.bits.size() * naive_.pages_per_unit());
    const auto times = static_cast<unsigned>(1 + below(3));
    platform_.fail_at(PhysAddr{page * 4096}, FailureKind::kRefused, page, times);
    naive_.fail_at(page, times);
  }

  void contains() {
    const PhysRange asked = pick();
    const auto [first, after] = guarded(asked);
    ASSERT_EQ(acceptor_.contains_unaccepted(asked), naive_.table().count(first, after) != 0);
    const Ends touched = naive_.table().touched(asked.begin().value(), asked.end().value());
    if (!asked.empty()) {
      ASSERT_EQ(table_->any_unaccepted(asked),
                naive_.table().count(touched.first, touched.second) != 0);
    }
  }

  /// A unit that is accepted is given back, so that there is always something to do.
  void release() {
    NaiveTable& table = naive_.table();
    for (int i = 0; i < 20; ++i) {
      const std::uint64_t unit = below(table.bits.size());
      if (!table.bits[unit]) {
        platform_.release(table.unit_at(unit));
        table_->mark_unaccepted(table.unit_at(unit));
        table.bits[unit] = true;
      }
    }
  }

  void accept() {
    const PhysRange asked = pick();
    const auto [first, after] = guarded(asked);
    const auto expected = naive_.accept(first, after, ~0ULL);
    const auto result = acceptor_.accept(asked);
    ASSERT_EQ(result.has_value(), !expected.page);
    if (!result) {
      return check(result.error(), expected);
    }
    ASSERT_EQ(*result, units(expected));
    accepted_ += *result;
  }

  void accept_in_parts() {
    const PhysRange asked = pick();
    auto [first, after] = guarded(asked);
    const Bytes budget{below(20 * naive_.table().unit)};
    const std::uint64_t most = std::max<std::uint64_t>(1, budget / Bytes{naive_.table().unit});
    auto expected = naive_.accept(first, after, most);
    auto result = acceptor_.accept_some(asked, budget);
    for (;;) {
      ASSERT_EQ(result.has_value(), !expected.page);
      if (!result) {
        return check(result.error(), expected);
      }
      ASSERT_EQ(result->accepted, units(expected));
      accepted_ += result->accepted;
      ASSERT_EQ(result->rest.empty(), expected.next == after);
      if (expected.next == after) {
        return;
      }
      ASSERT_EQ(result->rest.begin(), begin_of(expected.next));
      ASSERT_EQ(result->rest.end(), begin_of(after));
      first = expected.next;
      expected = naive_.accept(first, after, most);
      result = acceptor_.accept_rest(result->rest, budget);
    }
  }

  void check(const AcceptError& error, const NaiveAcceptor::Answer& expected) {
    accepted_ += units(expected);
    ++failures_;
    ASSERT_EQ(error.accepted, units(expected));
    ASSERT_EQ(error.failure.kind, expected.kind);
    ASSERT_EQ(error.failure.at, PhysAddr{*expected.page * 4096});
    ASSERT_EQ(error.units.begin(), begin_of(expected.next));
    ASSERT_TRUE(error.units.contains(error.failure.at));
  }

  [[nodiscard]] Bytes units(const NaiveAcceptor::Answer& answer) {
    return Bytes{naive_.table().unit} * answer.units;
  }

  std::mt19937_64 random_;
  NaiveAcceptor naive_;
  OwnedTable table_;
  FakePlatform platform_;
  TestAcceptor acceptor_;
  Bytes accepted_;
  std::uint64_t failures_ = 0;
};

TEST(AcceptorModel, RandomActionsAgreeWithTheNaiveReference) {
  const std::uint64_t first = seed_or(1);
  const std::uint64_t count = std::getenv("ACCEDE_TEST_SEED") == nullptr ? 1000 : 1;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("ACCEDE_TEST_SEED=" + std::to_string(seed));
    Play play{seed};
    for (int i = 0; i < 200; ++i) {
      SCOPED_TRACE("step " + std::to_string(i));
      play.step();
      if (testing::Test::HasFatalFailure()) {
        return;
      }
      play.compare();
      if (testing::Test::HasFatalFailure()) {
        return;
      }
    }
  }
}

constexpr unsigned kThreads = 4;

/// Threads accept random overlapping ranges of a table; with `failures`, pages are busy now and
/// then and whoever meets one tries again.
void stress(std::uint64_t seed, std::uint64_t unit, Bytes step, bool failures) {
  SCOPED_TRACE("ACCEDE_TEST_SEED=" + std::to_string(seed));
  constexpr std::uint64_t kUnits = 1024;
  constexpr std::uint64_t kBase = 1ULL << 32;
  const NaiveTable start = OwnedTable::all_set(kBase, kUnits, Bytes{unit});
  OwnedTable table{start};
  FakePlatform platform{step};
  platform.on_entry([](PhysRange) { std::this_thread::yield(); });
  TestAcceptor acceptor{*table, platform};
  std::mt19937_64 random{seed};
  for (int i = 0; failures && i < 100; ++i) {
    platform.busy_at(PhysAddr{kBase + random() % (kUnits * unit)},
                     static_cast<unsigned>(1 + random() % 3));
  }
  NaiveTable wanted = start;
  wanted.set(0, kUnits, false);
  std::vector<std::vector<PhysRange>> requests(kThreads);
  for (auto& list : requests) {
    for (int i = 0; i < 60; ++i) {
      const std::uint64_t at = kBase + random() % (kUnits * unit);
      list.push_back(range(at, at + 1 + random() % (24 * unit)));
      const auto [first, after] = wanted.guarded(at, list.back().end().value());
      wanted.set(first, after, true);
    }
  }
  std::atomic<std::uint64_t> accepted = 0;
  std::atomic<std::uint64_t> errors = 0;
  std::vector<std::jthread> threads;
  for (const auto& list : requests) {
    threads.emplace_back([&] {
      for (const PhysRange asked : list) {
        for (;;) {
          const auto result = acceptor.accept(asked);
          if (result) {
            accepted += result->value();
            break;
          }
          ASSERT_EQ(result.error().failure.kind, FailureKind::kBusyForever);
          accepted += result.error().accepted.value();
          ++errors;
        }
        EXPECT_FALSE(acceptor.contains_unaccepted(asked));
        EXPECT_TRUE(platform.accepted(table->guarded(asked)));
      }
    });
  }
  threads.clear();
  // Every page of the requests and their guards was accepted once, and no other page.
  EXPECT_EQ(platform.double_accepts(), std::vector<PhysAddr>{});
  std::vector<bool> left = wanted.bits;
  left.flip();
  EXPECT_EQ(test::bits_of(*table), left);
  EXPECT_EQ(platform.accepted_bytes(), Bytes{unit} * wanted.count(0, kUnits));
  for (std::uint64_t i = 0; i < kUnits; ++i) {
    EXPECT_EQ(platform.accepted(wanted.unit_at(i)), wanted.bits[i]);
  }
  const AcceptorCounters counters = acceptor.counters();
  EXPECT_EQ(counters.accepted, platform.accepted_bytes());
  EXPECT_EQ(counters.accepted, Bytes{accepted.load()});
  EXPECT_EQ(counters.failures, errors.load());
  EXPECT_EQ(counters.platform_calls, platform.call_count());
  EXPECT_LE(counters.longest_step, acceptor.step());
  EXPECT_EQ(table->unaccepted(), Bytes{unit} * (kUnits - wanted.count(0, kUnits)));
  EXPECT_TRUE(table->invariants());
}

TEST(AcceptorModelConcurrent, EveryPageOfRandomOverlappingRangesIsAcceptedOnce) {
  const std::uint64_t seed = seed_or(1);
  for (std::uint64_t round = 0; round < 20; ++round) {
    stress(seed + round, 2 << 20, 2_MiB * (1 + round % 5), false);
  }
}

TEST(AcceptorModelConcurrent, PagesThatAreBusyAtTimesChangeNothing) {
  const std::uint64_t seed = seed_or(1);
  for (std::uint64_t round = 0; round < 20; ++round) {
    stress(seed + round, 16384, 16_KiB * (1 + round % 7), true);
  }
}

TEST(AcceptorModelConcurrent, Regression_L09_accounting_is_exact_while_memory_comes_and_goes) {
  // Each thread accepts and gives back its own units, which share words and granules with the
  // others': counts, index and bits agree at the end.
  NaiveTable naive = OwnedTable::all_set(1ULL << 32, 700);
  OwnedTable shared{naive};
  FakePlatform platform;
  TestAcceptor acceptor{*shared, platform};
  const std::uint64_t seed = seed_or(7);
  SCOPED_TRACE("ACCEDE_TEST_SEED=" + std::to_string(seed));
  std::vector<std::jthread> threads;
  for (unsigned thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937_64 random{seed + thread};
      for (int i = 0; i < 500; ++i) {
        const PhysRange unit = naive.unit_at(random() % 175 * 4 + thread);
        if (shared->any_unaccepted(unit)) {
          EXPECT_EQ(acceptor.accept(range(unit.begin().value(), unit.begin().value() + 4096)),
                    2_MiB);
        } else {
          platform.release(unit);
          shared->mark_unaccepted(unit);
        }
      }
    });
  }
  threads.clear();
  EXPECT_EQ(platform.double_accepts(), std::vector<PhysAddr>{});
  EXPECT_EQ(shared->unaccepted() + platform.accepted_bytes(), 1400_MiB);
  EXPECT_TRUE(shared->invariants());
}

}  // namespace
}  // namespace accede::guest
