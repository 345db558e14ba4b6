// PageAttributes over many blocks: against a naive vector, to the end of its storage, under
// threads.
#include "accede/host/page_attributes.hpp"

#include "tests/host/sept_fixture.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace accede::host {
namespace {

using test::range;

/// Attributes with storage of their own.
struct Kept {
  explicit Kept(PhysRange pages, Bytes size)
      : storage(size.value() / 8, 0xA5A5A5A5A5A5A5A5),
        attributes{pages, std::as_writable_bytes(std::span{storage})} {}
  explicit Kept(PhysRange pages) : Kept{pages, PageAttributes::storage_bound(pages)} {}

  std::vector<std::uint64_t> storage;
  PageAttributes attributes;
};

/// A naive vector beside the real thing.
class PageAttributesModel : public testing::Test {
 protected:
  // Not aligned to a block, and not a whole number of them.
  static constexpr std::uint64_t kFirst = 3 + 512;
  static constexpr std::uint64_t kPages = 4000 * 512 + 77;

  static PhysRange pages(std::uint64_t first, std::uint64_t end) {
    return range((kFirst + first) * 4096, (kFirst + end) * 4096);
  }
  void set(std::uint64_t first, std::uint64_t end, bool shared) {
    kept_.attributes.set(pages(first, end), static_cast<PageAttribute>(shared));
    std::fill(naive_.begin() + static_cast<std::ptrdiff_t>(first),
              naive_.begin() + static_cast<std::ptrdiff_t>(end), shared);
  }
  /// Both say the same about every page, and every run is maximal.
  void compare() {
    ASSERT_TRUE(kept_.attributes.invariants());
    std::uint64_t at = 0;
    kept_.attributes.visit(pages(0, kPages), [&](PhysRange run, PageAttribute attribute) {
      ASSERT_EQ(run.begin(), pages(at, at).begin());
      ASSERT_FALSE(run.empty());
      ASSERT_TRUE(at == 0 || naive_[at] != naive_[at - 1]) << at;
      for (std::uint64_t n = run.size() / 4_KiB; n > 0; --n, ++at) {
        ASSERT_EQ(naive_[at], attribute == PageAttribute::kShared) << at;
      }
    });
    ASSERT_EQ(at, kPages);
    for (int i = 0; i < 200; ++i) {
      const std::uint64_t page = random_() % kPages;
      ASSERT_EQ(naive_[page],
                kept_.attributes.get(pages(page, page + 1).begin()) == PageAttribute::kShared);
    }
  }
  [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> some_range(std::uint64_t longest) {
    const std::uint64_t first = random_() % kPages;
    return {first, std::min(kPages, first + 1 + random_() % longest)};
  }

  std::mt19937_64 random_{test::seed_from_environment(7)};
  std::vector<bool> naive_ = std::vector<bool>(kPages);
  Kept kept_{pages(0, kPages)};
};

TEST_F(PageAttributesModel, AgreesWithANaiveVectorWhileItGrowsAndShrinks) {
  // Phases of short and of long ranges make the tree deep and shallow again.
  for (const std::uint64_t longest :
       {2ULL, 40ULL, 5000ULL, 3ULL, 1ULL, 500'000ULL, 7ULL, 50'000ULL, 600ULL}) {
    for (int round = 0; round < 6000; ++round) {
      const auto [first, end] = some_range(longest);
      set(first, end, random_() % 2 != 0);
      if (round % 2000 == 0) {
        ASSERT_NO_FATAL_FAILURE(compare()) << longest << ", " << round;
      }
    }
    ASSERT_NO_FATAL_FAILURE(compare()) << longest;
  }
}

TEST_F(PageAttributesModel, OneAttributeEverywhereNeedsWhatItNeededAtTheStart) {
  const Bytes empty = kept_.attributes.in_use();
  for (int round = 0; round < 20'000; ++round) {
    const auto [first, end] = some_range(9);
    set(first, end, random_() % 2 != 0);
  }
  EXPECT_GT(kept_.attributes.in_use(), empty * 20);
  set(0, kPages, true);
  ASSERT_NO_FATAL_FAILURE(compare());
  EXPECT_TRUE(kept_.attributes.all(pages(0, kPages), PageAttribute::kShared));
  EXPECT_EQ(kept_.attributes.in_use(), empty);
  set(0, kPages, false);
  EXPECT_EQ(kept_.attributes.in_use(), empty);
  EXPECT_TRUE(kept_.attributes.all(pages(0, kPages), PageAttribute::kPrivate));
  EXPECT_TRUE(kept_.attributes.invariants());
}

TEST_F(PageAttributesModel, StaysWithinTheBoundWhenEveryOtherPageIsShared) {
  for (std::uint64_t page = 0; page < kPages; page += 2) {
    set(page, page + 1, true);
  }
  ASSERT_NO_FATAL_FAILURE(compare());
  EXPECT_LE(kept_.attributes.in_use(), PageAttributes::storage_bound(pages(0, kPages)));
}

TEST(PageAttributesSize, OneAttributeOverATerabyteTakesAChunk) {
  const PhysRange all = range(0, 1ULL << 40);
  Kept kept{all, 64_KiB};
  EXPECT_LE(kept.attributes.in_use(), 4_KiB);
  ASSERT_TRUE(kept.attributes.try_set(all, PageAttribute::kShared));
  EXPECT_LE(kept.attributes.in_use(), 4_KiB);
  EXPECT_EQ(kept.attributes.run(all), all);
}

TEST(PageAttributesSize, ARangeTakesAtMost64BytesWhereverItLies) {
  std::mt19937_64 random{test::seed_from_environment(2)};
  // Sparse, dense, and so dense that blocks have bitmaps.
  for (const std::uint64_t terabytes : {4096ULL, 64ULL, 1ULL}) {
    const PhysRange all = range(0, terabytes << 40);
    Kept kept{all, 16_MiB};
    constexpr std::uint64_t kRanges = 100'000;
    for (std::uint64_t i = 0; i < kRanges; ++i) {
      // Disjoint, in random order of size and gap: half of the runs are shared.
      const std::uint64_t slot = (terabytes << 28) / kRanges;
      const std::uint64_t first = slot * i + random() % (slot / 2);
      const std::uint64_t pages = 1 + random() % (slot / 2 - 1);
      ASSERT_TRUE(kept.attributes.try_set(range(first << 12, (first + pages) << 12),
                                          PageAttribute::kShared));
    }
    std::uint64_t runs = 0;
    kept.attributes.visit(all, [&](PhysRange, PageAttribute) { ++runs; });
    EXPECT_GE(runs, 2 * kRanges - 1);
    EXPECT_LE(kept.attributes.in_use().value(), runs * 64) << terabytes << " TiB";
    EXPECT_LE(kept.attributes.in_use().value(), kRanges * 64) << terabytes << " TiB";
    ASSERT_TRUE(kept.attributes.invariants());
  }
}

TEST(PageAttributesSize, StorageThatRunsOutChangesNothing) {
  const PhysRange all = range(0, 1ULL << 40);
  Kept kept{all, 40_KiB};
  EXPECT_FALSE(kept.attributes.is_complete());
  std::vector<PhysRange> shared;
  for (std::uint64_t page = 0;; page += 513) {
    const PhysRange one = range(page << 12, (page + 1) << 12);
    if (!kept.attributes.try_set(one, PageAttribute::kShared)) {
      break;
    }
    shared.push_back(one);
    ASSERT_LT(shared.size(), 10'000U);
  }
  ASSERT_GT(shared.size(), 100U);
  std::size_t seen = 0;
  kept.attributes.visit(all, [&](PhysRange run, PageAttribute attribute) {
    if (attribute == PageAttribute::kShared) {
      ASSERT_LT(seen, shared.size());
      ASSERT_EQ(run, shared[seen++]);
    }
  });
  EXPECT_EQ(seen, shared.size());
  EXPECT_TRUE(kept.attributes.invariants());
}

TEST(PageAttributesDeathTest, StopsWhenSetRunsOutOfStorage) {
  Kept kept{range(0, 1ULL << 40), 2_KiB};
  EXPECT_DEATH(kept.attributes.set(range(4096, 8192), PageAttribute::kShared), "");
}

TEST(PageAttributesConcurrency, ReadersSeeEachPageOldOrNewWhileOthersChangeTheirOwn) {
  const PhysRange all = range(0, 64ULL << 21);
  Kept kept{all};
  // Odd blocks never change; even ones belong to two writers, which set them whole, page by page
  // and in runs over many blocks.
  const auto block = [](std::uint64_t index) { return range(index << 21, (index + 1) << 21); };
  for (std::uint64_t i = 1; i < 64; i += 2) {
    kept.attributes.set(block(i), PageAttribute::kShared);
  }
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> wrong = 0;
  const auto write = [&](std::uint64_t first, std::uint64_t seed) {
    std::mt19937_64 random{seed};
    while (!stop) {
      const std::uint64_t mine = (first + 4 * (random() % 16)) << 21;
      const std::uint64_t begin = mine + random() % 512 * 4096;
      const std::uint64_t end = std::min(mine + (1 << 21), begin + (1 + random() % 512) * 4096);
      kept.attributes.set(range(begin, end), static_cast<PageAttribute>(random() % 2));
      // Entries come and go: all words behind them move.
      kept.attributes.set(block(first), static_cast<PageAttribute>(random() % 2));
    }
  };
  std::thread one{write, 0, 1};
  std::thread two{write, 2, 2};
  std::mt19937_64 random{3};
  for (int i = 0; i < 500'000; ++i) {
    const std::uint64_t odd = (2 * (random() % 32) + 1) << 21;
    wrong += kept.attributes.get(PhysAddr{odd + random() % 512 * 4096}) != PageAttribute::kShared;
    if (i % 100 == 0) {
      wrong += !kept.attributes.all(range(odd, odd + (1 << 21)), PageAttribute::kShared);
    }
  }
  stop = true;
  one.join();
  two.join();
  EXPECT_EQ(wrong, 0U);
  EXPECT_TRUE(kept.attributes.invariants());
}

}  // namespace
}  // namespace accede::host
