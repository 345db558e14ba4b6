#include "accede/guest/reserve.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace accede::guest {
namespace {

constexpr std::uint64_t kMs = 1'000'000;

/// Takes memory at a steady rate, as a clock runs.
struct Load {
  void run(std::uint64_t milliseconds, Bytes each) {
    for (std::uint64_t i = 0; i < milliseconds; ++i) {
      now += kMs;
      pages += each / Bytes{4096};
      reserve.observe(now, PageCount{pages});
    }
  }
  Reserve reserve{ReserveConfig{}};
  std::uint64_t now = 0;
  std::uint64_t pages = 0;
};

TEST(Reserve, IsTheFloorWhileNothingIsTaken) {
  Load load;
  EXPECT_EQ(load.reserve.target(), 8_MiB);
  load.run(1000, Bytes{0});
  EXPECT_EQ(load.reserve.target(), 8_MiB);
  EXPECT_EQ(load.reserve.per_millisecond(), Bytes{0});
}

TEST(Reserve, LastsForTheHorizonAtTheRecentRate) {
  Load load;
  load.run(50, 2_MiB);
  EXPECT_EQ(load.reserve.per_millisecond(), 2_MiB);
  EXPECT_EQ(load.reserve.target(), 40_MiB);
}

TEST(Reserve, NeverExceedsTheCeiling) {
  Load load;
  load.run(50, 64_MiB);
  EXPECT_EQ(load.reserve.target(), 192_MiB);
}

TEST(Reserve, FollowsARisingRateWithinOneWindow) {
  Load load;
  load.run(100, 1_MiB);
  load.run(21, 4_MiB);
  EXPECT_EQ(load.reserve.per_millisecond(), 4_MiB);
}

TEST(Reserve, ForgetsAFallingRateSlowly) {
  Load load;
  load.run(50, 4_MiB);
  load.run(20, Bytes{0});
  EXPECT_GT(load.reserve.per_millisecond(), 2_MiB);
  load.run(1000, Bytes{0});
  EXPECT_LT(load.reserve.per_millisecond(), 64_KiB);
}

TEST(Reserve, ForgetsAtOnceWhatWasLongAgo) {
  Load load;
  load.run(50, 4_MiB);
  load.reserve.observe(load.now + 100 * kMs, PageCount{load.pages});
  EXPECT_EQ(load.reserve.target(), 8_MiB);
}

TEST(Reserve, DoesNotMeasureOverLessThanAWindow) {
  Load load;
  load.run(1, Bytes{0});
  load.run(9, 4_MiB);
  EXPECT_EQ(load.reserve.per_millisecond(), Bytes{0});
  load.run(1, 4_MiB);
  EXPECT_EQ(load.reserve.per_millisecond(), 4_MiB);
}

TEST(Reserve, WhatWasTakenBeforeTheFirstLookIsNoRate) {
  Reserve reserve{ReserveConfig{}};
  reserve.observe(100 * kMs, PageCount{1ULL << 30});
  reserve.observe(200 * kMs, PageCount{1ULL << 30});
  EXPECT_EQ(reserve.per_millisecond(), Bytes{0});
}

TEST(Reserve, IsLowAtSevenEighths) {
  EXPECT_EQ(Reserve{ReserveConfig{.floor = 64_MiB}}.low(), 56_MiB);
}

TEST(Reserve, AFloorAboveTheCeilingWins) {
  Load load;
  load.reserve = Reserve{{.floor = 64_MiB, .ceiling = 32_MiB}};
  load.run(50, 64_MiB);
  EXPECT_EQ(load.reserve.target(), 64_MiB);
}

}  // namespace
}  // namespace accede::guest
