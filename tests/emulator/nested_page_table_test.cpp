#include "accede/emulator/nested_page_table.hpp"

#include "tests/emulator/guest_ram.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <random>
#include <vector>

namespace accede::emulator {
namespace {

using test::GuestRam;
using test::pages_at;
using test::range_of;

constexpr std::uint64_t k4K = 4096;
constexpr std::uint64_t k2M = 1ULL << 21;
constexpr std::uint64_t k1G = 1ULL << 30;
constexpr std::uint64_t k512G = 1ULL << 39;

/// What a processor finds that walks the table for a guest physical address.
struct Translation {
  bool present = false;
  std::uint64_t hpa = 0;
  std::uint64_t page_bytes = 0;
};

/// Walks as the processor does and checks on the way what every entry must have.
Translation walk(const GuestRam& ram, PhysAddr root, std::uint64_t gpa) {
  constexpr std::uint64_t kAddress = 0x000F'FFFF'FFFF'F000;
  constexpr std::uint64_t kWritableUserAccessed = 0x2 | 0x4 | 0x20;
  constexpr std::uint64_t kDirty = 0x40;
  constexpr std::uint64_t kLarge = 0x80;
  std::uint64_t table = root.value();
  for (int level = 3;; --level) {
    const unsigned shift = 12 + 9 * static_cast<unsigned>(level);
    const std::uint64_t entry = ram.at<std::uint64_t>(PhysAddr{table + ((gpa >> shift) & 511) * 8});
    if ((entry & 1) == 0) {
      EXPECT_EQ(entry, 0U) << "an absent entry holds nothing";
      return {};
    }
    EXPECT_EQ(entry & kWritableUserAccessed, kWritableUserAccessed);
    if (level == 0 || (entry & kLarge) != 0) {
      EXPECT_NE(level, 3) << "there are no 512 GiB pages";
      EXPECT_EQ(entry & kDirty, kDirty);
      const std::uint64_t bytes = 1ULL << shift;
      EXPECT_EQ((entry & kAddress) % bytes, 0U) << "a leaf is aligned to its size";
      return {true, (entry & kAddress) | (gpa & (bytes - 1)), bytes};
    }
    table = entry & kAddress;
  }
}

/// A table with room for `pool_pages` pages of tables.
class Tables {
 public:
  explicit Tables(std::uint64_t pool_pages, ViewBit view_bit = ViewBit::kShared)
      : ram_{Bytes{kPoolBegin + pool_pages * k4K}},
        pool_{ram_.window(), PhysAddr{kPoolBegin}, PhysAddr{kPoolBegin + pool_pages * k4K}},
        table_{ram_.window(), pool_, pool_.allocate().value(), view_bit},
        capacity_{pool_.available()} {}

  [[nodiscard]] NestedPageTable& table() { return table_; }
  [[nodiscard]] PagePool& pool() { return pool_; }
  [[nodiscard]] std::uint64_t used() { return capacity_ - pool_.available(); }
  [[nodiscard]] std::uint64_t capacity() const { return capacity_; }

  [[nodiscard]] Translation walk(View view, std::uint64_t gpa) const {
    const View named = table_.view_bit() == ViewBit::kShared ? View::kShared : View::kPrivate;
    const std::uint64_t bit = view == named ? NestedPageTable::kViewMask : 0;
    const Translation found = emulator::walk(ram_, table_.root(), gpa | bit);
    if (found.present) {
      EXPECT_EQ(found.hpa, gpa) << "the map is the identity without the shared bit";
    }
    return found;
  }

 private:
  static constexpr std::uint64_t kPoolBegin = 1 << 20;

  GuestRam ram_;
  PagePool pool_;
  NestedPageTable table_;
  std::uint64_t capacity_;
};

class NestedPageTableTest : public testing::Test {
 protected:
  [[nodiscard]] std::uint64_t size_at(View view, std::uint64_t gpa) const {
    return tables_.walk(view, gpa).page_bytes;
  }

