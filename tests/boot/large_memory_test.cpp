// Guests that use most of the host's memory.

#include "tests/boot/linux_boot.hpp"

#include <gtest/gtest.h>

namespace accede::test {
namespace {

TEST(Linux612, AcceptsEverythingInTheEndWhenAllMemoryIsTouched) {
  if (const auto reason = too_large(12 * kGiB)) {
    GTEST_SKIP() << *reason;
  }
  const Boot result = linux_boot(
      {"--kernel", "debian-6.12", "--memory", "12G", "--touch", "all", "--timeout", "280"},
      Seconds{300});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_GT(result.bytes("/guest/unaccepted_bytes"), 5 * kGiB) << result;
  expect_sums_to_agree(result);
  EXPECT_EQ(result.bytes("/work/unaccepted_bytes"), 0U) << result;
  EXPECT_EQ(result.bytes("/work/wrong_pages"), 0U) << "every page was zero at its first touch";
  EXPECT_EQ(result.text("/work/stopped"), "accepted") << result;
  EXPECT_GT(result.bytes("/work/touched_bytes"), 8 * kGiB) << result;
  EXPECT_NEAR(result.number("/work/accept_bytes"), result.number("/lazy_bytes"), kBlock) << result;
  expect_a_clean_guest(result);
}

}  // namespace
}  // namespace accede::test
