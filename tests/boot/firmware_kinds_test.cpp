// Who accepts what when the firmware has the handshake, by stock kernels.

#include "tests/boot/linux_boot.hpp"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace accede::test {
namespace {

constexpr double k37GiB = 3.7 * kGiB;

class HandshakeFirmware : public ::testing::TestWithParam<const char*> {
 protected:
  static Boot handshake_boot(std::vector<std::string> options) {
    options.insert(options.begin(), {"--platform", GetParam(), "--firmware", "handshake"});
    Boot result = linux_boot(options);
    if (!missing_kernel(result)) {
      EXPECT_EQ(result.text("/firmware"), "handshake") << result;
      expect_a_clean_guest(result);
    }
    return result;
  }
};

TEST_P(HandshakeFirmware, LeavesTheMemoryToAKernelThatPromises) {
  const Boot result = handshake_boot({"--kernel", "debian-6.12"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_EQ(result.bytes("/accept/by_firmware_bytes"), 0U) << result;
  EXPECT_GT(result.bytes("/guest/unaccepted_bytes"), kGiB) << result;
  EXPECT_GT(result.number("/guest/mem_total_bytes"), k37GiB) << result;
  expect_sums_to_agree(result);
}

TEST_P(HandshakeFirmware, AcceptsEverythingAtExitForAKernelThatDoesNotKnow) {
  const Boot result = handshake_boot({"--kernel", "debian-6.1"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_EQ(result.bytes("/accept/by_firmware_bytes"), result.bytes("/lazy_bytes")) << result;
  EXPECT_EQ(result.bytes("/accept/by_loader_bytes"), 0U) << result;
  EXPECT_GT(result.number("/guest/mem_total_bytes"), k37GiB) << result;
  EXPECT_LT(result.bytes("/guest/lost_bytes"), 64 * kMiB) << result;
}

TEST_P(HandshakeFirmware, AcceptsEverythingAtExitForAKernelThatCannotFindIt) {
  const Boot result = handshake_boot({"--kernel", "debian-6.12", "--hide-handshake"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_EQ(result.bytes("/accept/by_firmware_bytes"), result.bytes("/lazy_bytes")) << result;
  EXPECT_EQ(result.bytes("/guest/unaccepted_bytes"), 0U) << result;
  EXPECT_GT(result.number("/guest/mem_total_bytes"), k37GiB) << result;
}

INSTANTIATE_TEST_SUITE_P(Platforms, HandshakeFirmware, ::testing::Values("tdx", "snp"),
                         [](const auto& test) { return std::string{test.param}; });

TEST(ForcedFirmware, AcceptsEverythingBeforeAKernelThatWouldHavePromised) {
  const Boot result = linux_boot(
      {"--kernel", "debian-6.12", "--firmware", "handshake", "--force-accept", "--steps"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_EQ(result.bytes("/accept/by_firmware_bytes"), result.bytes("/lazy_bytes")) << result;
  EXPECT_EQ(result.bytes("/guest/unaccepted_bytes"), 0U) << result;
}

TEST(HandshakeLoader, PromisesOnlyForAKernelThatAccepts) {
  for (const auto& [kernel, promises] : {std::pair{"debian-6.12", true}, {"debian-6.1", false}}) {
    const Boot result =
        linux_boot({"--kernel", kernel, "--firmware", "handshake", "--loader", "accede"});
    ACCEDE_SKIP_WITHOUT_KERNEL(result);
    EXPECT_EQ(result.bytes("/accept/by_firmware_bytes"),
              promises ? 0U : result.bytes("/lazy_bytes"))
        << result;
    EXPECT_GT(result.number("/guest/mem_total_bytes"), k37GiB) << result;
  }
}

}  // namespace
}  // namespace accede::test