  Tables tables_{64};
  NestedPageTable& table_ = tables_.table();
};

TEST_F(NestedPageTableTest, MapsNothingAtFirst) {
  for (const std::uint64_t gpa : {std::uint64_t{0}, k1G, k512G, NestedPageTable::kViewMask - 1}) {
    EXPECT_FALSE(table_.mapped(View::kPrivate, PhysAddr{gpa}).has_value());
    EXPECT_FALSE(table_.mapped(View::kShared, PhysAddr{gpa}).has_value());
    EXPECT_FALSE(tables_.walk(View::kPrivate, gpa).present);
  }
}

TEST_F(NestedPageTableTest, MapsWithTheLargestPagesThatTheRangeAllows) {
  // 4 KiB below a 2 MiB boundary to 4 KiB above a 1 GiB boundary, two gibibytes on.
  ASSERT_TRUE(table_.map(View::kPrivate, range_of(k1G - k2M - k4K, 2 * k1G + k4K)));
  EXPECT_EQ(size_at(View::kPrivate, k1G - k2M - k4K), k4K);
  EXPECT_EQ(size_at(View::kPrivate, k1G - k2M), k2M);
  EXPECT_EQ(size_at(View::kPrivate, k1G), k1G);
  EXPECT_EQ(size_at(View::kPrivate, 2 * k1G), k4K);
  EXPECT_FALSE(tables_.walk(View::kPrivate, 2 * k1G + k4K).present);
  EXPECT_FALSE(tables_.walk(View::kPrivate, k1G - k2M - 2 * k4K).present);
  EXPECT_EQ(table_.mapped(View::kPrivate, PhysAddr{k1G + 5}), PageSize::k1G);
  EXPECT_EQ(table_.mapped(View::kPrivate, PhysAddr{k1G - 1}), PageSize::k2M);
  EXPECT_EQ(table_.mapped(View::kPrivate, PhysAddr{2 * k1G}), PageSize::k4K);
}

TEST_F(NestedPageTableTest, KeepsTheTwoViewsApart) {
  ASSERT_TRUE(table_.map(View::kPrivate, pages_at(0x10000, 1)));
  ASSERT_TRUE(table_.map(View::kShared, pages_at(0x20000, 1)));
  EXPECT_TRUE(tables_.walk(View::kPrivate, 0x10000).present);
  EXPECT_FALSE(tables_.walk(View::kShared, 0x10000).present);
  EXPECT_FALSE(tables_.walk(View::kPrivate, 0x20000).present);
  EXPECT_TRUE(tables_.walk(View::kShared, 0x20000).present);
}

TEST_F(NestedPageTableTest, NamesTheSharedViewByTheSharedBit) {
  constexpr std::uint64_t kBit = 1ULL << 47;
  EXPECT_EQ(table_.view_of(0x1234), View::kPrivate);
  EXPECT_EQ(table_.view_of(kBit | 0x1234), View::kShared);
  EXPECT_EQ(table_.with_view(PhysAddr{0x1234}, View::kPrivate), 0x1234U);
  EXPECT_EQ(table_.with_view(PhysAddr{0x1234}, View::kShared), kBit | 0x1234);
}

TEST(NestedPageTableWithCBit, NamesThePrivateViewByTheCBit) {
  constexpr std::uint64_t kBit = 1ULL << 47;
  Tables tables{8, ViewBit::kPrivate};
  EXPECT_EQ(tables.table().view_bit(), ViewBit::kPrivate);
  EXPECT_EQ(tables.table().view_of(0x1234), View::kShared);
  EXPECT_EQ(tables.table().view_of(kBit | 0x1234), View::kPrivate);
  EXPECT_EQ(tables.table().with_view(PhysAddr{0x1234}, View::kShared), 0x1234U);
  EXPECT_EQ(tables.table().with_view(PhysAddr{0x1234}, View::kPrivate), kBit | 0x1234);
}

TEST(NestedPageTableWithCBit, ReachesThePrivateViewThroughTheUpperHalfOfTheRoot) {
  Tables tables{16, ViewBit::kPrivate};
  ASSERT_TRUE(tables.table().map(View::kPrivate, pages_at(0x10000, 1)));
  ASSERT_TRUE(tables.table().map(View::kShared, range_of(k2M, 2 * k2M)));
  EXPECT_TRUE(tables.walk(View::kPrivate, 0x10000).present);
  EXPECT_FALSE(tables.walk(View::kShared, 0x10000).present);
  EXPECT_EQ(tables.walk(View::kShared, k2M).page_bytes, k2M);
  EXPECT_FALSE(tables.walk(View::kPrivate, k2M).present);
  EXPECT_EQ(tables.table().mapped(View::kPrivate, PhysAddr{0x10000}), PageSize::k4K);
  EXPECT_EQ(tables.table().mapped(View::kShared, PhysAddr{0x10000}), std::nullopt);
  ASSERT_TRUE(tables.table().unmap(View::kPrivate, pages_at(0x10000, 1)));
  EXPECT_FALSE(tables.walk(View::kPrivate, 0x10000).present);
  EXPECT_TRUE(tables.walk(View::kShared, k2M).present);
}

TEST_F(NestedPageTableTest, MapsTheSamePageInBothViews) {
  ASSERT_TRUE(table_.map(View::kPrivate, range_of(0, k1G)));
  ASSERT_TRUE(table_.map(View::kShared, range_of(0, k1G)));
  EXPECT_EQ(tables_.walk(View::kPrivate, 0x1234).hpa, 0x1234U);
  EXPECT_EQ(tables_.walk(View::kShared, 0x1234).hpa, 0x1234U);
}

TEST_F(NestedPageTableTest, MergesFiveHundredAndTwelveNeighboursInAnyOrder) {
  std::vector<std::uint64_t> order(512);
  for (std::uint64_t i = 0; i < order.size(); ++i) {
    order[i] = i;
  }
  std::ranges::shuffle(order, std::mt19937{7});
  for (const std::uint64_t page : order) {
    ASSERT_TRUE(table_.map(View::kPrivate, pages_at(k1G + page * k4K, 1)));
  }
  EXPECT_EQ(size_at(View::kPrivate, k1G), k2M);
  EXPECT_EQ(tables_.used(), 2U) << "a table of gibibytes and one of 2 MiB entries";
}

TEST_F(NestedPageTableTest, MergesUpToAGibibyte) {
  for (std::uint64_t at = 0; at < k1G; at += k2M) {
    ASSERT_TRUE(table_.map(View::kShared, range_of(at, at + k2M)));
  }
  EXPECT_EQ(size_at(View::kShared, 0), k1G);
  EXPECT_EQ(tables_.used(), 1U);
}

TEST_F(NestedPageTableTest, SplitsALargePageWhenAPartOfItGoes) {
  ASSERT_TRUE(table_.map(View::kPrivate, range_of(0, k1G)));
  ASSERT_TRUE(table_.unmap(View::kPrivate, pages_at(k2M * 3 + k4K, 1)));
  EXPECT_FALSE(tables_.walk(View::kPrivate, k2M * 3 + k4K).present);
  EXPECT_EQ(size_at(View::kPrivate, k2M * 3), k4K);
  EXPECT_EQ(size_at(View::kPrivate, k2M * 3 + 2 * k4K), k4K);
  EXPECT_EQ(size_at(View::kPrivate, k2M * 2), k2M);
  EXPECT_EQ(size_at(View::kPrivate, k2M * 4), k2M);
}

TEST_F(NestedPageTableTest, ReturnsEveryTablePageWhenNothingIsMapped) {
  ASSERT_TRUE(table_.map(View::kPrivate, range_of(k4K, 3 * k1G - k4K)));
  ASSERT_TRUE(table_.map(View::kShared, range_of(k512G - k4K, k512G + k4K)));
  EXPECT_GT(tables_.used(), 5U);
  ASSERT_TRUE(table_.unmap(View::kPrivate, range_of(0, 4 * k1G)));
  ASSERT_TRUE(table_.unmap(View::kShared, pages_at(k512G - k4K, 1)));
  ASSERT_TRUE(table_.unmap(View::kShared, pages_at(k512G, 1)));
  EXPECT_EQ(tables_.used(), 0U);
}

TEST_F(NestedPageTableTest, ReturnsTheTablesBelowALargePageThatReplacesThem) {
  ASSERT_TRUE(table_.map(View::kPrivate, pages_at(k1G + k4K, 1)));
  ASSERT_TRUE(table_.map(View::kPrivate, pages_at(k1G + 9 * k2M, 1)));
  EXPECT_EQ(tables_.used(), 4U);
  ASSERT_TRUE(table_.map(View::kPrivate, range_of(k1G, 2 * k1G)));
  EXPECT_EQ(tables_.used(), 1U);
  EXPECT_EQ(size_at(View::kPrivate, k1G), k1G);
}

TEST_F(NestedPageTableTest, ReachesTheLastPageBelowTheSharedBit) {
  constexpr std::uint64_t kEnd = NestedPageTable::kViewMask;
  for (const View view : {View::kPrivate, View::kShared}) {
    ASSERT_TRUE(table_.map(view, range_of(kEnd - k4K, kEnd)));
    EXPECT_TRUE(tables_.walk(view, kEnd - k4K).present);
    EXPECT_FALSE(tables_.walk(view, kEnd - 2 * k4K).present);
    EXPECT_EQ(table_.mapped(view, PhysAddr{kEnd - 1}), PageSize::k4K);
  }
}

TEST_F(NestedPageTableTest, DoesNothingForAnEmptyRangeOrOneThatIsSoAlready) {
  EXPECT_TRUE(table_.map(View::kPrivate, range_of(0x5000, 0x5000)));
  EXPECT_TRUE(table_.unmap(View::kPrivate, range_of(0, 4 * k512G)));
  EXPECT_EQ(tables_.used(), 0U);
  ASSERT_TRUE(table_.map(View::kPrivate, range_of(0, k1G)));
  ASSERT_TRUE(table_.map(View::kPrivate, pages_at(k2M + k4K, 3)));
  EXPECT_EQ(tables_.used(), 1U);
  EXPECT_EQ(size_at(View::kPrivate, k2M + k4K), k1G);
}

TEST(NestedPageTablePool, LetsAMappingFailWhenItIsEmptyAndGoOnLater) {
  Tables tables{3};  // the root and two: a 4 KiB mapping needs three below the root
  NestedPageTable& table = tables.table();
  EXPECT_FALSE(table.map(View::kPrivate, pages_at(k1G, 1)));
  EXPECT_FALSE(tables.walk(View::kPrivate, k1G).present);
  EXPECT_EQ(tables.used(), 0U) << "tables of a mapping that failed are given back";
  EXPECT_TRUE(table.map(View::kPrivate, range_of(k1G, k1G + k2M)));
  EXPECT_FALSE(table.map(View::kPrivate, pages_at(k1G + k2M, 1)));
  EXPECT_EQ(tables.walk(View::kPrivate, k1G).page_bytes, k2M);
  EXPECT_TRUE(table.map(View::kPrivate, range_of(k1G, 2 * k1G)));
  EXPECT_TRUE(table.map(View::kShared, range_of(0, k1G)));
}

TEST(NestedPageTablePool, TakesNothingMoreAwayWhenALargePageCannotBeSplit) {
  Tables tables{2};
  NestedPageTable& table = tables.table();
  ASSERT_TRUE(table.map(View::kPrivate, range_of(0, 2 * k1G)));
  EXPECT_FALSE(table.unmap(View::kPrivate, pages_at(k1G, 1)));
  EXPECT_EQ(tables.walk(View::kPrivate, k1G).page_bytes, k1G);
  EXPECT_EQ(tables.walk(View::kPrivate, 0).page_bytes, k1G);
  EXPECT_TRUE(table.unmap(View::kPrivate, range_of(k1G, 2 * k1G))) << "needs no table";
  EXPECT_FALSE(tables.walk(View::kPrivate, k1G).present);
  EXPECT_TRUE(tables.walk(View::kPrivate, 0).present);
}

// --- Random actions against a naive map
// ------------------------------------------------------------

/// A naive map: one flag a page, for stretches of the address space that lie at interesting places.
class NaiveMap {
 public:
  struct Island {
    std::uint64_t begin;
    std::uint64_t bytes;
  };
  static constexpr std::array<Island, 3> kIslands{
      {{0, k1G}, {k512G - k1G, 2 * k1G}, {NestedPageTable::kViewMask - k1G, k1G}}};

