#include "accede/firmware/linux_e820.hpp"

#include "tests/firmware/made_up_linux.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>
#include <vector>

namespace accede::firmware {
namespace {

using abi::e820::Entry;
using abi::efi::MemoryType;
using enum LinuxBootErrorKind;
using test::EfiMap;
using testing::ElementsAre;

constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr std::uint64_t kSpecialPurpose = 1ULL << 18;
constexpr E820Rules kTable{.unaccepted = UnacceptedMemory::kToldByTable};

/// begin, end, type.
using Row = std::tuple<std::uint64_t, std::uint64_t, std::uint32_t>;

std::expected<std::vector<Row>, LinuxBootError> build(const EfiMap& map, E820Rules rules = kTable) {
  std::vector<Entry> storage(map.size());
  const auto entries = build_e820(map.bytes(), EfiMap::kStride, rules, storage);
  if (!entries) {
    return std::unexpected{entries.error()};
  }
  std::vector<Row> rows;
  for (const Entry& entry : *entries) {
    rows.emplace_back(auto{entry.address}, entry.address + entry.bytes, auto{entry.type});
  }
  return rows;
}

TEST(LinuxE820, TranslatesEveryTypeOfUefi) {
  const std::vector<std::uint32_t> expected{2, 1, 1, 1, 1, 2, 2, 1, 5, 3, 4, 2, 2, 2, 7, 1};
  for (std::uint32_t type = 0; type < expected.size(); ++type) {
    EfiMap map;
    map.add(MemoryType::kConventional, 0, 0x1000);
    map.add(static_cast<MemoryType>(type), kGiB, 2 * kGiB);
    EXPECT_THAT(build(map).value(),
                ElementsAre(Row{0, 0x1000, 1}, Row{kGiB, 2 * kGiB, expected[type]}))
        << type;
  }
}

TEST(LinuxE820, ReservesMemoryOfTypesThatNobodyKnows) {
  for (const std::uint32_t type : {16U, 0x7000'0000U, 0x8000'ACCEU, 0xFFFF'FFFFU}) {
    EfiMap map;
    map.add(MemoryType::kConventional, 0, 0x1000);
    map.add(static_cast<MemoryType>(type), kGiB, 2 * kGiB);
    EXPECT_THAT(build(map).value(), ElementsAre(Row{0, 0x1000, 1}, Row{kGiB, 2 * kGiB, 2}));
  }
}

TEST(LinuxE820, NeverCallsMemoryRamThatTheKernelIsNotToldToAccept) {
  EfiMap map;
  map.add(MemoryType::kConventional, 0, kGiB);
  map.add(MemoryType::kUnaccepted, kGiB, 2 * kGiB);
  EXPECT_THAT(build(map, {}).value(), ElementsAre(Row{0, kGiB, 1}));
  EXPECT_THAT(build(map, {.unaccepted = UnacceptedMemory::kUntold}).value(),
              ElementsAre(Row{0, kGiB, 1}));
}

TEST(LinuxE820, CallsUnacceptedMemoryRamWhenATableTellsOrAllWasAccepted) {
  EfiMap map;
  map.add(MemoryType::kUnaccepted, kGiB, 2 * kGiB);
  for (const auto how : {UnacceptedMemory::kToldByTable, UnacceptedMemory::kAccepted}) {
    EXPECT_THAT(build(map, {.unaccepted = how}).value(), ElementsAre(Row{kGiB, 2 * kGiB, 1}));
  }
}

TEST(LinuxE820, LeavesUnacceptedMemoryOutWithoutJoiningItsNeighbours) {
  EfiMap map;
  map.add(MemoryType::kConventional, 0, 0x1000);
  map.add(MemoryType::kUnaccepted, 0x1000, 0x2000);
  map.add(MemoryType::kConventional, 0x2000, 0x3000);
  EXPECT_THAT(build(map, {}).value(), ElementsAre(Row{0, 0x1000, 1}, Row{0x2000, 0x3000, 1}));
  EXPECT_THAT(build(map).value(), ElementsAre(Row{0, 0x3000, 1}));
}

TEST(LinuxE820, KeepsSpecialPurposeMemoryForDrivers) {
  for (const auto type :
       {MemoryType::kLoaderCode, MemoryType::kLoaderData, MemoryType::kBootServicesCode,
        MemoryType::kBootServicesData, MemoryType::kConventional}) {
    EfiMap map;
    map.add(MemoryType::kConventional, 0, 0x1000);
    map.add(type, 0x1000, 0x2000, kSpecialPurpose | 0xF);
    EXPECT_THAT(build(map).value(),
                ElementsAre(Row{0, 0x1000, 1}, Row{0x1000, 0x2000, 0xEFFF'FFFF}));
    EXPECT_THAT(
        build(map, {.unaccepted = UnacceptedMemory::kToldByTable, .soft_reserve = false}).value(),
        ElementsAre(Row{0, 0x2000, 1}));
  }
}

TEST(LinuxE820, LooksForSpecialPurposeOnlyOnFreeMemory) {
  EfiMap map;
  map.add(MemoryType::kConventional, 0, 0x1000);
  map.add(MemoryType::kUnaccepted, 0x2000, 0x3000, kSpecialPurpose);
  map.add(MemoryType::kReserved, 0x4000, 0x5000, kSpecialPurpose);
  EXPECT_THAT(build(map).value(),
              ElementsAre(Row{0, 0x1000, 1}, Row{0x2000, 0x3000, 1}, Row{0x4000, 0x5000, 2}));
}

TEST(LinuxE820, SortsAndMergesWhatTouches) {
  EfiMap map;
  map.add(MemoryType::kLoaderData, 0x3000, 0x4000);
  map.add(MemoryType::kReserved, 0x5000, 0x6000);
  map.add(MemoryType::kConventional, 0, 0x3000);
  map.add(MemoryType::kRuntimeServicesCode, 0x6000, 0x8000);
  map.add(MemoryType::kBootServicesCode, 0x4000, 0x5000);
  EXPECT_THAT(build(map).value(), ElementsAre(Row{0, 0x5000, 1}, Row{0x5000, 0x8000, 2}));
}

TEST(LinuxE820, DoesNotMergeAcrossAHole) {
  EfiMap map;
  map.add(MemoryType::kConventional, 0, 0x1000);
  map.add(MemoryType::kConventional, 0x2000, 0x3000);
  EXPECT_THAT(build(map).value(), ElementsAre(Row{0, 0x1000, 1}, Row{0x2000, 0x3000, 1}));
}

TEST(LinuxE820, MergesOverlapsOfOneType) {
  EfiMap map;
  map.add(MemoryType::kConventional, 0, 0x3000);
  map.add(MemoryType::kLoaderData, 0x1000, 0x2000);
  map.add(MemoryType::kConventional, 0x2000, 0x5000);
  EXPECT_THAT(build(map).value(), ElementsAre(Row{0, 0x5000, 1}));
}

TEST(LinuxE820, RefusesMemoryThatIsTwoThings) {
  for (const auto other : {MemoryType::kReserved, MemoryType::kUnaccepted}) {
    EfiMap map;
    map.add(MemoryType::kConventional, 0, 0x3000);
    map.add(other, 0x1000, 0x2000);
    for (const auto how :
         {UnacceptedMemory::kUntold, UnacceptedMemory::kToldByTable, UnacceptedMemory::kAccepted}) {
      EXPECT_EQ(build(map, {.unaccepted = how}).error(), (LinuxBootError{kOverlap, 0x1000, 0}));
    }
  }
}

TEST(LinuxE820, RefusesAnOverlapBehindAMergedOne) {
  EfiMap map;
  map.add(MemoryType::kConventional, 0, 0x9000);
  map.add(MemoryType::kConventional, 0x1000, 0x2000);
  map.add(MemoryType::kAcpiNvs, 0x8000, 0xA000);
  EXPECT_EQ(build(map).error(), (LinuxBootError{kOverlap, 0x8000, 0}));
}

TEST(LinuxE820, RefusesDescriptorsThatWrapOrAreNotAligned) {
  EfiMap wraps;
  wraps.add(MemoryType::kConventional, 0, 0x1000);
  wraps.add_raw(MemoryType::kUnaccepted, kGiB, ~0ULL >> 12);
  EXPECT_EQ(build(wraps).error(), (LinuxBootError{kBadDescriptor, 1, 0}));
  EfiMap endless;
  endless.add_raw(MemoryType::kConventional, 0, ~0ULL);
  EXPECT_EQ(build(endless).error(), (LinuxBootError{kBadDescriptor, 0, 0}));
  EfiMap unaligned;
  unaligned.add_raw(MemoryType::kConventional, 0x800, 1);
  EXPECT_EQ(build(unaligned).error(), (LinuxBootError{kBadDescriptor, 0, 0}));
}

TEST(LinuxE820, IgnoresEmptyDescriptors) {
  EfiMap map;
  map.add_raw(MemoryType::kReserved, 0x1000, 0);
  map.add(MemoryType::kConventional, 0, 0x3000);
  EXPECT_THAT(build(map).value(), ElementsAre(Row{0, 0x3000, 1}));
}

TEST(LinuxE820, RefusesDescriptorsThatAreTooCloseTogether) {
  std::vector<Entry> storage(4);
  const std::vector<std::byte> map(80);
  EXPECT_EQ(build_e820(map, 39, kTable, storage).error(), (LinuxBootError{kBadStride, 39, 40}));
  EXPECT_EQ(build_e820(map, 0, kTable, storage).error(), (LinuxBootError{kBadStride, 0, 40}));
}

TEST(LinuxE820, SaysWhenItsStorageIsTooSmall) {
  EfiMap map;
  for (std::uint64_t i = 0; i < 5; ++i) {
    map.add(MemoryType::kConventional, i * 0x2000, i * 0x2000 + 0x1000);
  }
  std::vector<Entry> storage(4);
  EXPECT_EQ(build_e820(map.bytes(), EfiMap::kStride, kTable, storage).error(),
            (LinuxBootError{kE820Storage, 5, 4}));
}

TEST(LinuxE820, RefusesAMapWithoutRam) {
  EXPECT_EQ(build(EfiMap{}).error().kind, kNoMemory);
  EfiMap map;
  map.add(MemoryType::kUnaccepted, kGiB, 2 * kGiB);
  EXPECT_EQ(build(map, {}).error().kind, kNoMemory);
}

}  // namespace
}  // namespace accede::firmware
