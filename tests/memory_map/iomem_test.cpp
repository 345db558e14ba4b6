#include "accede/memory_map/iomem.hpp"
#include "tests/memory_map/samples.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace accede::memory_map {
namespace {

using test::message_of;
using test::region;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(Iomem, IsReadWithoutDevices) {
  const auto regions = read_iomem(test::kIomem);
  ASSERT_TRUE(regions) << message_of(regions);
  EXPECT_THAT(*regions,
              ElementsAre(region(0x0, 0x1000, RegionKind::kReserved), region(0x1000, 0xa0000),
                          region(0xa0000, 0x100000, RegionKind::kReserved),
                          region(0x100000, 0x80000000), region(0x100000000, 0x200000000),
                          region(0x200000000, 0x300000000, RegionKind::kPersistent),
                          region(0x300000000, 0x380000000, RegionKind::kCxlRam),
                          region(0x380000000, 0x400000000, RegionKind::kSpecificPurpose)));
}

TEST(Iomem, RamThatADriverGaveToTheKernelIsOfTheDevicesKind) {
  const auto regions = read_iomem(
      "100000000-1ffffffff : Persistent Memory\n"
      "  100000000-1ffffffff : dax0.0\n"
      "    140000000-1ffffffff : System RAM (kmem)\n"
      "200000000-2ffffffff : CXL Window 0\n"
      "  200000000-27fffffff : System RAM (kmem)\n"
      "300000000-3ffffffff : Reserved\n"
      "  300000000-37fffffff : System RAM\n");
  ASSERT_TRUE(regions) << message_of(regions);
  EXPECT_THAT(*regions, ElementsAre(region(0x100000000, 0x140000000, RegionKind::kPersistent),
                                    region(0x140000000, 0x200000000, RegionKind::kPersistentRam),
                                    region(0x200000000, 0x280000000, RegionKind::kCxlRam),
                                    region(0x300000000, 0x380000000),
                                    region(0x380000000, 0x400000000, RegionKind::kReserved)));
}

TEST(Iomem, AWindowIsOverWithTheIndentation) {
  const auto regions = read_iomem(
      "100000000-1ffffffff : CXL Window 0\n"
      "200000000-2ffffffff : System RAM\n");
  ASSERT_TRUE(regions) << message_of(regions);
  EXPECT_THAT(*regions, ElementsAre(region(0x200000000, 0x300000000)));
}

TEST(Iomem, TakesLineEndsOfOtherSystemsAndBlankLines) {
  const auto regions = read_iomem("\r\n00001000-00001fff : System RAM\r\n\r\n");
  ASSERT_TRUE(regions) << message_of(regions);
  EXPECT_THAT(*regions, ElementsAre(region(0x1000, 0x2000)));
}

TEST(Iomem, AnOrdinaryUserIsToldWhyThereIsNothing) {
  EXPECT_THAT(message_of(read_iomem("00000000-00000000 : Reserved\n"
                                    "00000000-00000000 : System RAM\n")),
              HasSubstr("to root only"));
}

TEST(Iomem, ALineOfAnotherFormIsNamed) {
  for (const std::string line :
       {"System RAM", "1000 : System RAM", "1000-1fff System RAM", "-1fff : System RAM",
        "1000- : System RAM", "10000000000000000-10000000000000001 : System RAM"}) {
    SCOPED_TRACE(line);
    const auto regions = read_iomem("1000-1fff : System RAM\n" + line + "\n");
    ASSERT_FALSE(regions);
    EXPECT_EQ(regions.error().line, 2U);
    EXPECT_EQ(regions.error().message, "no line of /proc/iomem: FIRST-LAST : NAME");
  }
}

TEST(Iomem, ARangeThatEndsBeforeItBeginsIsNamed) {
  for (const char* const line : {"2000-1fff : System RAM\n", "0-ffffffffffffffff : System RAM\n"}) {
    const auto regions = read_iomem(line);
    ASSERT_FALSE(regions);
    EXPECT_EQ(regions.error(), (ReadError{1, "the range ends before it begins, or at 2^64"}));
  }
}

TEST(Iomem, OverlapsAreErrorsOnEveryLevel) {
  EXPECT_THAT(message_of(read_iomem("1000-2fff : System RAM\n2000-3fff : Reserved\n")),
              HasSubstr("overlap"));
  EXPECT_THAT(message_of(read_iomem("1000-8fff : Soft Reserved\n"
                                    "  1000-2fff : System RAM (kmem)\n"
                                    "  2000-3fff : System RAM (kmem)\n")),
              HasSubstr("0x1000-0x2fff and 0x2000-0x3fff overlap"));
}

TEST(Iomem, WithTooManyRangesIsRefused) {
  std::string text;
  for (std::size_t i = 0; i <= kMostRanges; ++i) {
    text += std::to_string(100000 + 2 * i) + "-" + std::to_string(100000 + 2 * i) + " : Reserved\n";
  }
  const auto regions = read_iomem(text);
  ASSERT_FALSE(regions);
  EXPECT_EQ(regions.error(), (ReadError{kMostRanges + 1, "more than 16384 ranges"}));
}

}  // namespace
}  // namespace accede::memory_map