  NaiveMap() {
    for (std::size_t i = 0; i < kIslands.size(); ++i) {
      flags_[i].resize(kIslands[i].bytes / k4K);
    }
  }

  void set(std::size_t island, std::uint64_t first, std::uint64_t count, bool present) {
    std::fill_n(flags_[island].begin() + static_cast<std::ptrdiff_t>(first), count,
                static_cast<char>(present));
  }
  [[nodiscard]] bool present(std::size_t island, std::uint64_t page) const {
    return flags_[island][page] != 0;
  }
  [[nodiscard]] bool all(std::size_t island, std::uint64_t first, std::uint64_t count) const {
    return count_of(island, first, count) == count;
  }

  /// The tables that a map of exactly this needs: below the root one for each 512 GiB with anything
  /// in it, then one for each page size's worth that is neither empty nor full.
  [[nodiscard]] std::uint64_t tables() const {
    std::uint64_t needed = 0;
    std::vector<std::uint64_t> roots;
    for (std::size_t island = 0; island < kIslands.size(); ++island) {
      for (const std::uint64_t bytes : {k1G, k2M}) {
        const std::uint64_t pages = bytes / k4K;
        for (std::uint64_t at = 0; at < flags_[island].size(); at += pages) {
          const std::uint64_t here = count_of(island, at, pages);
          needed += here != 0 && here != pages ? 1 : 0;
          if (bytes == k1G && here != 0) {
            roots.push_back((kIslands[island].begin + at * k4K) / k512G);
          }
        }
      }
    }
    std::ranges::sort(roots);
    const auto repeats = std::ranges::unique(roots);
    return needed + roots.size() - repeats.size();
  }

