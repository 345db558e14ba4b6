// Figures that differ several times: another VM beside them does not turn them round.

#include "tests/boot/figures.hpp"

#include <gtest/gtest.h>

#include <string>

namespace accede::test {
namespace {

void expect_lazy_to_win_with_twelve_gibibytes(const std::string& platform) {
  if (const auto reason = too_large(11 * kGiB)) {
    GTEST_SKIP() << *reason;
  }
  expect_figures([&platform] {
    const auto runs = boot_several({"--platform", platform, "--kernel", "debian-6.12", "--memory",
                                    "12G", "--accept", "lazy,eager", "--timeout", "200"},
                                   Seconds{420});
    for (const Boot& run : runs) {
      if (auto verdict = unusable(run)) {
        return *verdict;
      }
    }
    if (runs.size() != 2) {
      return Verdict{.good = false, .text = "not two runs", .skip = {}};
    }
    const double lazy = runs[0].number("/seconds/kernel_to_init");
    const double eager = runs[1].number("/seconds/kernel_to_init");
    const double lazy_backed = runs[0].number("/host/backed_bytes");
    const double eager_backed = runs[1].number("/host/backed_bytes");
    return Verdict{.good = eager >= 2.5 * lazy && lazy_backed * 2 <= eager_backed,
                   .text = platform + ", 12G kernel to init: lazy " + seconds(lazy) + ", eager " +
                           seconds(eager) + ", ratio " + std::to_string(eager / lazy) +
                           "; backed: lazy " + std::to_string(lazy_backed / kGiB) + " GiB, eager " +
                           std::to_string(eager_backed / kGiB) + " GiB",
                   .skip = {}};
  });
}

TEST(BootRatios, LazyIsTwoAndAHalfTimesAsFastAsEagerWithTwelveGibibytes) {
  expect_lazy_to_win_with_twelve_gibibytes("tdx");
}

TEST(BootRatios, LazyIsTwoAndAHalfTimesAsFastAsEagerWithTwelveGibibytesOnSnpToo) {
  expect_lazy_to_win_with_twelve_gibibytes("snp");
}

TEST(BootRatios, LazyIsFourTimesAsFastAsEagerWithSixtyFourGibibytesAtARealTdsSpeed) {
  expect_figures([] {
    const auto runs = boot_several({"--kernel", "debian-6.12", "--memory", "64G", "--accept",
                                    "lazy,eager", "--accept-cost", "1400us", "--timeout", "240"},
                                   Seconds{500});
    for (const Boot& run : runs) {
      if (auto verdict = unusable(run)) {
        return *verdict;
      }
    }
    if (runs.size() != 2) {
      return Verdict{.good = false, .text = "not two runs", .skip = {}};
    }
    const double lazy = runs[0].number("/seconds/kernel_to_init");
    const double eager = runs[1].number("/seconds/kernel_to_init");
    return Verdict{.good = eager >= 4 * lazy,
                   .text = "64G kernel to init at 1.4 ms for 2 MiB: lazy " + seconds(lazy) +
                           ", eager " + seconds(eager) + ", ratio " + std::to_string(eager / lazy),
                   .skip = {}};
  });
}

TEST(BootRatios, OurKernelIsReadyFiveTimesAsSoonAsLinuxWithATenthOfItsAcceptedMemory) {
  expect_figures([] {
    const auto runs = boot_several({"--kernel", "guest,linux", "--memory", "12G"}, Seconds{200});
    if (auto verdict = unusable(runs.back())) {
      return *verdict;
    }
    if (runs.size() != 2) {
      return Verdict{.good = false, .text = "not two runs", .skip = {}};
    }
    const Boot& guest = runs[0];
    const double ready = guest.number("/seconds/kernel_to_init");
    const double init = runs[1].number("/seconds/kernel_to_init");
    const double accepted = guest.number("/accept/bytes");
    const double linux_accepted = runs[1].number("/accept/bytes");
    const double used = guest.number("/guest/used_bytes");
    return Verdict{.good = guest.text("/outcome") == "ready" && init >= 5 * ready &&
                           accepted * 10 <= linux_accepted && accepted <= used + 64.0 * kMiB,
                   .text = "12G: our kernel ready after " + seconds(ready) + ", accepted " +
                           std::to_string(accepted / kMiB) + " MiB, uses " +
                           std::to_string(used / kMiB) + " MiB; Linux's init after " +
                           seconds(init) + " (" + std::to_string(init / ready) + " x), accepted " +
                           std::to_string(linux_accepted / kMiB) + " MiB",
                   .skip = {}};
  });
}

}  // namespace
}  // namespace accede::test
