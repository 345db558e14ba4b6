#include "accede/firmware/accepted_ranges.hpp"

#include "tests/firmware/made_up_hobs.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace accede::firmware {
namespace {

using guest::MapError;
using guest::MapErrorKind;
using guest::MemoryKind;
using guest::MemoryMap;
using guest::MemoryRegion;
using test::range;
using test::Region;

/// A hole, unaccepted memory, ACPI tables in the middle of it.
class AcceptedRangesTest : public testing::Test {
 protected:
  std::vector<MemoryRegion> storage_{
      {range(0, 0x1000), MemoryKind::kReserved},
      {range(0x2000, 0x6000), MemoryKind::kUnaccepted},
      {range(0x6000, 0x7000), MemoryKind::kAcpiReclaim},
      {range(0x7000, 0x9000), MemoryKind::kUnaccepted},
  };
  MemoryMap map_ = MemoryMap::from_regions(storage_).value();

  std::vector<Region> accept(const std::vector<PhysRange>& accepted) {
    std::vector<MemoryRegion> room(regions_with_accepted(map_.regions().size(), accepted.size()));
    const auto result = with_accepted(map_, accepted, room);
    EXPECT_TRUE(result.has_value());
    return test::regions(*result);
  }
};

TEST_F(AcceptedRangesTest, WithoutRangesTheMapStaysAsItIs) {
  EXPECT_EQ(accept({}), test::regions(map_));
}

TEST_F(AcceptedRangesTest, OnlyUnacceptedMemoryBecomesUsable) {
  EXPECT_EQ(accept({range(0, 0x1'0000)}), (std::vector<Region>{
                                              {range(0, 0x1000), MemoryKind::kReserved},
                                              {range(0x2000, 0x6000), MemoryKind::kUsable},
                                              {range(0x6000, 0x7000), MemoryKind::kAcpiReclaim},
                                              {range(0x7000, 0x9000), MemoryKind::kUsable},
                                          }));
}

TEST_F(AcceptedRangesTest, WhatLiesBeforeAndBehindStaysUnaccepted) {
  EXPECT_EQ(accept({range(0x3000, 0x5000)}), (std::vector<Region>{
                                                 {range(0, 0x1000), MemoryKind::kReserved},
                                                 {range(0x2000, 0x3000), MemoryKind::kUnaccepted},
                                                 {range(0x3000, 0x5000), MemoryKind::kUsable},
                                                 {range(0x5000, 0x6000), MemoryKind::kUnaccepted},
                                                 {range(0x6000, 0x7000), MemoryKind::kAcpiReclaim},
                                                 {range(0x7000, 0x9000), MemoryKind::kUnaccepted},
                                             }));
}

TEST_F(AcceptedRangesTest, AnyOrderAndAnyOverlapGiveTheSameMap) {
  std::vector<PhysRange> accepted{range(0x3000, 0x4000), range(0x3000, 0x5000),
                                  range(0x8000, 0x9000), range(0x4000, 0x4000)};
  const auto expected = accept({range(0x3000, 0x5000), range(0x8000, 0x9000)});
  for (int turn = 0; turn < 4; ++turn) {
    std::ranges::rotate(accepted, accepted.begin() + 1);
    EXPECT_EQ(accept(accepted), expected);
  }
}

TEST_F(AcceptedRangesTest, MayWorkInTheStorageOfTheMap) {
  const auto expected = accept({range(0x3000, 0x8000)});
  storage_.reserve(6);
  storage_.resize(6);
  map_ = MemoryMap::from_regions(std::span{storage_}.first(4)).value();
  const std::vector<PhysRange> accepted{range(0x3000, 0x8000)};
  const auto result = with_accepted(map_, accepted, storage_);
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(test::regions(*result), expected);
}

TEST_F(AcceptedRangesTest, SaysWhichRangeFoundNoRoom) {
  const std::vector<PhysRange> accepted{range(0x3000, 0x4000), range(0x7000, 0x8000)};
  for (std::size_t room = 0; room < 7; ++room) {
    std::vector<MemoryRegion> storage(room);
    const auto result = with_accepted(map_, accepted, storage);
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error(), (MapError{MapErrorKind::kTooManyEntries, room == 6 ? 1U : 0U}));
  }
}

}  // namespace
}  // namespace accede::firmware
