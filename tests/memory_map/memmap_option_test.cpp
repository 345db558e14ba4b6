#include "accede/memory_map/memmap_option.hpp"
#include "tests/memory_map/samples.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace accede::memory_map {
namespace {

using test::region;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::uint64_t kGiB = 1ULL << 30;

/// Of 16 GiB of RAM.
std::vector<Region> changed(std::string_view options) {
  std::vector<Region> regions{region(0, 16 * kGiB)};
  const auto applied = apply_memmap(options, regions);
  EXPECT_TRUE(applied) << test::message_of(applied);
  return regions;
}

TEST(Memmap, ADollarReserves) {
  EXPECT_THAT(changed("1G$2G"),
              ElementsAre(region(0, 2 * kGiB), region(2 * kGiB, 3 * kGiB, RegionKind::kReserved),
                          region(3 * kGiB, 16 * kGiB)));
}

TEST(Memmap, AnExclamationMarkMakesPersistentMemory) {
  EXPECT_THAT(
      changed("memmap=4G!12G"),
      ElementsAre(region(0, 12 * kGiB), region(12 * kGiB, 16 * kGiB, RegionKind::kPersistent)));
}

TEST(Memmap, AHashKeepsForAcpi) {
  EXPECT_THAT(
      changed("1G#0x3c0000000"),
      ElementsAre(region(0, 15 * kGiB), region(15 * kGiB, 16 * kGiB, RegionKind::kReserved)));
}

TEST(Memmap, ExactmapForgetsWhatWasThere) {
  EXPECT_THAT(changed("exactmap,640K@0,memmap=1G@1M"),
              ElementsAre(region(0, 640 << 10), region(1 << 20, kGiB + (1 << 20))));
}

TEST(Memmap, ASizeAloneIsTheEndOfRam) {
  std::vector<Region> regions{region(0, 2 * kGiB),
                              region(2 * kGiB, 3 * kGiB, RegionKind::kReserved),
                              region(4 * kGiB, 8 * kGiB)};
  ASSERT_TRUE(apply_memmap("1G", regions));
  EXPECT_THAT(regions,
              ElementsAre(region(0, kGiB), region(2 * kGiB, 3 * kGiB, RegionKind::kReserved)));
}

TEST(Memmap, APercentSignChangesOneTypeIntoAnother) {
  EXPECT_THAT(
      changed("1G$0,memmap=4G%0-1+12"),
      ElementsAre(region(0, kGiB, RegionKind::kReserved),
                  region(kGiB, 4 * kGiB, RegionKind::kPersistent), region(4 * kGiB, 16 * kGiB)));
  EXPECT_THAT(changed("4G%0-1"), ElementsAre(region(4 * kGiB, 16 * kGiB)));
  EXPECT_THAT(
      changed("4G%0+0xefffffff"),
      ElementsAre(region(0, 4 * kGiB, RegionKind::kSpecificPurpose), region(4 * kGiB, 16 * kGiB)));
}

TEST(Memmap, APlusAloneAddsWhereNothingIs) {
  EXPECT_THAT(changed("4G%64G+1"), ElementsAre(region(0, 16 * kGiB), region(64 * kGiB, 68 * kGiB)));
}

TEST(Memmap, AnAtSignDoesNotFreeWhatIsKept) {
  EXPECT_THAT(changed("1G$2G,4G@1G"),
              ElementsAre(region(0, 2 * kGiB), region(2 * kGiB, 3 * kGiB, RegionKind::kReserved),
                          region(3 * kGiB, 16 * kGiB)));
}

TEST(Memmap, WhatIsNoOptionChangesNothing) {
  for (const std::string option :
       {"x", "1G*2G", "0$1G", "1G$", "$1G", "1G$2G+1", "1G%0-", "1G%0-1+", "1G%0-1x",
        "0xffffffffffffffff$2", "99999999999E", "exactmapx", "1G@2Gx"}) {
    std::vector<Region> regions{region(0, 16 * kGiB)};
    const auto applied = apply_memmap("1G$4G," + option, regions);
    EXPECT_THAT(test::message_of(applied), HasSubstr("'" + option + "' is no memmap option"));
    EXPECT_THAT(regions, ElementsAre(region(0, 16 * kGiB))) << option;
  }
}

}  // namespace
}  // namespace accede::memory_map
