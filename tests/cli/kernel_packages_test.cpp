#include "accede/cli/kernel_packages.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace accede::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// From Debian 12 with security updates.
constexpr std::string_view kDebian12 =
    "linux-image-6.1.0-47-cloud-amd64-dbg - Debug symbols for linux-image-6.1.0-47-cloud-amd64\n"
    "linux-image-6.1.0-47-cloud-amd64-unsigned - Linux 6.1 for x86-64 cloud\n"
    "linux-image-6.1.0-9-cloud-amd64-unsigned - Linux 6.1 for x86-64 cloud\n"
    "linux-image-6.1.0-56-cloud-amd64-unsigned - Linux 6.1 for x86-64 cloud\n"
    "linux-image-6.1.0-56-amd64-unsigned - Linux 6.1 for 64-bit PCs\n"
    "linux-image-cloud-amd64 - Linux for x86-64 cloud (meta-package)\n"
    "linux-image-6.12.107+deb12-cloud-amd64-unsigned - Linux 6.12 for x86-64 cloud\n"
    "linux-image-6.12.117+deb12-cloud-amd64-unsigned - Linux 6.12 for x86-64 cloud\n"
    "linux-image-6.12.117+deb12-rt-amd64-unsigned - Linux 6.12 for 64-bit PCs, PREEMPT_RT\n"
    "linux-image-6.12.99+deb12-cloud-amd64-unsigned - Linux 6.12 for x86-64 cloud\n"
    "linux-image-6.12-cloud-amd64 - Linux for x86-64 cloud (meta-package)\n"
    "linux-image-6.12.117+deb12-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)\n";

constexpr std::string_view kDebian13 =
    "linux-image-6.12.48+deb13-cloud-amd64-unsigned - Linux 6.12 for x86-64 cloud\n"
    "linux-image-6.12.57+deb13-cloud-amd64-unsigned - Linux 6.12 for x86-64 cloud\n"
    "linux-image-6.16.3+deb13-cloud-amd64-unsigned - Linux 6.16 for x86-64 cloud\n";

constexpr std::string_view kUbuntu2404 =
    "linux-image-6.8.0-31-generic - Signed kernel image generic\n"
    "linux-image-unsigned-6.8.0-31-generic - Linux kernel image for version 6.8.0\n"
    "linux-image-unsigned-6.8.0-101-generic - Linux kernel image for version 6.8.0\n"
    "linux-image-unsigned-6.8.0-31-lowlatency - Linux kernel image for version 6.8.0\n"
    "linux-image-unsigned-6.11.0-9-generic - Linux kernel image for version 6.11.0\n"
    "linux-image-generic - Generic Linux kernel image\n";

std::string choose(std::string_view name, std::string_view apt) {
  return choose_kernel_package(name, parse_package_list(apt)).value_or("none");
}

TEST(KernelPackages, TakesTheNewestOfASeries) {
  EXPECT_EQ(choose("debian-6.12", kDebian12), "linux-image-6.12.117+deb12-cloud-amd64-unsigned");
  EXPECT_EQ(choose("debian-6.1", kDebian12), "linux-image-6.1.0-56-cloud-amd64-unsigned");
  EXPECT_EQ(choose("debian-6.16", kDebian13), "linux-image-6.16.3+deb13-cloud-amd64-unsigned");
}

TEST(KernelPackages, ANameThatIsNotOfferedHasNoPackage) {
  EXPECT_EQ(choose("debian-6.1", kDebian13), "none");
  EXPECT_EQ(choose("debian-6.12", kUbuntu2404), "none");
  EXPECT_EQ(choose("linux", ""), "none");
  EXPECT_EQ(choose("linux", "linux-image-6.1.0-56-cloud-amd64-unsigned - old\n"), "none");
  EXPECT_EQ(choose("linux", "linux-image-unsigned-5.15.0-25-generic - old\n"), "none");
}

TEST(KernelPackages, LinuxIsTheNewestThatKnowsUnacceptedMemory) {
  EXPECT_EQ(choose("linux", kDebian12), choose("debian-6.12", kDebian12));
  EXPECT_EQ(choose("linux", kDebian13), "linux-image-6.12.57+deb13-cloud-amd64-unsigned");
  EXPECT_EQ(choose("linux", kUbuntu2404), "linux-image-unsigned-6.11.0-9-generic");
}

TEST(KernelPackages, TakesOnlyNamesFromAptsOutput) {
  EXPECT_THAT(parse_package_list("a - b c\n\nd\n  e - f\ng - h"), ElementsAre("a", "d", "g"));
  EXPECT_THAT(parse_package_list(""), IsEmpty());
}

TEST(KernelPackages, KnowsItsNames) {
  for (const char* const name : {"linux", "debian-6.12", "debian-6.1", "debian-7.0"}) {
    EXPECT_TRUE(is_kernel_name(name)) << name;
  }
  for (const char* const name : {"", "Linux", "debian", "debian-", "debian-6", "debian-6.",
                                 "debian-.1", "debian-6.1.2", "debian-6.1x", "guest", "./linux"}) {
    EXPECT_FALSE(is_kernel_name(name)) << name;
  }
}

TEST(KernelPackages, OrdersVersionsByTheirNumbers) {
  EXPECT_TRUE(version_less("6.8.0-31", "6.8.0-101"));
  EXPECT_TRUE(version_less("6.9", "6.12"));
  EXPECT_TRUE(version_less("6.12", "6.12.1"));
  EXPECT_TRUE(version_less("6.12.99+deb12", "6.12.117+deb12"));
  EXPECT_FALSE(version_less("6.12", "6.12"));
  EXPECT_FALSE(version_less("6.12", "6.9"));
  EXPECT_FALSE(version_less("6.012", "6.12"));
  EXPECT_TRUE(version_less("99999999999999999999998", "99999999999999999999999"));
}

TEST(KernelPackages, SaysWhatItLookedFor) {
  EXPECT_EQ(wanted_package("debian-6.1"), "linux-image-6.1.*-cloud-amd64-unsigned");
  EXPECT_THAT(wanted_package("linux"), HasSubstr("from 6.5 on"));
}

}  // namespace
}  // namespace accede::cli
