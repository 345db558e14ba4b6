#include "accede/memory_map/dmesg.hpp"
#include "tests/memory_map/samples.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace accede::memory_map {
namespace {

using test::between;
using test::message_of;
using test::region;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(Dmesg, TheMapIsReadWithTheChangesOfTheKernel) {
  const auto regions = read_dmesg(test::kDmesg);
  ASSERT_TRUE(regions) << message_of(regions);
  EXPECT_THAT(
      *regions,
      ElementsAre(region(0x0, 0x1000, RegionKind::kReserved), region(0x1000, 0x9f000),
                  region(0x9f000, 0x100000, RegionKind::kReserved), region(0x100000, 0x70000000),
                  region(0x70000000, 0x78000000, RegionKind::kReserved),
                  region(0x100000000, 0x1080000000)));
}

// Source: kernel logs of Linux 6.17 and later.
TEST(Dmesg, TheWordsOfNewKernelsAreKnown) {
  const auto regions = read_dmesg(
      "BIOS-e820: [mem 0x0000000000000000-0x000000000009efff]  System RAM\n"
      "BIOS-e820: [mem 0x000000000009f000-0x00000000000fffff]  device reserved\n"
      "BIOS-e820: [gap 0x0000000000100000-0x00000000001fffff]\n"
      "BIOS-e820: [mem 0x0000000000200000-0x00000000002fffff]  ACPI data\n"
      "BIOS-e820: [mem 0x0000000000300000-0x00000000003fffff]  soft reserved\n"
      "BIOS-e820: [mem 0x0000000000400000-0x00000000004fffff]  persistent (type 7)\n"
      "e820: update [mem 0x00000000-0x00000fff] System RAM ==> device reserved\n"
      "e820: remove [mem 0x0009e000-0x000fffff] System RAM\n");
  ASSERT_TRUE(regions) << message_of(regions);
  EXPECT_THAT(*regions,
              ElementsAre(region(0x0, 0x1000, RegionKind::kReserved), region(0x1000, 0x9e000),
                          region(0x9f000, 0x100000, RegionKind::kReserved),
                          region(0x200000, 0x300000, RegionKind::kReserved),
                          region(0x300000, 0x400000, RegionKind::kSpecificPurpose),
                          region(0x400000, 0x500000, RegionKind::kPersistent)));
}

TEST(Dmesg, EveryWayToKeepALogIsRead) {
  for (const char* const before :
       {"", "[    0.000000] ", "[    0.000000][    T0] ", "<6>[    0.000000] ",
        "[Sat Nov 21 10:00:00 2020] ", "Jun 12 10:49:44 localhost kernel: ",
        "> Jun 12 10:49:44 localhost kernel: ", "2024-06-12T10:49:44+00:00 host kernel: ", "    ",
        ">"}) {
    SCOPED_TRACE(before);
    const auto regions = read_dmesg(
        std::string{before} + "BIOS-e820: [mem 0x0000000000001000-0x0000000000001fff] usable\r\n");
    ASSERT_TRUE(regions) << message_of(regions);
    EXPECT_THAT(*regions, ElementsAre(region(0x1000, 0x2000)));
  }
}

TEST(Dmesg, TheLastMapCounts) {
  const auto regions = read_dmesg(
      "BIOS-e820: [mem 0x0000000000001000-0x0000000000008fff] usable\n"
      "e820: user-defined physical RAM map:\n"
      "user: [mem 0x0000000000001000-0x0000000000003fff] usable\n"
      "user: [mem 0x0000000000004000-0x0000000000008fff] persistent (type 12)\n");
  ASSERT_TRUE(regions) << message_of(regions);
  EXPECT_THAT(*regions,
              ElementsAre(region(0x1000, 0x4000), region(0x4000, 0x9000, RegionKind::kPersistent)));
}

TEST(Dmesg, OfSeveralStartsTheLastCounts) {
  const std::string first =
      "BIOS-e820: [mem 0x0000000000001000-0x0000000000008fff] usable\n"
      "BIOS-e820: [mem 0x0000000000009000-0x0000000000009fff] usable\n";
  const std::string change = "e820: remove [mem 0x00001000-0x00001fff] usable\n";
  const std::string second = "BIOS-e820: [mem 0x0000000000001000-0x0000000000003fff] usable\n";
  for (const std::string& log : {first + second, first + change + second}) {
    const auto regions = read_dmesg(log);
    ASSERT_TRUE(regions) << message_of(regions);
    EXPECT_THAT(*regions, ElementsAre(region(0x1000, 0x4000)));
  }
}

TEST(Dmesg, OtherLinesWithMemoryAreNoMap) {
  EXPECT_EQ(message_of(read_dmesg("pci 0000:00:02.0: BAR 0 [mem 0x1000-0x1fff 64bit]\n"
                                  "e820: reserve RAM buffer [mem 0x8ad01000-0x8bffffff]\n"
                                  "systemd-user: [mem 0x1000-0x1fff] usable\n"
                                  "node   0: [mem 0x0000000000001000-0x000000000009ffff]\n")),
            "there is no E820 map in it");
}

TEST(Dmesg, ARangeThatEndsBeforeItBeginsIsNamed) {
  const auto regions =
      read_dmesg("\nBIOS-e820: [mem 0x0000000000002000-0x0000000000001fff] usable\n");
  ASSERT_FALSE(regions);
  EXPECT_EQ(regions.error(), (ReadError{2, "the range ends before it begins, or at 2^64"}));
}

TEST(Dmesg, OverlapsAreErrors) {
  EXPECT_THAT(message_of(read_dmesg("BIOS-e820: [mem 0x1000-0x2fff] usable\n"
                                    "BIOS-e820: [mem 0x2000-0x3fff] usable\n")),
              HasSubstr("overlap"));
}

TEST(Dmesg, WithTooManyRangesIsRefused) {
  std::string text = "BIOS-e820: [mem 0x1000-0x2fff] usable\n";
  for (std::size_t i = 0; i < kMostRanges; ++i) {
    text += "e820: update [mem 0x1000-0x2fff] usable ==> reserved\n";
  }
  EXPECT_EQ(message_of(read_dmesg(text)), "more than 16384 ranges");
}

TEST(CmrLines, AreReadInTheirOrder) {
  const auto ranges = read_cmr_lines(test::kCmrLines);
  ASSERT_TRUE(ranges) << message_of(ranges);
  EXPECT_THAT(*ranges,
              ElementsAre(between(0x100000, 0x6f800000), between(0x100000000, 0x107a000000)));
}

TEST(CmrLines, OfAnotherFormAreNamed) {
  for (const char* const line :
       {"tdx: CMR: [0x1000, 0x2000]", "tdx: CMR: [0x1000 0x2000)", "tdx: CMR: [0x1000, )"}) {
    const auto ranges = read_cmr_lines(line);
    ASSERT_FALSE(ranges) << line;
    EXPECT_EQ(ranges.error(), (ReadError{1, "no CMR: [0xBEGIN, 0xEND)"}));
  }
  EXPECT_EQ(message_of(read_cmr_lines("tdx: CMR: [0x2000, 0x1000)")),
            "the range ends before it begins");
}

}  // namespace
}  // namespace accede::memory_map