 private:
  [[nodiscard]] std::uint64_t count_of(std::size_t island, std::uint64_t first,
                                       std::uint64_t count) const {
    const auto begin = flags_[island].begin() + static_cast<std::ptrdiff_t>(first);
    return static_cast<std::uint64_t>(
        std::count(begin, begin + static_cast<std::ptrdiff_t>(count), char{1}));
  }

  std::array<std::vector<char>, kIslands.size()> flags_;
};

/// Random ranges whose ends like page size boundaries; the same for one seed.
struct Action {
  View view;
  bool map;
  std::size_t island;
  std::uint64_t first;
  std::uint64_t count;

  static Action random(std::mt19937_64& random) {
    Action action{};
    action.view = random() % 2 == 0 ? View::kPrivate : View::kShared;
    action.map = random() % 5 < 3;
    action.island = random() % NaiveMap::kIslands.size();
    const std::uint64_t pages = NaiveMap::kIslands[action.island].bytes / k4K;
    constexpr std::array<std::uint64_t, 4> kGrains{1, 1, 512, 512 * 512};
    const std::uint64_t grain = kGrains[random() % kGrains.size()];
    action.first = random() % (pages / grain) * grain;
    // Mostly near the islands' edges, where 512 GiB and the shared bit lie.
    if (random() % 3 == 0) {
      action.first %= 4096;
    } else if (random() % 3 == 0) {
      action.first = pages - 1 - action.first % 4096;
    }
    const std::uint64_t length = (1 + random() % 3) * (random() % 4 == 0 ? 512 : grain);
    action.count = std::min(length, pages - action.first);
    return action;
  }

