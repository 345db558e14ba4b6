#include "accede/host/page_attributes.hpp"

#include "tests/host/sept_fixture.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace accede::host {
namespace {

using test::range;

class PageAttributesTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kBegin = 0x7000;
  static constexpr std::uint64_t kPages = 300;

  static PhysRange pages(std::uint64_t first, std::uint64_t end) {
    return range(kBegin + first * 4096, kBegin + end * 4096);
  }

  std::vector<std::uint64_t> storage_ = std::vector<std::uint64_t>(
      PageAttributes::storage_bound(pages(0, kPages)).value() / 8, ~std::uint64_t{0});
  PageAttributes attributes_{pages(0, kPages), std::as_writable_bytes(std::span{storage_})};
};

TEST_F(PageAttributesTest, EveryPageStartsPrivate) {
  EXPECT_TRUE(attributes_.all(pages(0, kPages), PageAttribute::kPrivate));
  EXPECT_EQ(attributes_.run(pages(0, kPages)), pages(0, kPages));
}

TEST_F(PageAttributesTest, TheBoundIsHalfABitAPageAboveABitmap) {
  EXPECT_LE(PageAttributes::storage_bound(range(0, 64ULL << 30)), 2_MiB + 896_KiB);
  EXPECT_LE(PageAttributes::storage_bound(range(0, 4096)), 2_KiB);
}

TEST_F(PageAttributesTest, SetChangesExactlyTheRange) {
  for (const auto& [first, end] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
           {0, 1}, {63, 65}, {64, 128}, {1, 299}, {299, 300}, {5, 5}}) {
    attributes_.set(pages(0, kPages), PageAttribute::kPrivate);
    attributes_.set(pages(first, end), PageAttribute::kShared);
    for (std::uint64_t i = 0; i < kPages; ++i) {
      const bool inside = first <= i && i < end;
      ASSERT_EQ(attributes_.get(pages(i, i + 1).begin() + Bytes{17}),
                inside ? PageAttribute::kShared : PageAttribute::kPrivate)
          << i << " in [" << first << ", " << end << ")";
    }
  }
}

TEST_F(PageAttributesTest, MatchesANaiveVectorUnderRandomChanges) {
  std::mt19937_64 random{test::seed_from_environment(1)};
  std::vector<bool> naive(kPages);
  for (int round = 0; round < 3000; ++round) {
    std::uint64_t first = random() % (kPages + 1);
    std::uint64_t end = random() % (kPages + 1);
    if (end < first) {
      std::swap(first, end);
    }
    const bool shared = random() % 2 != 0;
    attributes_.set(pages(first, end), static_cast<PageAttribute>(shared));
    std::fill(naive.begin() + static_cast<std::ptrdiff_t>(first),
              naive.begin() + static_cast<std::ptrdiff_t>(end), shared);
    std::uint64_t at = 0;
    attributes_.visit(pages(0, kPages), [&](PhysRange run, PageAttribute attribute) {
      ASSERT_EQ(run.begin(), pages(at, at).begin());
      ASSERT_FALSE(run.empty());
      for (std::uint64_t n = run.size() / 4_KiB; n > 0; --n, ++at) {
        ASSERT_EQ(naive[at], attribute == PageAttribute::kShared);
      }
      // Maximal: the next page differs.
      ASSERT_TRUE(at == kPages || naive[at] != naive[at - 1]);
    });
    ASSERT_EQ(at, kPages);
  }
}

TEST_F(PageAttributesTest, AllIsFalseWhenOnePageDiffers) {
  attributes_.set(pages(130, 131), PageAttribute::kShared);
  EXPECT_FALSE(attributes_.all(pages(0, kPages), PageAttribute::kPrivate));
  EXPECT_FALSE(attributes_.all(pages(129, 132), PageAttribute::kShared));
  EXPECT_TRUE(attributes_.all(pages(130, 131), PageAttribute::kShared));
  EXPECT_TRUE(attributes_.all(pages(7, 7), PageAttribute::kShared));
  EXPECT_EQ(name(PageAttribute::kShared), "shared");
  EXPECT_EQ(name(PageAttribute::kPrivate), "private");
}

}  // namespace
}  // namespace accede::host
