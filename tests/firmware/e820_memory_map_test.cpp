#include "accede/firmware/e820_memory_map.hpp"

#include "accede/abi/e820.hpp"
#include "tests/firmware/made_up_hobs.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <vector>

namespace accede::firmware {
namespace {

using abi::e820::Entry;
using guest::MapError;
using guest::MapErrorKind;
using guest::MemoryKind;
using test::range;
using test::Region;

std::vector<std::byte> bytes_of(const std::vector<Entry>& entries) {
  std::vector<std::byte> bytes;
  for (const Entry& entry : entries) {
    const auto raw = std::bit_cast<std::array<std::byte, sizeof(entry)>>(entry);
    bytes.insert(bytes.end(), raw.begin(), raw.end());
  }
  return bytes;
}

std::expected<std::vector<Region>, MapError> read(const std::vector<Entry>& entries,
                                                  E820Dialect dialect = E820Dialect::kRamIsPending,
                                                  std::size_t room = 32) {
  std::vector<guest::MemoryRegion> storage(room);
  const auto map = map_from_e820(bytes_of(entries), dialect, storage);
  if (!map) {
    return std::unexpected{map.error()};
  }
  return test::regions(*map);
}

MapError error_of(const std::vector<Entry>& entries,
                  E820Dialect dialect = E820Dialect::kRamIsPending, std::size_t room = 32) {
  const auto map = read(entries, dialect, room);
  EXPECT_FALSE(map.has_value());
  return map ? MapError{} : map.error();
}

TEST(E820MemoryMap, RamIsPendingOrAcceptedAsTheDialectSays) {
  const std::vector<Entry> entries{{0x10'0000, 0x10'0000, 1}, {0x40'0000, 0x1000, 8}};
  EXPECT_EQ(read(entries), (std::vector<Region>{
                               {range(0x10'0000, 0x20'0000), MemoryKind::kUnaccepted},
                               {range(0x40'0000, 0x40'1000), MemoryKind::kUnaccepted},
                           }));
  EXPECT_EQ(read(entries, E820Dialect::kRamIsAccepted),
            (std::vector<Region>{
                {range(0x10'0000, 0x20'0000), MemoryKind::kUsable},
                {range(0x40'0000, 0x40'1000), MemoryKind::kUnaccepted},
            }));
}

TEST(E820MemoryMap, EveryTypeHasItsKind) {
  const std::vector<std::pair<std::uint32_t, MemoryKind>> kinds{
      {0, MemoryKind::kReserved},          {1, MemoryKind::kUnaccepted},
      {2, MemoryKind::kReserved},          {3, MemoryKind::kAcpiReclaim},
      {4, MemoryKind::kAcpiNvs},           {5, MemoryKind::kUnusable},
      {6, MemoryKind::kReserved},          {7, MemoryKind::kPersistent},
      {8, MemoryKind::kUnaccepted},        {9, MemoryKind::kReserved},
      {0xEFFF'FFFF, MemoryKind::kReserved}};
  for (const auto& [type, kind] : kinds) {
    EXPECT_EQ(read({{0x1000, 0x1000, type}}), (std::vector<Region>{{range(0x1000, 0x2000), kind}}))
        << type;
  }
}

TEST(E820MemoryMap, WhatIsUsedShrinksToWholePagesAndWhatIsNotGrows) {
  EXPECT_EQ(read({{0, 0x9'FC00, 1}, {0x9'FC00, 0x400, 2}, {0x10'0000, 0x800, 1}}),
            (std::vector<Region>{
                {range(0, 0x9'F000), MemoryKind::kUnaccepted},
                {range(0x9'F000, 0xA'0000), MemoryKind::kReserved},
            }));
}

TEST(E820MemoryMap, NeighboursAreMergedBeforeTheyAreRounded) {
  EXPECT_EQ(read({{0x1800, 0x1800, 1}, {0, 0x1800, 1}}),
            (std::vector<Region>{{range(0, 0x3000), MemoryKind::kUnaccepted}}));
}

TEST(E820MemoryMap, RefusesAPageThatMustBeLeftAloneForTwoReasons) {
  EXPECT_EQ(error_of({{0, 0, 1}, {0x1800, 0x800, 4}, {0x1000, 0x800, 3}}),
            (MapError{MapErrorKind::kOverlap, 20}));
  EXPECT_EQ(read({{0x1000, 0x400, 2}, {0x1800, 0x800, 2}}),
            (std::vector<Region>{{range(0x1000, 0x2000), MemoryKind::kReserved}}));
}

TEST(E820MemoryMap, RefusesPartsOfPagesOfUnacceptedMemoryBesideAcceptedMemory) {
  EXPECT_EQ(error_of({{0, 0x1000, 1}, {0, 0, 8}, {0x1800, 0x1000, 8}}, E820Dialect::kRamIsAccepted),
            (MapError{MapErrorKind::kUnalignedEntry, 40}));
}

TEST(E820MemoryMap, RefusesAnOverlapAndNamesTheLaterEntry) {
  EXPECT_EQ(error_of({{0, 0, 2}, {0, 0x10'0000, 1}, {0, 0, 2}, {0xF'0000, 0x1000, 2}}),
            (MapError{MapErrorKind::kOverlap, 60}));
}

TEST(E820MemoryMap, RefusesAnEntryThatWraps) {
  EXPECT_EQ(error_of({{0, 0x1000, 1}, {~0ULL, 2, 2}}), (MapError{MapErrorKind::kEntryWraps, 20}));
  EXPECT_EQ(error_of({{0, 0x1000, 1}, {~0ULL - 8, 4, 2}}),
            (MapError{MapErrorKind::kEntryWraps, 20}))
      << "its last page ends at 2^64";
  EXPECT_TRUE(read({{~0ULL - 8, 4, 1}})->empty());
}

TEST(E820MemoryMap, RefusesMoreEntriesThanThereIsRoomFor) {
  EXPECT_EQ(error_of({{0, 0x1000, 1}, {0x1000, 0, 1}, {0x2000, 0x1000, 1}},
                     E820Dialect::kRamIsPending, 1),
            (MapError{MapErrorKind::kTooManyEntries, 40}));
}

TEST(E820MemoryMap, AnyOrderGivesTheSameMap) {
  std::vector<Entry> entries{{0, 0x9'FC00, 1},
                             {0x9'FC00, 0x400, 2},
                             {0x10'0000, 0x10'0000, 1},
                             {0x20'0000, 0x1000, 3},
                             {0x1'0000'0000, 0x1000'0000, 1}};
  const auto less = [](const Entry& a, const Entry& b) { return a.address < b.address; };
  const auto expected = read(entries);
  ASSERT_TRUE(expected.has_value());
  while (std::next_permutation(entries.begin(), entries.end(), less)) {
    ASSERT_EQ(read(entries), expected);
  }
}

}  // namespace
}  // namespace accede::firmware