  [[nodiscard]] PhysRange range() const {
    return pages_at(NaiveMap::kIslands[island].begin + first * k4K, count);
  }
};

class NestedPageTableModel {
 public:
  NestedPageTableModel(std::uint64_t pool_pages, std::uint64_t seed)
      : tables_{pool_pages}, random_{seed} {}

  void run(int steps) {
    for (int step = 0; step < steps && !testing::Test::HasFatalFailure(); ++step) {
      SCOPED_TRACE(testing::Message() << "step " << step);
      act(Action::random(random_));
      if (step % 8 == 0) {
        ASSERT_EQ(tables_.used(), naive(View::kPrivate).tables() + naive(View::kShared).tables())
            << "a table too many or too few";
      }
    }
    empty();
  }

  [[nodiscard]] int refused() const { return refused_; }

 private:
  [[nodiscard]] NaiveMap& naive(View view) { return naive_[static_cast<std::size_t>(view)]; }

  void act(const Action& action) {
    NestedPageTable& table = tables_.table();
    const bool done = action.map ? table.map(action.view, action.range())
                                 : table.unmap(action.view, action.range());
    if (done) {
      naive(action.view).set(action.island, action.first, action.count, action.map);
    } else {
      ++refused_;
      learn(action);
    }
    check_around(action);
  }

