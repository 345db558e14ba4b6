#include "accede/firmware/hob_composer.hpp"

#include "tests/firmware/made_up_hobs.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string_view>
#include <vector>

namespace accede::firmware {
namespace {

using guest::MemoryKind;
using guest::MemoryMap;
using guest::MemoryRegion;
using test::range;
using test::Region;

constexpr PhysAddr kWhere{0x80'9000};
constexpr std::array kDialects{HobDialect::kStandard, HobDialect::kSystemIsPending,
                               HobDialect::kReservedIsPending};

std::vector<MemoryRegion> every_sayable_kind() {
  return {{range(0x1000, 0x3000), MemoryKind::kUnaccepted},
          {range(0x3000, 0x4000), MemoryKind::kUsable},
          {range(0x4000, 0x5000), MemoryKind::kReserved},
          {range(0x8000, 0x9000), MemoryKind::kPersistent},
          {range(4_GiB, 8_GiB), MemoryKind::kUnaccepted}};
}

TEST(HobComposer, WhatItWritesIsReadAsWhatWasMeantInEveryDialect) {
  std::vector<MemoryRegion> regions = every_sayable_kind();
  const MemoryMap map = MemoryMap::from_regions(regions).value();
  for (const HobDialect dialect : kDialects) {
    std::vector<std::byte> memory(HobComposer::size_of(5).value());
    const auto written = compose_hobs(map, dialect, kWhere, memory);
    ASSERT_TRUE(written.has_value());
    EXPECT_EQ(written->size(), memory.size());
    const auto list = HobList::parse(*written);
    ASSERT_TRUE(list.has_value());
    EXPECT_EQ(list->names_unaccepted(), dialect == HobDialect::kStandard);
    std::vector<MemoryRegion> storage(5);
    const auto again = map_from_hobs(*list, dialect, storage);
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(test::regions(*again), test::regions(map));
  }
}

TEST(HobComposer, WritesTheBytesThatQemuWrites) {
  std::vector<std::byte> memory(HobComposer::size_of(1).value());
  HobComposer composer{memory, kWhere, HobDialect::kStandard};
  ASSERT_TRUE(composer.add({range(0x10'0000, 0x30'0000), MemoryKind::kUnaccepted}).has_value());
  const auto written = composer.finish();
  ASSERT_TRUE(written.has_value());
  ASSERT_EQ(written->size(), 112U);
  const ByteReader reader{*written};
  EXPECT_EQ(reader.read<std::uint64_t>(0), 0x0000'0000'0038'0001U);
  EXPECT_EQ(reader.read<std::uint32_t>(8), 9U);
  EXPECT_EQ(reader.read<std::uint64_t>(48), kWhere.value() + 112) << "the end of the list";
  EXPECT_EQ(reader.read<std::uint64_t>(56), 0x0000'0000'0030'0003U);
  EXPECT_EQ(reader.read<std::uint64_t>(64), 0U) << "no owner";
  EXPECT_EQ(reader.read<std::uint64_t>(72), 0U);
  EXPECT_EQ(reader.read<std::uint32_t>(80), 7U);
  EXPECT_EQ(reader.read<std::uint32_t>(84), 7U);
  EXPECT_EQ(reader.read<std::uint64_t>(88), 0x10'0000U);
  EXPECT_EQ(reader.read<std::uint64_t>(96), 0x20'0000U);
  EXPECT_EQ(reader.read<std::uint64_t>(104), 0x0000'0000'0008'FFFFU);
}

TEST(HobComposer, AnEmptyRegionAddsNothing) {
  std::vector<std::byte> memory(64);
  HobComposer composer{memory, kWhere, HobDialect::kStandard};
  EXPECT_TRUE(composer.add({range(0x800, 0x800), MemoryKind::kUnaccepted}).has_value());
  EXPECT_EQ(composer.finish()->size(), 64U);
}

TEST(HobComposer, RefusesWhatDoesNotFitAndSaysWhatItNeeds) {
  std::vector<std::byte> memory(HobComposer::size_of(1).value());
  HobComposer composer{memory, kWhere, HobDialect::kStandard};
  ASSERT_TRUE(composer.add({range(0, 0x1000), MemoryKind::kUsable}).has_value());
  const auto second = composer.add({range(0x1000, 0x2000), MemoryKind::kUnaccepted});
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error(), (ComposeError{ComposeErrorKind::kNoRoom, 160}));
  EXPECT_TRUE(HobList::parse(*composer.finish()).has_value()) << "the list is as it was";

  for (std::size_t room = 0; room < 64; ++room) {
    HobComposer small{std::span{memory}.first(room), kWhere, HobDialect::kStandard};
    const auto finished = small.finish();
    ASSERT_FALSE(finished.has_value());
    EXPECT_EQ(finished.error(), (ComposeError{ComposeErrorKind::kNoRoom, 64}));
  }
}

TEST(HobComposer, RefusesKindsThatNoListCanSay) {
  std::vector<std::byte> memory(1024);
  for (const HobDialect dialect : kDialects) {
    HobComposer composer{memory, kWhere, dialect};
    ASSERT_TRUE(composer.add({range(0, 0x1000), MemoryKind::kUsable}).has_value());
    for (const MemoryKind kind :
         {MemoryKind::kAcpiReclaim, MemoryKind::kAcpiNvs, MemoryKind::kUnusable}) {
      const auto added = composer.add({range(0x1000, 0x2000), kind});
      ASSERT_FALSE(added.has_value());
      EXPECT_EQ(added.error(), (ComposeError{ComposeErrorKind::kNotSayable, 1}));
    }
  }
}

TEST(HobComposer, RefusesPartsOfPages) {
  std::vector<std::byte> memory(1024);
  HobComposer composer{memory, kWhere, HobDialect::kStandard};
  for (const PhysRange bad : {range(0x800, 0x2000), range(0x1000, 0x1800)}) {
    const auto added = composer.add({bad, MemoryKind::kUsable});
    ASSERT_FALSE(added.has_value());
    EXPECT_EQ(added.error(), (ComposeError{ComposeErrorKind::kUnaligned, 0}));
  }
}

TEST(HobComposer, WritesAHostileListAsItIsTold) {
  std::vector<std::byte> memory(1024);
  HobComposer composer{memory, kWhere, HobDialect::kStandard};
  using abi::hob::Resource;
  ASSERT_TRUE(composer.add(Resource::kSystemMemory, 7, range(0, 0x2000)).has_value());
  ASSERT_TRUE(composer.add(Resource::kMemoryUnaccepted, 7, range(0x1000, 0x3000)).has_value());
  std::vector<MemoryRegion> storage(2);
  const auto map =
      map_from_hobs(*HobList::parse(*composer.finish()), HobDialect::kStandard, storage);
  ASSERT_FALSE(map.has_value());
  EXPECT_EQ(map.error(), (HobError{HobErrorKind::kOverlap, test::offset_of(1)}));
}

TEST(HobComposer, EveryErrorHasItsOwnText) {
  const std::set<std::string_view> texts{
      to_string(ComposeErrorKind::kNoRoom), to_string(ComposeErrorKind::kNotSayable),
      to_string(ComposeErrorKind::kUnaligned), to_string(static_cast<ComposeErrorKind>(255))};
  EXPECT_EQ(texts.size(), 4U);
}

TEST(HobComposerDeathTest, StopsAtAnAddressWhereNoHobCanLie) {
  std::vector<std::byte> memory(1024);
  EXPECT_DEATH((HobComposer{memory, PhysAddr{4}, HobDialect::kStandard}), "");
}

}  // namespace
}  // namespace accede::firmware
