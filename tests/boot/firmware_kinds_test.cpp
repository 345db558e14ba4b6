// What the host and a loader change in who accepts what. Firmware kinds by kernels:
// matrix_test.cpp.

#include "tests/boot/linux_boot.hpp"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace accede::test {
namespace {

constexpr double k37GiB = 3.7 * kGiB;

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
