#include "accede/firmware/hob_memory_map.hpp"

#include "tests/firmware/made_up_hobs.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <vector>

namespace accede::firmware {
namespace {

using abi::hob::Resource;
using guest::MemoryKind;
using test::HobBytes;
using test::hobs;
using test::offset_of;
using test::range;
using test::Region;

std::expected<std::vector<Region>, HobError> read(const HobBytes& bytes,
                                                  HobDialect dialect = HobDialect::kStandard,
                                                  std::size_t room = 32) {
  const auto list = HobList::parse(bytes);
  EXPECT_TRUE(list.has_value());
  std::vector<guest::MemoryRegion> storage(room);
  const auto map = map_from_hobs(*list, dialect, storage);
  if (!map) {
    return std::unexpected{map.error()};
  }
  return test::regions(*map);
}

HobError error_of(const HobBytes& bytes, HobDialect dialect = HobDialect::kStandard,
                  std::size_t room = 32) {
  const auto map = read(bytes, dialect, room);
  EXPECT_FALSE(map.has_value());
  return map ? HobError{} : map.error();
}

/// What one page of a type with attributes is; nothing when the list is refused.
std::optional<MemoryKind> kind_of(Resource type, HobDialect dialect,
                                  std::uint32_t attributes = abi::hob::kTestedMemory) {
  const auto map = read(hobs({{type, 0x1000, 0x1000, attributes}}), dialect);
  return map && map->size() == 1 ? std::optional{(*map)[0].kind} : std::nullopt;
}

TEST(HobMemoryMap, ReadsWhatQemuWrites) {
  const auto map = read(hobs({{Resource::kSystemMemory, 0x80'9000, 0x2000},
                              {Resource::kMemoryUnaccepted, 0, 0x80'9000},
                              {Resource::kMemoryUnaccepted, 0x80'B000, 0x7F7F'5000},
                              {Resource::kMemoryUnaccepted, 0x1'0000'0000, 0x8000'0000}}));
  ASSERT_TRUE(map.has_value());
  EXPECT_EQ(*map, (std::vector<Region>{
                      {range(0, 0x80'9000), MemoryKind::kUnaccepted},
                      {range(0x80'9000, 0x80'B000), MemoryKind::kUsable},
                      {range(0x80'B000, 0x8000'0000), MemoryKind::kUnaccepted},
                      {range(0x1'0000'0000, 0x1'8000'0000), MemoryKind::kUnaccepted},
                  }));
}

TEST(HobMemoryMap, InTheStandardDialectTheTypeSaysWhatIsPending) {
  EXPECT_EQ(kind_of(Resource::kSystemMemory, HobDialect::kStandard), MemoryKind::kUsable);
  EXPECT_EQ(kind_of(Resource::kMemoryReserved, HobDialect::kStandard), MemoryKind::kReserved);
  EXPECT_EQ(kind_of(Resource::kMemoryUnaccepted, HobDialect::kStandard), MemoryKind::kUnaccepted);
}

TEST(HobMemoryMap, BeforeType7SystemMemoryWasPendingAndReservedMemoryWasAdded) {
  const auto dialect = HobDialect::kSystemIsPending;
  EXPECT_EQ(kind_of(Resource::kSystemMemory, dialect), MemoryKind::kUnaccepted);
  EXPECT_EQ(kind_of(Resource::kMemoryReserved, dialect), MemoryKind::kUsable);
  // PRESENT | INITIALIZED | TESTED | ENCRYPTED, as such VMMs wrote; and without TESTED.
  EXPECT_EQ(kind_of(Resource::kSystemMemory, dialect, 0x0400'0007), MemoryKind::kUnaccepted);
  EXPECT_EQ(kind_of(Resource::kSystemMemory, dialect, 0x3), MemoryKind::kUnaccepted);
}

TEST(HobMemoryMap, OrReservedMemoryWasPendingAndSystemMemoryWasAdded) {
  const auto dialect = HobDialect::kReservedIsPending;
  EXPECT_EQ(kind_of(Resource::kSystemMemory, dialect), MemoryKind::kUsable);
  EXPECT_EQ(kind_of(Resource::kMemoryReserved, dialect), MemoryKind::kUnaccepted);
}

TEST(HobMemoryMap, BeforeItHadAMeaningType7IsAnError) {
  const HobBytes bytes =
      hobs({{Resource::kSystemMemory, 0, 0x1000}, {Resource::kMemoryUnaccepted, 0x1000, 0x1000}});
  for (const auto dialect : {HobDialect::kSystemIsPending, HobDialect::kReservedIsPending}) {
    EXPECT_EQ(error_of(bytes, dialect), (HobError{HobErrorKind::kUnknownResource, offset_of(1)}));
  }
}

TEST(HobMemoryMap, MemoryThatIsNotPresentOrNotTestedIsReserved) {
  for (const std::uint32_t attributes : {0U, 1U, 2U, 3U, 5U, 6U}) {
    EXPECT_EQ(kind_of(Resource::kSystemMemory, HobDialect::kStandard, attributes),
              MemoryKind::kReserved)
        << attributes;
  }
  EXPECT_EQ(kind_of(Resource::kMemoryUnaccepted, HobDialect::kStandard, 6), MemoryKind::kReserved);
  EXPECT_EQ(kind_of(Resource::kSystemMemory, HobDialect::kSystemIsPending, 6),
            MemoryKind::kReserved);
}

TEST(HobMemoryMap, PersistentMemoryIsPersistent) {
  for (const auto dialect :
       {HobDialect::kStandard, HobDialect::kSystemIsPending, HobDialect::kReservedIsPending}) {
    EXPECT_EQ(kind_of(Resource::kSystemMemory, dialect, 0x80'0007), MemoryKind::kPersistent);
  }
}

TEST(HobMemoryMap, KnowsEveryAttributeOfTheSpecificationAndNoOther) {
  for (unsigned bit = 0; bit < 29; ++bit) {
    EXPECT_TRUE(read(hobs({{Resource::kMemoryMappedIo, 0, 0x1000, 1U << bit}})).has_value());
  }
  for (unsigned bit = 29; bit < 32; ++bit) {
    for (const Resource type :
         {Resource::kSystemMemory, Resource::kMemoryMappedIo, Resource::kIo}) {
      EXPECT_EQ(error_of(hobs({{type, 0, 0x1000, 7U | 1U << bit}})),
                (HobError{HobErrorKind::kUnknownAttribute, offset_of(0)}));
    }
  }
}

TEST(HobMemoryMap, RefusesAResourceTypeWithoutAMeaning) {
  for (const std::uint32_t type : {8U, 9U, 0x7000'0000U, ~0U}) {
    EXPECT_EQ(error_of(hobs({{static_cast<Resource>(type), 0, 0x1000}})),
              (HobError{HobErrorKind::kUnknownResource, offset_of(0)}));
  }
}

TEST(HobMemoryMap, DevicesAndPortsAreNoMemory) {
  const auto map = read(hobs({{Resource::kMemoryMappedIo, 0xFEC0'0000, 0x400},
                              {Resource::kIo, 0, 0x1'0000},
                              {Resource::kFirmwareDevice, 0xFFC0'0000, 0x40'0000},
                              {Resource::kMemoryMappedIoPort, 0xE000'0000, 0x1000},
                              {Resource::kIoReserved, ~0ULL, ~0ULL},
                              {Resource::kMemoryUnaccepted, 0, 0x10'0000}}));
  ASSERT_TRUE(map.has_value());
  EXPECT_EQ(*map, (std::vector<Region>{{range(0, 0x10'0000), MemoryKind::kUnaccepted}}));
}

TEST(HobMemoryMap, RefusesADeviceInMemoryWhicheverComesFirst) {
  for (const Resource memory : {Resource::kSystemMemory, Resource::kMemoryUnaccepted}) {
    for (const Resource device :
         {Resource::kMemoryMappedIo, Resource::kFirmwareDevice, Resource::kMemoryMappedIoPort}) {
      const test::Resource ram{memory, 0x10'0000, 0x10'0000};
      const test::Resource mmio{device, 0x1F'FFFF, 0x10};
      EXPECT_EQ(error_of(hobs({ram, mmio})), (HobError{HobErrorKind::kOverlap, offset_of(1)}));
      EXPECT_EQ(error_of(hobs({mmio, ram})), (HobError{HobErrorKind::kOverlap, offset_of(0)}));
    }
  }
}

TEST(HobMemoryMap, ADeviceBesideMemoryOrInReservedMemoryIsFine) {
  EXPECT_TRUE(read(hobs({{Resource::kMemoryUnaccepted, 0x1000, 0x1000},
                         {Resource::kMemoryMappedIo, 0, 0x1000},
                         {Resource::kMemoryMappedIo, 0x2000, 0x1000},
                         {Resource::kMemoryReserved, 0x8000, 0x1000},
                         {Resource::kFirmwareDevice, 0x8000, 0x1000}}))
                  .has_value());
}

TEST(HobMemoryMap, RefusesMemoryThatIsNotPageAligned) {
  for (const auto& [start, size] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
           {0x1800, 0x1000}, {0x1000, 0x1800}, {1, 0xFFF}}) {
    EXPECT_EQ(error_of(hobs({{Resource::kSystemMemory, 0x10'0000, 0x1000},
                             {Resource::kMemoryUnaccepted, start, size}})),
              (HobError{HobErrorKind::kUnaligned, offset_of(1)}));
  }
}

TEST(HobMemoryMap, RefusesAResourceThatWraps) {
  for (const Resource type : {Resource::kMemoryUnaccepted, Resource::kMemoryMappedIo}) {
    EXPECT_EQ(error_of(hobs({{type, ~0ULL << 12, 0x1000}})),
              (HobError{HobErrorKind::kWraps, offset_of(0)}));
    EXPECT_EQ(error_of(hobs({{type, 0x1000, ~0ULL << 12}})),
              (HobError{HobErrorKind::kWraps, offset_of(0)}));
  }
}

TEST(HobMemoryMap, RefusesAnOverlapAndNamesTheLaterHob) {
  const HobBytes bytes = hobs({{Resource::kMemoryUnaccepted, 0x10'0000, 0x10'0000},
                               {Resource::kMemoryMappedIo, 0, 0x1000},
                               {Resource::kSystemMemory, 0x1F'F000, 0x1000}});
  EXPECT_EQ(error_of(bytes), (HobError{HobErrorKind::kOverlap, offset_of(2)}));
}

TEST(HobMemoryMap, ResourcesOfOneKindMergeAndEmptyOnesAreIgnored) {
  const auto map = read(hobs({{Resource::kMemoryUnaccepted, 0x3000, 0x2000},
                              {Resource::kSystemMemory, 0x4000, 0},
                              {Resource::kMemoryUnaccepted, 0x1000, 0x3000}}));
  ASSERT_TRUE(map.has_value());
  EXPECT_EQ(*map, (std::vector<Region>{{range(0x1000, 0x5000), MemoryKind::kUnaccepted}}));
}

TEST(HobMemoryMap, RefusesMoreMemoryThanThereIsRoomFor) {
  const HobBytes bytes = hobs({{Resource::kMemoryUnaccepted, 0x1000, 0x1000},
                               {Resource::kMemoryMappedIo, 0, 0x1000},
                               {Resource::kMemoryUnaccepted, 0x8000, 0x1000}});
  EXPECT_TRUE(read(bytes, HobDialect::kStandard, 2).has_value());
  EXPECT_EQ(error_of(bytes, HobDialect::kStandard, 1),
            (HobError{HobErrorKind::kTooManyResources, offset_of(2)}));
}

}  // namespace
}  // namespace accede::firmware
