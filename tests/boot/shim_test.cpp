// The shim between the firmware and a kernel: memory for one that cannot accept it, nothing for one
// that can.

#include "accede/cli/kernel_cache.hpp"
#include "tests/boot/linux_boot.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace accede::test {
namespace {

namespace fs = std::filesystem;

constexpr double k37GiB = 3.7 * kGiB;

Boot shim_boot(std::vector<std::string> options) {
  options.insert(options.begin(), "--shim");
  Boot result = linux_boot(options);
  if (!missing_kernel(result)) {
    EXPECT_EQ(result.at("/shim"), true) << result;
    expect_a_clean_guest(result);
  }
  return result;
}

class Shim : public ::testing::TestWithParam<const char*> {};

TEST_P(Shim, GivesAKernelThatCannotAcceptAllItsMemory) {
  const Boot result =
      shim_boot({"--platform", GetParam(), "--firmware", "never", "--kernel", "debian-6.1"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_GT(result.number("/guest/mem_total_bytes"), k37GiB) << result;
  EXPECT_LT(result.bytes("/guest/lost_bytes"), 64 * kMiB) << result;
  EXPECT_EQ(result.bytes("/accept/by_loader_bytes"), result.bytes("/lazy_bytes")) << result;
  EXPECT_EQ(result.bytes("/accept/already_accepted"), 0U) << result;
  EXPECT_TRUE(result.console_has("it cannot accept memory")) << result;
}

TEST_P(Shim, LeavesAKernelThatAcceptsAlone) {
  const Boot result =
      shim_boot({"--platform", GetParam(), "--firmware", "never", "--kernel", "debian-6.12"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_EQ(result.bytes("/accept/by_loader_bytes"), 0U) << result;
  EXPECT_GT(result.bytes("/guest/unaccepted_bytes"), kGiB) << result;
  EXPECT_GT(result.number("/guest/mem_total_bytes"), k37GiB) << result;
  EXPECT_TRUE(result.console_has("it accepts memory itself")) << result;
  expect_sums_to_agree(result);
}

TEST_P(Shim, SpeaksForAKernelThatDroppedTheHandshake) {
  const Boot result = shim_boot({"--platform", GetParam(), "--firmware", "handshake",
                                 "--hide-handshake", "--kernel", "debian-6.12"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_EQ(result.bytes("/accept/by_firmware_bytes"), 0U) << result;
  EXPECT_GT(result.bytes("/guest/unaccepted_bytes"), kGiB) << result;
}

INSTANTIATE_TEST_SUITE_P(Platforms, Shim, ::testing::Values("tdx", "snp"),
                         [](const auto& test) { return std::string{test.param}; });

TEST(ShimBoot, SaysOfAKernelWithoutTdxThatOnlyAnEmulatorRunsIt) {
  const Boot result = shim_boot({"--platform", "tdx", "--kernel", "debian-6.1"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_TRUE(result.console_has("does not know TDX: only an emulator runs it")) << result;
}

TEST(ShimBoot, DoesNothingOnAPlainMachine) {
  const Boot result = shim_boot({"--platform", "none", "--kernel", "debian-6.12"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_GT(result.number("/guest/mem_total_bytes"), k37GiB) << result;
  EXPECT_FALSE(result.console_has("accede-shim")) << result;
}

TEST(ShimBoot, KnowsAnImageAtTheNextBoot) {
  const Scratch scratch;
  const std::vector<std::string> options{
      "--platform", "snp",        "--firmware",  "never",
      "--kernel",   "debian-6.1", "--variables", (scratch / "variables.fd").string()};
  const Boot first = shim_boot(options);
  ACCEDE_SKIP_WITHOUT_KERNEL(first);
  EXPECT_TRUE(first.console_has("new image: Linux 6.1.")) << first;
  const Boot second = shim_boot(options);
  EXPECT_FALSE(second.console_has("new image")) << second;
  EXPECT_TRUE(second.console_has("known image: Linux 6.1.")) << second;
  EXPECT_GT(second.number("/guest/mem_total_bytes"), k37GiB) << second;
}

// --- Images that are no kernels: the shim itself is what is booted, the image lies where the
// initrd does
// ------------------------------------------------------------------------------------------

/// A kernel of the cache, or its absence.
fs::path cached_kernel(const std::string& name) {
  cli::SignalWatch signals;
  const auto kernel = cli::find_or_fetch_kernel(name, cli::kernel_cache_directory(), signals,
                                                [](std::string_view) {});
  return kernel ? *kernel : fs::path{};
}

TEST(ShimBoot, Regression_E05_AcceptsAtExitForAKernelThatItDoesNotSee) {
  // Our loader enters the kernel without the firmware.
  const fs::path kernel = cached_kernel("debian-6.1");
  if (kernel.empty()) {
    GTEST_SKIP() << "no kernel";
  }
  const Boot result =
      boot({"--shim", "--platform", "snp", "--firmware", "never", "--kernel",
            std::string{ACCEDE_ARTIFACTS} + "/accede-loader.efi", "--initrd", kernel.string(),
            "--append",
            "kernel=\\accede\\initrd console=ttyS0 panic=-1 no_timer_check cryptomgr.notests",
            "--timeout", "300"},
           Seconds{330});
  EXPECT_TRUE(result.console_has("a kernel that was not seen leaves boot services")) << result;
  EXPECT_EQ(result.bytes("/accept/by_loader_bytes"), result.bytes("/lazy_bytes")) << result;
  EXPECT_EQ(result.bytes("/accept/already_accepted"), 0U) << result;
  EXPECT_EQ(result.at("/fault"), Json{}) << result;
  EXPECT_TRUE(result.console_has("Unable to mount root fs")) << "the kernel ran\n" << result;
}

TEST(ShimBoot, DoesNotStartAnImageForAnotherProcessor) {
  const fs::path kernel = cached_kernel("debian-6.12");
  if (kernel.empty()) {
    GTEST_SKIP() << "no kernel";
  }
  const Scratch scratch;
  const fs::path arm = scratch / "arm.efi";
  fs::copy_file(kernel, arm);
  fs::permissions(arm, fs::perms{0600});
  std::fstream file{arm, std::ios::binary | std::ios::in | std::ios::out};
  file.seekp(0x44);  // the PE header's machine
  file.write("\x64\xAA", 2);
  file.close();
  const Boot result =
      boot({"--platform", "tdx", "--kernel", std::string{ACCEDE_ARTIFACTS} + "/accede-shim.efi",
            "--initrd", arm.string(), "--append", "image=\\accede\\initrd", "--timeout", "60"},
           Seconds{90});
  EXPECT_TRUE(result.console_has("\\accede\\initrd: it is for 64-bit Arm")) << result;
  EXPECT_NE(result.exit_code, 0) << result;
  EXPECT_EQ(result.bytes("/accept/by_loader_bytes"), 0U) << result;
}

}  // namespace
}  // namespace accede::test
