// Figures that need the machine for themselves.

#include "tests/boot/figures.hpp"

#include <gtest/gtest.h>

#include <string>

namespace accede::test {
namespace {

void expect_kernel_to_init_at_most(double most, const std::string& platform) {
  expect_figures([&] {
    const Boot plain = boot({"--kernel", "debian-6.12", "--platform", "none"});
    const Boot guest = boot({"--kernel", "debian-6.12", "--platform", platform});
    for (const Boot* run : {&plain, &guest}) {
      if (auto verdict = unusable(*run)) {
        return *verdict;
      }
    }
    const double before = plain.number("/seconds/kernel_to_init");
    const double after = guest.number("/seconds/kernel_to_init");
    return Verdict{.good = after <= most * before,
                   .text = "4G kernel to init: " + platform + " " + seconds(after) + ", plain " +
                           seconds(before) + ", ratio " + std::to_string(after / before),
                   .skip = {}};
  });
}

TEST(BootFigures, KernelToInitTakesLessThanOnePointSixTimesThatOfThePlainMachine) {
  expect_kernel_to_init_at_most(1.6, "tdx");
}

TEST(BootFigures, KernelToInitTakesAnSnpGuestLessThanTwiceAsLongAsThePlainMachine) {
  expect_kernel_to_init_at_most(2.0, "snp");
}

TEST(BootFigures, TheWholeLazyBootTakesAtMostTwentySeconds) {
  expect_figures([] {
    const Boot td = boot({"--kernel", "debian-6.12"});
    if (auto verdict = unusable(td)) {
      return *verdict;
    }
    const double total = td.number("/seconds/total");
    return Verdict{.good = total <= 20, .text = "4G lazy: " + seconds(total), .skip = {}};
  });
}

TEST(BootFigures, SixtyFourGibibytesBootLazilyInHalfAMinute) {
  expect_figures([] {
    const Boot td = boot({"--kernel", "debian-6.12", "--memory", "64G"});
    if (auto verdict = unusable(td)) {
      return *verdict;
    }
    const double total = td.number("/seconds/total");
    EXPECT_GT(td.bytes("/guest/unaccepted_bytes"), 50 * kGiB);
    return Verdict{.good = total <= 30, .text = "64G lazy: " + seconds(total), .skip = {}};
  });
}

}  // namespace
}  // namespace accede::test