  /// A call that ran out of tables did a part of its range, and nothing else.
  void learn(const Action& action) {
    const std::uint64_t begin = NaiveMap::kIslands[action.island].begin;
    for (std::uint64_t page = action.first; page < action.first + action.count; ++page) {
      const bool present = tables_.walk(action.view, begin + page * k4K).present;
      if (present != naive(action.view).present(action.island, page)) {
        ASSERT_EQ(present, action.map);
        naive(action.view).set(action.island, page, 1, present);
      }
    }
  }

  void check_around(const Action& action) {
    const std::uint64_t pages = NaiveMap::kIslands[action.island].bytes / k4K;
    std::vector<std::uint64_t> places{action.first, action.first + action.count - 1, 0, pages - 1};
    for (const std::uint64_t distance : {1ULL, 511ULL, 512ULL}) {
      places.push_back((action.first + pages - distance) % pages);
      places.push_back((action.first + action.count + distance - 1) % pages);
    }
    for (int i = 0; i < 8; ++i) {
      places.push_back(random_() % pages);
    }
    for (const std::uint64_t page : places) {
      check(View::kPrivate, action.island, page);
      check(View::kShared, action.island, page);
    }
  }

  void check(View view, std::size_t island, std::uint64_t page) {
    const std::uint64_t gpa = NaiveMap::kIslands[island].begin + page * k4K;
    const Translation found = tables_.walk(view, gpa);
    ASSERT_EQ(found.present, naive(view).present(island, page)) << std::hex << gpa;
    const auto mapped = tables_.table().mapped(view, PhysAddr{gpa + 0x123});
    ASSERT_EQ(mapped.has_value(), found.present);
    if (!found.present) {
      return;
    }
    ASSERT_EQ(bytes(*mapped).value(), found.page_bytes);
    // As large as it can be, and never larger than what is there.
    std::uint64_t largest = k4K;
    for (const std::uint64_t size : {k2M, k1G}) {
      const std::uint64_t count = size / k4K;
      if (naive(view).all(island, page / count * count, count)) {
        largest = size;
      }
    }
    ASSERT_EQ(found.page_bytes, largest) << std::hex << gpa;
  }

  void empty() {
    for (const auto& island : NaiveMap::kIslands) {
      for (const View view : {View::kPrivate, View::kShared}) {
        ASSERT_TRUE(
            tables_.table().unmap(view, range_of(island.begin, island.begin + island.bytes)));
      }
    }
    ASSERT_EQ(tables_.used(), 0U) << "a table page is lost";
  }

  Tables tables_;
  std::array<NaiveMap, 2> naive_;
  std::mt19937_64 random_;
  int refused_ = 0;
};

/// ACCEDE_TEST_SEED repeats a run.
std::uint64_t chosen_seed() {
  const char* const text = std::getenv("ACCEDE_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 0) : std::random_device{}();
}

TEST(NestedPageTableModelTest, AgreesWithANaiveMapUnderRandomActions) {
  const std::uint64_t seed = chosen_seed();
  SCOPED_TRACE(testing::Message() << "ACCEDE_TEST_SEED=" << seed);
  NestedPageTableModel model{8192, seed};
  model.run(300);  // the reference looks at every page: a minute under sanitizers already
  EXPECT_EQ(model.refused(), 0);
}

TEST(NestedPageTableModelTest, AgreesWithANaiveMapWhileThePoolRunsOut) {
  const std::uint64_t seed = chosen_seed();
  SCOPED_TRACE(testing::Message() << "ACCEDE_TEST_SEED=" << seed);
  NestedPageTableModel model{8, seed};
  model.run(1500);
  EXPECT_GT(model.refused(), 10);
}

}  // namespace
}  // namespace accede::emulator
