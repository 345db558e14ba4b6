// Stock distribution kernels, unmodified, as SEV-SNP guests.

#include "tests/boot/linux_boot.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace accede::test {
namespace {

constexpr double k37GiB = 3.7 * kGiB;
constexpr const char* kActive = "AMD SEV SEV-ES SEV-SNP";

Boot snp_boot(std::vector<std::string> options) {
  options.insert(options.begin(), {"--platform", "snp"});
  Boot result = linux_boot(options);
  if (!missing_kernel(result)) {
    EXPECT_EQ(result.text("/platform"), "snp");
    EXPECT_EQ(result.text("/guest/memory_encryption"), kActive) << result;
    EXPECT_EQ(result.bytes("/convert/implicit_pages"), 0U)
        << "a kernel that does its page state changes right has none\n"
        << result;
    expect_a_clean_guest(result);
  }
  return result;
}

TEST(SnpLinux612, ReachesUserSpaceWithMostMemoryUnaccepted) {
  const Boot result = snp_boot({"--kernel", "debian-6.12"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_TRUE(result.console_has("SNP running at VMPL0")) << result;
  EXPECT_GT(result.bytes("/guest/unaccepted_bytes"), kGiB) << result;
  EXPECT_GT(result.number("/guest/mem_total_bytes"), k37GiB) << result;
  EXPECT_LT(result.bytes("/guest/lost_bytes"), 64 * kMiB) << result;
  EXPECT_LT(result.bytes("/host/backed_bytes"), 2 * kGiB) << result;
  // Both styles: single pages before there is a GHCB page, lists afterwards.
  EXPECT_GT(result.bytes("/exits/ghcb/msr-page-state"), 0U) << result;
  EXPECT_GT(result.bytes("/exits/ghcb/page-state-change"), 0U) << result;
  EXPECT_GT(result.bytes("/exits/ghcb/msr-register"), 0U) << result;
  EXPECT_GT(result.bytes("/rmp/rmpadjust_calls"), 0U) << "which VMPL it runs at";
  EXPECT_GE(result.bytes("/convert/to_shared_bytes"), 32 * kMiB) << "bounce buffers";
  expect_sums_to_agree(result);
}

TEST(SnpLinux612, AcceptsEverythingAtOnceWhenAskedTo) {
  const Boot result = snp_boot({"--kernel", "debian-6.12", "--accept", "eager"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_EQ(result.bytes("/guest/unaccepted_bytes"), 0U) << result;
  expect_sums_to_agree(result);
}

TEST(SnpLinux612, FindsWhatItWroteInEveryPageThatItAcceptsLater) {
  const Boot result = snp_boot({"--kernel", "debian-6.12", "--memory", "3G", "--touch", "all"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_EQ(result.bytes("/work/wrong_pages"), 0U) << result;
  EXPECT_EQ(result.bytes("/work/unaccepted_bytes"), 0U) << result;
}

TEST(SnpLinux612, FallsBackToSmallPagesOnAHostThatBacksWithThem) {
  const Boot result = snp_boot({"--kernel", "debian-6.12", "--memory", "3G", "--backing", "4k"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_GT(result.bytes("/accept/size_mismatch"), 0U) << result;
  EXPECT_EQ(result.bytes("/accept/calls/2m"), 0U) << result;
  EXPECT_EQ(result.bytes("/rmp/smashed_pages"), 0U) << "there is nothing to smash";
  expect_sums_to_agree(result);
}

TEST(SnpLinux612, CannotStartAnotherKernelAndIsToldWhy) {
  const Boot result = boot({"--platform", "snp", "--kernel", "debian-6.12", "--kexec"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_EQ(result.text("/outcome"), "guest-fault") << result;
  EXPECT_EQ(result.text("/fault/kind"), "shared-private-mismatch") << result;
  EXPECT_EQ(result.bytes("/accept/already_accepted"), 0U) << result;
}

}  // namespace
}  // namespace accede::test
