#include "accede/base/phys_range.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

namespace accede {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

PhysRange range(std::uint64_t begin, std::uint64_t end) {
  return PhysRange::make(PhysAddr{begin}, PhysAddr{end}).value();
}

TEST(PhysRange, IsEmptyByDefault) {
  EXPECT_TRUE(PhysRange{}.empty());
  EXPECT_EQ(PhysRange{}.size(), 0_B);
}

TEST(PhysRange, IsMadeFromTwoAddressesInOrder) {
  const auto made = PhysRange::make(PhysAddr{0x1000}, PhysAddr{0x3000});
  ASSERT_TRUE(made);
  EXPECT_EQ(made->begin(), PhysAddr{0x1000});
  EXPECT_EQ(made->end(), PhysAddr{0x3000});
  EXPECT_EQ(made->size(), 8_KiB);
  EXPECT_FALSE(PhysRange::make(PhysAddr{2}, PhysAddr{1}));
}

TEST(PhysRange, IsMadeFromASizeThatFits) {
  EXPECT_EQ(PhysRange::make(PhysAddr{0x1000}, 8_KiB), range(0x1000, 0x3000));
  EXPECT_EQ(PhysRange::make(PhysAddr{kMax}, 0_B), range(kMax, kMax));
  EXPECT_EQ(PhysRange::make(PhysAddr{kMax - 1}, 1_B), range(kMax - 1, kMax));
}

TEST(PhysRange, IsNotMadeWhenItEndsAtOrBeyondTheTop) {
  EXPECT_FALSE(PhysRange::make(PhysAddr{kMax}, 1_B));
  EXPECT_FALSE(PhysRange::make(PhysAddr{1}, Bytes{kMax}));
}

TEST(PhysRange, MayBeEmptyAnywhere) {
  EXPECT_TRUE(range(0x1000, 0x1000).empty());
  EXPECT_FALSE(range(0x1000, 0x1001).empty());
}

TEST(PhysRange, FindsThePageOfAnAddress) {
  EXPECT_EQ(PhysRange::page(PhysAddr{0x201FFF}, PageSize::k4K), range(0x201000, 0x202000));
  EXPECT_EQ(PhysRange::page(PhysAddr{0x201FFF}, PageSize::k2M), range(0x200000, 0x400000));
  EXPECT_EQ(PhysRange::page(PhysAddr{0x201FFF}, PageSize::k1G), range(0, 0x40000000));
}

TEST(PhysRangeDeathTest, StopsAtThePageThatEndsAtTheTop) {
  EXPECT_DEATH(static_cast<void>(PhysRange::page(PhysAddr{kMax}, PageSize::k4K)), "");
}

TEST(PhysRange, ContainsItsBeginButNotItsEnd) {
  const PhysRange r = range(0x1000, 0x2000);
  EXPECT_TRUE(r.contains(PhysAddr{0x1000}));
  EXPECT_TRUE(r.contains(PhysAddr{0x1FFF}));
  EXPECT_FALSE(r.contains(PhysAddr{0x2000}));
  EXPECT_FALSE(r.contains(PhysAddr{0xFFF}));
}

TEST(PhysRange, ContainsARangeThatLiesWhollyInside) {
  const PhysRange r = range(10, 20);
  EXPECT_TRUE(r.contains(range(10, 20)));
  EXPECT_TRUE(r.contains(range(12, 13)));
  EXPECT_FALSE(r.contains(range(9, 11)));
  EXPECT_FALSE(r.contains(range(19, 21)));
  EXPECT_TRUE(r.contains(range(20, 20)));
  EXPECT_FALSE(r.contains(range(21, 21)));
}

TEST(PhysRange, OverlapsWhenOneAddressLiesInBoth) {
  EXPECT_TRUE(range(10, 20).overlaps(range(19, 30)));
  EXPECT_TRUE(range(19, 30).overlaps(range(10, 20)));
  EXPECT_TRUE(range(10, 20).overlaps(range(12, 13)));
}

TEST(PhysRange, DoesNotOverlapItsNeighbour) {
  EXPECT_FALSE(range(10, 20).overlaps(range(20, 30)));
  EXPECT_FALSE(range(20, 30).overlaps(range(10, 20)));
}

TEST(PhysRange, OverlapsNothingWhenEmpty) {
  EXPECT_FALSE(range(15, 15).overlaps(range(10, 20)));
  EXPECT_FALSE(range(10, 20).overlaps(range(15, 15)));
  EXPECT_FALSE(range(15, 15).overlaps(range(15, 15)));
}

TEST(PhysRange, IntersectsInWhatLiesInBoth) {
  EXPECT_EQ(range(10, 20).intersect(range(15, 30)), range(15, 20));
  EXPECT_EQ(range(15, 30).intersect(range(10, 20)), range(15, 20));
  EXPECT_EQ(range(10, 20).intersect(range(12, 13)), range(12, 13));
  EXPECT_TRUE(range(10, 20).intersect(range(20, 30)).empty());
  EXPECT_TRUE(range(10, 20).intersect(range(25, 30)).empty());
}

TEST(PhysRange, OverlapAgreesWithIntersectionForAllSmallRanges) {
  for (std::uint64_t a = 0; a < 6; ++a) {
    for (std::uint64_t b = a; b < 6; ++b) {
      for (std::uint64_t c = 0; c < 6; ++c) {
        for (std::uint64_t d = c; d < 6; ++d) {
          bool common = false;
          for (std::uint64_t x = 0; x < 6; ++x) {
            common |= range(a, b).contains(PhysAddr{x}) && range(c, d).contains(PhysAddr{x});
          }
          EXPECT_EQ(range(a, b).overlaps(range(c, d)), common) << a << b << c << d;
          EXPECT_EQ(range(a, b).intersect(range(c, d)).empty(), !common) << a << b << c << d;
        }
      }
    }
  }
}

TEST(PhysRangeGaps, AreWhatNoHoleCovers) {
  const auto range = [](std::uint64_t begin, std::uint64_t end) {
    return PhysRange::make(PhysAddr{begin}, PhysAddr{end}).value();
  };
  const std::array holes{range(0, 12), range(14, 14), range(20, 30), range(25, 40), range(50, 90)};
  std::vector<PhysRange> gaps;
  EXPECT_TRUE(for_each_gap(range(10, 60), holes, [&](PhysRange gap) {
    gaps.push_back(gap);
    return true;
  }));
  EXPECT_EQ(gaps, (std::vector{range(12, 20), range(40, 50)}));
  EXPECT_FALSE(for_each_gap(range(10, 60), holes, [](PhysRange) { return false; }));
  EXPECT_TRUE(for_each_gap(range(20, 30), holes, [](PhysRange) { return false; })) << "all covered";
}

}  // namespace
}  // namespace accede
