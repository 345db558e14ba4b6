#include "tests/boot/linux_boot.hpp"

namespace accede::test {

Boot linux_boot(const std::vector<std::string>& options, Seconds most) {
  Boot result = boot(options, most);
  if (!missing_kernel(result)) {
    EXPECT_EQ(result.exit_code, 0) << result;
    EXPECT_EQ(result.text("/outcome"), "userspace") << result;
    EXPECT_TRUE(result.at("/fault").is_null()) << result;
    EXPECT_EQ(result.at("/warnings"), Json::array()) << result;
  }
  return result;
}

void expect_sums_to_agree(const Boot& result) {
  const double accepted = result.number("/accept/bytes");
  const double implied = result.number("/lazy_bytes") - result.number("/guest/unaccepted_bytes");
  EXPECT_NEAR(accepted, implied, kBlock) << result;
  EXPECT_EQ(result.bytes("/accept/bytes"), result.bytes("/accept/by_firmware_bytes") +
                                               result.bytes("/accept/by_loader_bytes") +
                                               result.bytes("/accept/by_kernel_bytes"));
  EXPECT_EQ(result.bytes("/accept/bytes"),
            result.bytes("/accept/calls/2m") * 2 * kMiB + result.bytes("/accept/calls/4k") * 4096);
}

void expect_a_clean_guest(const Boot& result) {
  EXPECT_EQ(result.at("/violations"), Json::array()) << result;
  EXPECT_EQ(result.bytes("/accept/already_accepted"), 0U);
  EXPECT_EQ(result.bytes("/accept/other_errors"), 0U);
}

}  // namespace accede::test
