// A loader that leaves boot services itself: stock kernels that boot from our table, and everything
// that it must refuse.

#include "accede/cli/kernel_cache.hpp"
#include "tests/boot/linux_boot.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace accede::test {
namespace {

namespace fs = std::filesystem;

Boot loader_boot(std::vector<std::string> options) {
  options.insert(options.begin(), {"--loader", "accede"});
  Boot result = linux_boot(options);
  if (!missing_kernel(result)) {
    expect_a_clean_guest(result);
  }
  return result;
}

TEST(Loader, Regression_T02_AStockKernelUsesOurTableAsTheOneOfItsOwnStub) {
  // Without random addresses: where the kernel lies decides whether its own memory is accepted on
  // top, 56 MiB that are no fault of a table.
  const std::vector<std::string> options{"--kernel", "debian-6.12", "--append", "nokaslr"};
  const Boot stub = boot(options);
  const Boot ours = loader_boot(options);
  ACCEDE_SKIP_WITHOUT_KERNEL(ours);
  const double stub_total = stub.number("/guest/mem_total_bytes");
  EXPECT_NEAR(ours.number("/guest/mem_total_bytes"), stub_total, 0.01 * stub_total) << ours;
  EXPECT_NEAR(ours.number("/guest/unaccepted_bytes"), stub.number("/guest/unaccepted_bytes"),
              64.0 * kMiB)
      << ours;
  EXPECT_EQ(ours.text("/guest/memory_encryption"), "Intel TDX") << ours;
  EXPECT_EQ(ours.text("/loader"), "accede");
}

TEST(Loader, AcceptsEverythingForAKernelThatCannot) {
  const Boot result = loader_boot({"--kernel", "debian-6.1"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_GT(result.number("/guest/mem_total_bytes"), 3.7 * kGiB) << result;
  EXPECT_LT(result.bytes("/guest/lost_bytes"), 64 * kMiB) << result;
  EXPECT_EQ(result.bytes("/accept/by_loader_bytes"), result.bytes("/lazy_bytes")) << result;
  EXPECT_EQ(result.bytes("/accept/by_kernel_bytes"), 0U) << result;
}

TEST(Loader, PassesMoreEntriesThanTheZeroPageHolds) {
  const Boot result = loader_boot({"--kernel", "debian-6.12", "--map-holes", "200"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_TRUE(result.console_has("extended physical RAM map")) << result;
  EXPECT_GT(result.number("/guest/mem_total_bytes"), 3.7 * kGiB) << result;
  EXPECT_GT(result.bytes("/guest/unaccepted_bytes"), kGiB) << result;
}

TEST(Loader, PutsKernelAndInitrdIntoMemoryThatItAccepts) {
  const Boot result = loader_boot({"--kernel", "debian-6.12", "--append", "accede.place=high"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_GT(result.bytes("/accept/by_loader_bytes"), 32 * kMiB) << result;
  EXPECT_EQ(result.bytes("/accept/already_accepted"), 0U) << result;
  EXPECT_GT(result.bytes("/guest/unaccepted_bytes"), kGiB) << result;
}

TEST(Loader, AcceptsEverythingWhenThereIsNoMemoryForATable) {
  const Boot result = loader_boot({"--kernel", "debian-6.12", "--map-lie", "no-table"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_EQ(result.bytes("/guest/unaccepted_bytes"), 0U) << result;
  EXPECT_EQ(result.bytes("/accept/by_loader_bytes"), result.bytes("/lazy_bytes")) << result;
  EXPECT_GT(result.number("/guest/mem_total_bytes"), 3.7 * kGiB) << result;
}

TEST(Loader, AcceptsNothingOnThePlainMachine) {
  const Boot result = loader_boot({"--kernel", "debian-6.12", "--platform", "none"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_GT(result.number("/guest/mem_total_bytes"), 3.7 * kGiB) << result;
}

// --- What it refuses -----------------------------------------------------------------------------

/// The loader says why and goes back to the firmware, which powers off.
void expect_refusal(const std::vector<std::string>& options, const std::string& reason) {
  std::vector<std::string> all{"--loader", "accede", "--timeout", "60"};
  all.insert(all.end(), options.begin(), options.end());
  const Boot result = boot(all, Seconds{90});
  if (const auto missing = missing_kernel(result)) {
    GTEST_SKIP() << *missing;
  }
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_EQ(result.text("/outcome"), "panic") << result;
  EXPECT_NE(result.text("/message").find(reason), std::string::npos) << reason << "\n" << result;
}

TEST(LoaderRefuses, AMemoryMapThatContradictsItself) {
  expect_refusal({"--kernel", "debian-6.12", "--map-lie", "overlap"}, "claim the same memory");
}

TEST(LoaderRefuses, AMemoryMapThatWraps) {
  expect_refusal({"--kernel", "debian-6.12", "--map-lie", "wrap"}, "address space");
}

TEST(LoaderRefuses, AMemoryMapThatIsNotAligned) {
  expect_refusal({"--kernel", "debian-6.12", "--map-lie", "unaligned"}, "aligned");
}

TEST(LoaderRefuses, AMemoryMapThatGrowsAtEachCall) {
  expect_refusal({"--kernel", "debian-6.12", "--map-lie", "grow"},
                 "the memory map grew beyond its buffer");
}

TEST(LoaderRefuses, ToGoOnWhenTheFirmwareNeverLetsGo) {
  // Boot services are half gone by then: the message goes to the serial port, and it powers off.
  const Boot result = boot(
      {"--loader", "accede", "--kernel", "debian-6.12", "--map-lie", "restless", "--timeout", "60"},
      Seconds{90});
  if (const auto missing = missing_kernel(result)) {
    GTEST_SKIP() << *missing;
  }
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_EQ(result.text("/outcome"), "reset") << result;
  EXPECT_EQ(result.text("/message"), "its last words: the memory map changed twice on the way out")
      << result;
}

/// A copy of the kernel with another value in one field of its setup header.
class PatchedKernel {
 public:
  PatchedKernel(std::uint64_t offset, std::uint32_t value, std::size_t bytes) {
    cli::SignalWatch signals;
    const auto kernel = cli::find_or_fetch_kernel("debian-6.12", cli::kernel_cache_directory(),
                                                  signals, [](std::string_view) {});
    if (!kernel) {
      missing_ = kernel.error().message;
      return;
    }
    fs::copy_file(*kernel, path_);
    fs::permissions(path_, fs::perms{0600});
    std::fstream file{path_, std::ios::binary | std::ios::in | std::ios::out};
    file.seekp(static_cast<std::streamoff>(offset));
    file.write(reinterpret_cast<const char*>(&value), static_cast<std::streamsize>(bytes));
  }
  void expect_refusal_with(const std::string& reason) const {
    if (!missing_.empty()) {
      GTEST_SKIP() << missing_;
    }
    expect_refusal({"--kernel", path_.string()}, reason);
  }

 private:
  Scratch scratch_;
  fs::path path_ = scratch_ / "vmlinuz";
  std::string missing_;
};

TEST(LoaderRefuses, AKernelWhoseAlignmentIsNone) {
  PatchedKernel{0x230, 0x12345, 4}.expect_refusal_with("alignment");
}

TEST(LoaderRefuses, ACommandLineThatTheKernelDoesNotTake) {
  PatchedKernel{0x238, 10, 4}.expect_refusal_with("command line is longer than the kernel takes");
}

TEST(LoaderRefuses, AKernelThatNeedsMoreMemoryThanThereIs) {
  PatchedKernel{0x260, 0xFFE0'0000, 4}.expect_refusal_with("no room for the kernel");
}

}  // namespace
}  // namespace accede::test
