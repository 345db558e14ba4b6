// A stock kernel starts itself again inside the TD, by kexec_file_load from our init.

#include "accede/cli/boot_archive.hpp"
#include "accede/cli/kernel_cache.hpp"
#include "tests/boot/linux_boot.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

namespace accede::test {
namespace {

Boot kexec(std::vector<std::string> options) {
  options.insert(options.begin(), {"--kernel", "debian-6.12", "--kexec", "--timeout", "150"});
  return boot(options, Seconds{180});
}

/// The steps name everybody in turn, with the bytes that the counters have.
void expect_the_flow(const Boot& result) {
  std::vector<std::string> who;
  std::uint64_t by_kernel = 0;
  for (const Json& step : result.at("/steps")) {
    const std::string name = step.at("who");
    if (who.empty() || who.back() != name) {
      who.push_back(name);
    }
    if (name == "kernel" && by_kernel == 0) {
      by_kernel = step.at("bytes");
    }
  }
  EXPECT_EQ(who, (std::vector<std::string>{"host", "firmware", "loader", "kernel", "kexec"}))
      << result;
  EXPECT_EQ(by_kernel, result.bytes("/accept/by_kernel_bytes")) << result;
}

TEST(LinuxKexec, HandsTheTableToTheNextKernelAndNothingIsAcceptedTwice) {
  const Boot result = kexec({"--memory", "4G", "--steps"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_EQ(result.text("/outcome"), "userspace") << result;
  EXPECT_TRUE(result.at("/fault").is_null()) << result;
  EXPECT_GT(result.bytes("/kexec/unaccepted_before_bytes"), kGiB) << result;
  EXPECT_GT(result.bytes("/kexec/unaccepted_after_bytes"), 512 * kMiB) << result;
  EXPECT_LE(result.bytes("/kexec/unaccepted_after_bytes"),
            result.bytes("/kexec/unaccepted_before_bytes"))
      << result;
  EXPECT_EQ(result.bytes("/kexec/double_accepts"), 0U) << result;
  EXPECT_EQ(result.bytes("/accept/already_accepted"), 0U) << result;
  expect_the_flow(result);
}

TEST(LinuxKexec, FromOurLoadersTableWorksToo) {
  const Boot result = kexec({"--memory", "4G", "--loader", "accede"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_GT(result.bytes("/kexec/unaccepted_after_bytes"), 512 * kMiB) << result;
  EXPECT_EQ(result.bytes("/kexec/double_accepts"), 0U) << result;
}

/// Kernel and an initramfs of this size for the next kernel, as an initramfs of the first.
std::string archive_with_initrd(const Scratch& scratch, std::uint64_t bytes,
                                const std::filesystem::path& kernel) {
  const std::filesystem::path init = scratch / "init.cpio";
  const std::filesystem::path archive = scratch / "archive.cpio";
  std::filesystem::copy_file(std::filesystem::path{ACCEDE_ARTIFACTS} / "init.cpio", init);
  std::filesystem::resize_file(init, bytes);  // zeros behind an archive mean nothing
  const auto written = cli::write_boot_archive(init, kernel, archive);
  EXPECT_TRUE(written.has_value());
  return archive.string();
}

/// A finding, not a wish. Linux before 6.15 (without caeb8ba598f0) chooses the top of RAM for the
/// segments of a kexec and copies them there without accepting it. What saves a small initramfs is
/// that the page structures, which it accepts at boot, lie there too.
TEST(LinuxKexec, Regression_L14_AnOldKernelCopiesItsInitramfsToUnacceptedMemory) {
  cli::SignalWatch signals;
  const auto kernel = cli::find_or_fetch_kernel("debian-6.12", cli::kernel_cache_directory(),
                                                signals, [](std::string_view) {});
  if (!kernel) {
    GTEST_SKIP() << kernel.error().message;
  }
  const Scratch scratch;
  const Boot result = boot(
      {"--kernel", kernel->string(), "--initrd", archive_with_initrd(scratch, 32 * kMiB, *kernel),
       "--append", "accede.kexec=1", "--memory", "4G", "--timeout", "100"},
      Seconds{120});
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_EQ(result.text("/outcome"), "guest-fault") << result;
  EXPECT_EQ(result.text("/fault/kind"), "unaccepted-access") << result;
}

}  // namespace
}  // namespace accede::test
