#include "accede/firmware/linux_setup.hpp"

#include "tests/firmware/made_up_linux.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <string_view>

namespace accede::firmware {
namespace {

using enum LinuxBootErrorKind;
using test::bytes_of;
using test::debian_header;
using test::kCode;
using test::range;
using test::setup_of;

LinuxBootError error_of(const abi::linux_boot::SetupHeader& header, Bytes code = kCode) {
  return LinuxSetup::parse(bytes_of(header), code).error();
}

TEST(LinuxSetup, TakesOnlyWhatTheHeaderDeclaresAsItsOwn) {
  auto header = debian_header();
  header.jump = 0x62EB;  // ends with init_size at 0x264
  const LinuxSetup setup = setup_of(header);
  EXPECT_EQ(setup.bytes().size(), 0x264U - 0x1F1U);
  EXPECT_EQ(auto{setup.header().init_size}, auto{debian_header().init_size});
  EXPECT_EQ(auto{setup.header().handover_offset}, 0U);
  EXPECT_EQ(auto{setup.header().kernel_info_offset}, 0U);
}

TEST(LinuxSetup, TakesAHeaderThatIsLongerThanToday) {
  auto header = debian_header();
  header.jump = 0x70EB;
  const LinuxSetup setup = setup_of(header);
  EXPECT_EQ(setup.bytes().size(), 0x272U - 0x1F1U);
  EXPECT_EQ(setup.bytes().back(), std::byte{0xCC});
}

TEST(LinuxSetup, RefusesEveryHeaderThatIsCutOff) {
  const auto whole = bytes_of(debian_header(), 0);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto setup = LinuxSetup::parse(std::span{whole}.first(size), kCode);
    ASSERT_FALSE(setup.has_value()) << size;
    EXPECT_EQ(setup.error().kind, kHeaderTruncated) << size;
    EXPECT_EQ(setup.error().value, size);
  }
  EXPECT_TRUE(LinuxSetup::parse(whole, kCode).has_value());
}

TEST(LinuxSetup, RefusesAHeaderThatDeclaresLessThanItsProtocolHas) {
  auto header = debian_header();
  header.jump = 0x60EB;
  EXPECT_EQ(error_of(header).kind, kHeaderTruncated);
}

TEST(LinuxSetup, RefusesAHeaderThatReachesIntoOtherFieldsOfTheZeroPage) {
  auto header = debian_header();
  header.jump = 0x8EEB;  // 0x290: the last that fits
  EXPECT_TRUE(LinuxSetup::parse(bytes_of(header), kCode).has_value());
  header.jump = 0x8FEB;
  EXPECT_EQ(error_of(header), (LinuxBootError{kHeaderTooLong, 0x291 - 0x1F1, 0x290 - 0x1F1}));
}

TEST(LinuxSetup, RefusesWhatIsNoLinux) {
  auto header = debian_header();
  header.header = 0;
  EXPECT_EQ(error_of(header).kind, kNotLinux);
  header = debian_header();
  header.boot_flag = 0x55AA;
  EXPECT_EQ(error_of(header).kind, kNotLinux);
}

TEST(LinuxSetup, RefusesAProtocolWithout64BitEntry) {
  auto header = debian_header();
  header.version = 0x020B;
  EXPECT_EQ(error_of(header), (LinuxBootError{kProtocolTooOld, 0x020B, 0x020C}));
  header = debian_header();
  header.xloadflags = 0x7E;
  EXPECT_EQ(error_of(header).kind, kNo64BitEntry);
}

TEST(LinuxSetup, RefusesAlignmentsThatAreNoPowerOfTwoOrLessThanAPage) {
  for (const std::uint32_t alignment : {0U, 0x800U, 0x3000U, 0x200001U}) {
    auto header = debian_header();
    header.kernel_alignment = alignment;
    EXPECT_EQ(error_of(header), (LinuxBootError{kBadAlignment, alignment, 0}));
  }
}

TEST(LinuxSetup, RefusesAnInitSizeBelowTheCode) {
  auto header = debian_header();
  EXPECT_EQ(error_of(header, Bytes{0x3000001}),
            (LinuxBootError{kInitSizeTooSmall, 0x3000000, 0x3000001}));
  header.init_size = 0;
  EXPECT_EQ(error_of(header, Bytes{0}).kind, kInitSizeTooSmall);
}

TEST(LinuxSetup, TakesTheCommandLineUpToTheKernelsLimit) {
  const LinuxSetup setup = setup_of(debian_header());
  EXPECT_TRUE(setup.check_command_line("").has_value());
  EXPECT_TRUE(setup.check_command_line(std::string(2047, 'x')).has_value());
  EXPECT_EQ(setup.check_command_line(std::string(2048, 'x')).error(),
            (LinuxBootError{kCommandLineTooLong, 2048, 2047}));
}

TEST(LinuxSetup, RefusesACommandLineThatTheKernelWouldCutOff) {
  const LinuxSetup setup = setup_of(debian_header());
  EXPECT_EQ(setup.check_command_line(std::string("quiet\0panic=1", 13)).error(),
            (LinuxBootError{kCommandLineHasNul, 5, 0}));
}

TEST(LinuxSetup, PlacesARelocatableKernelAtOrAboveItsPreferredAddress) {
  const PlaceNeeds needs = setup_of(debian_header()).kernel_place();
  EXPECT_EQ(needs.size, Bytes{0x3000000});
  EXPECT_EQ(needs.alignment, 2_MiB);
  EXPECT_EQ(needs.preferred, PhysAddr{0x1000000});
  EXPECT_EQ(needs.lowest, PhysAddr{0x1000000});
  EXPECT_FALSE(needs.only_preferred);
  EXPECT_GT(needs.limit, PhysAddr{1ULL << 52});
}

TEST(LinuxSetup, ChecksWhereTheKernelLies) {
  const LinuxSetup setup = setup_of(debian_header());
  constexpr std::uint64_t kSize = 0x3000000;
  EXPECT_TRUE(setup.check_kernel(range(0x1000000, 0x1000000 + kSize)).has_value());
  EXPECT_TRUE(setup.check_kernel(range(0x1'4000'0000, 0x1'4000'0000 + kSize)).has_value());
  for (const std::uint64_t wrong : {0x800000ULL, 0x1001000ULL}) {
    EXPECT_EQ(setup.check_kernel(range(wrong, wrong + kSize)).error(),
              (LinuxBootError{kKernelMisplaced, wrong, 0x1000000}));
  }
  EXPECT_EQ(setup.check_kernel(range(0x1000000, 0x1000000 + kSize - 1)).error().kind,
            kKernelMisplaced);
}

TEST(LinuxSetup, PlacesAKernelThatIsNotRelocatableOnlyWhereItWantsToBe) {
  auto header = debian_header();
  header.relocatable_kernel = 0;
  const LinuxSetup setup = setup_of(header);
  EXPECT_TRUE(setup.kernel_place().only_preferred);
  EXPECT_TRUE(setup.check_kernel(range(0x1000000, 0x4000000)).has_value());
  EXPECT_EQ(setup.check_kernel(range(0x1200000, 0x4200000)).error().kind, kKernelMisplaced);
}

TEST(LinuxSetup, KeepsEverythingBelow4GiBForAKernelThatCannotReachFurther) {
  auto header = debian_header();
  header.xloadflags = abi::linux_boot::kXlfKernel64;
  const LinuxSetup setup = setup_of(header);
  EXPECT_FALSE(setup.reaches_above_4g());
  constexpr std::uint64_t k4GiB = 1ULL << 32;
  EXPECT_EQ(setup.kernel_place().limit, PhysAddr{k4GiB});
  EXPECT_EQ(setup.data_place(4_KiB).limit, PhysAddr{k4GiB});
  EXPECT_TRUE(setup.check_reach(range(k4GiB - 4096, k4GiB)).has_value());
  EXPECT_EQ(setup.check_reach(range(k4GiB - 4096, k4GiB + 1)).error(),
            (LinuxBootError{kAbove4G, k4GiB - 4096, 0}));
  EXPECT_EQ(setup.check_kernel(range(k4GiB, k4GiB + 0x3000000)).error().kind, kAbove4G);
}

TEST(LinuxSetup, HoldsTheInitrdBelowInitrdAddrMaxUnlessTheKernelReachesAbove4GiB) {
  auto header = debian_header();
  EXPECT_TRUE(setup_of(header).check_initrd(range(0x2'0000'0000, 0x2'0000'1000)).has_value());
  header.xloadflags = abi::linux_boot::kXlfKernel64;
  const LinuxSetup setup = setup_of(header);
  EXPECT_EQ(setup.initrd_place(4_KiB).limit, PhysAddr{0x8000'0000});
  EXPECT_TRUE(setup.check_initrd(range(0x7FFF'F000, 0x8000'0000)).has_value());
  EXPECT_EQ(setup.check_initrd(range(0x7FFF'F000, 0x8000'0001)).error(),
            (LinuxBootError{kInitrdTooHigh, 0x8000'0000, 0x7FFF'FFFF}));
  EXPECT_TRUE(setup.check_initrd(range(0x9000'0000, 0x9000'0000)).has_value());  // none
}

TEST(LinuxBootError, EveryKindHasItsOwnText) {
  std::set<std::string_view> texts;
  for (auto kind = 0; kind <= static_cast<int>(kNoMemory); ++kind) {
    texts.insert(to_string(static_cast<LinuxBootErrorKind>(kind)));
  }
  EXPECT_EQ(texts.size(), static_cast<std::size_t>(kNoMemory) + 1);
  EXPECT_FALSE(texts.contains(to_string(static_cast<LinuxBootErrorKind>(255))));
}

}  // namespace
}  // namespace accede::firmware
