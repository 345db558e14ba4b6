// Our own kernel and our boot loader as SEV-SNP guests.

#include "tests/boot/linux_boot.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace accede::test {
namespace {

/// All memory was handed out and held what was written; nothing was accepted twice.
void expect_all_memory_used(const Boot& result) {
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_EQ(result.text("/outcome"), "ready") << result;
  EXPECT_EQ(result.bytes("/work/wrong_pages"), 0U) << result;
  EXPECT_EQ(result.bytes("/work/unaccepted_bytes"), 0U) << result;
  expect_a_clean_guest(result);
}

TEST(SnpGuestKernel, CanUseAllItsMemoryUnderEveryPolicy) {
  const std::vector<Boot> runs =
      boot_several({"--platform", "snp", "--kernel", "guest", "--accept", "lazy,eager,background",
                    "--memory", "3G", "--work", "fill", "--touch", "all"},
                   Seconds{240});
  ASSERT_EQ(runs.size(), 3U);
  for (const Boot& run : runs) {
    SCOPED_TRACE(run.text("/accept_mode"));
    expect_all_memory_used(run);
    EXPECT_GT(run.bytes("/exits/ghcb/page-state-change"), 0U) << run;
    EXPECT_GT(run.bytes("/exits/ghcb/io"), 0U) << "its console\n" << run;
  }
  EXPECT_EQ(runs[1].bytes("/guest/unaccepted_bytes"), 0U) << "eager accepts before it is ready";
}

TEST(SnpGuestKernel, TakesSmallPagesWhereTheHostHasNoLargeOnes) {
  const Boot result =
      boot({"--platform", "snp", "--kernel", "guest", "--memory", "3G", "--backing", "4k",
            "--accept", "eager", "--touch", "all", "--work", "fill", "--timeout", "100"},
           Seconds{120});
  expect_all_memory_used(result);
  EXPECT_EQ(result.bytes("/accept/calls/2m"), 0U) << result;
}

TEST(SnpGuestKernel, StartsItselfAgainAndAcceptsNothingTwice) {
  const Boot result = boot(
      {"--platform", "snp", "--kernel", "guest", "--memory", "4G", "--kexec", "--touch", "256M"},
      Seconds{180});
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_GT(result.bytes("/kexec/unaccepted_after_bytes"), kGiB) << result;
  EXPECT_EQ(result.bytes("/kexec/double_accepts"), 0U) << result;
  EXPECT_EQ(result.text("/kexec/marked_page"), "kept") << result;
  expect_a_clean_guest(result);
}

TEST(SnpGuestKernel, ReportsThatItTouchedUnacceptedMemory) {
  const Boot result = boot({"--platform", "snp", "--kernel", "guest", "--memory", "3G", "--append",
                            "accede.fault=unaccepted", "--unaccepted-touch", "exception"},
                           Seconds{90});
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_EQ(result.text("/outcome"), "panic") << result;
  EXPECT_TRUE(result.console_has("#VC")) << result;
  EXPECT_TRUE(result.console_has("unaccepted (unit")) << result;
}

TEST(SnpGuestKernel, IsStoppedAtUnacceptedMemoryWhereTheHostAskedForThat) {
  const Boot result = boot({"--platform", "snp", "--kernel", "guest", "--memory", "3G", "--append",
                            "accede.fault=unaccepted"},
                           Seconds{90});
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_EQ(result.text("/fault/kind"), "unaccepted-access") << result;
}

Boot loader_boot(std::vector<std::string> options) {
  options.insert(options.begin(), {"--platform", "snp", "--loader", "accede"});
  Boot result = linux_boot(options);
  if (!missing_kernel(result)) {
    expect_a_clean_guest(result);
    EXPECT_EQ(result.text("/guest/memory_encryption"), "AMD SEV SEV-ES SEV-SNP") << result;
  }
  return result;
}

TEST(SnpLoader, HandsItsTableToAStockKernel) {
  const Boot result = loader_boot({"--kernel", "debian-6.12", "--append", "nokaslr"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_GT(result.number("/guest/mem_total_bytes"), 3.7 * kGiB) << result;
  EXPECT_GT(result.bytes("/guest/unaccepted_bytes"), kGiB) << result;
}

TEST(SnpLoader, AcceptsEverythingForAKernelThatCannot) {
  const Boot result = loader_boot({"--kernel", "debian-6.1", "--firmware", "never"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_GT(result.number("/guest/mem_total_bytes"), 3.7 * kGiB) << result;
  EXPECT_LT(result.bytes("/guest/lost_bytes"), 64 * kMiB) << result;
  EXPECT_EQ(result.bytes("/accept/by_loader_bytes"), result.bytes("/lazy_bytes")) << result;
}

}  // namespace
}  // namespace accede::test
