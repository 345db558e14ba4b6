#include "accede/efi/kernel/clock.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>

namespace accede::efi::kernel {
namespace {

__extension__ using Wide = unsigned __int128;
constexpr std::uint64_t kSecond = 1'000'000'000;

TEST(Clock, ConvertsTicksExactlyForEveryFrequency) {
  std::mt19937_64 random{0x11};
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t hz = random() % Clock::kMaxHz + 1;
    const std::uint64_t ticks = random() >> random() % 64;
    const Wide exact = Wide{ticks} * kSecond / hz;
    if (exact >> 64 == 0) {
      ASSERT_EQ((Clock{hz, 0}.ns_of(ticks)), static_cast<std::uint64_t>(exact))
          << ticks << " " << hz;
    }
  }
}

TEST(Clock, ConvertsNanosecondsExactlyForEveryFrequency) {
  std::mt19937_64 random{0x12};
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t hz = random() % Clock::kMaxHz + 1;
    const std::uint64_t ns = random() >> random() % 64;
    const Wide exact = Wide{ns} * hz / kSecond;
    if (exact >> 64 == 0) {
      ASSERT_EQ((Clock{hz, 0}.ticks_of(ns)), static_cast<std::uint64_t>(exact)) << ns << " " << hz;
    }
  }
}

TEST(Clock, KeepsTheLargestRemainderAtTheLargestFrequency) {
  const Clock clock{Clock::kMaxHz, 0};
  EXPECT_EQ(clock.ns_of(Clock::kMaxHz - 1), kSecond - 1);
  EXPECT_EQ(clock.ns_of(7 * Clock::kMaxHz + Clock::kMaxHz - 1), 8 * kSecond - 1);
}

TEST(Clock, RefusesFrequenciesThatItCannotConvert) {
  EXPECT_FALSE(Clock::is_possible(0));
  EXPECT_TRUE(Clock::is_possible(1));
  EXPECT_TRUE(Clock::is_possible(Clock::kMaxHz));
  EXPECT_FALSE(Clock::is_possible(Clock::kMaxHz + 1));
}

TEST(Clock, IsAtZeroBeforeItsEntry) {
  EXPECT_EQ((Clock{kSecond, ~0ULL}.now_ns()), 0U);
}

TEST(Clock, SpinsAtLeastAsLongAsAsked) {
  const Clock clock{kSecond, 0};
  const std::uint64_t before = Clock::ticks();
  clock.spin(100'000);
  EXPECT_GT(Clock::ticks() - before, 100'000U);
}

}  // namespace
}  // namespace accede::efi::kernel
