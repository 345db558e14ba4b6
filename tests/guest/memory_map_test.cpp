#include "accede/guest/memory_map.hpp"

#include "accede/abi/e820.hpp"
#include "accede/abi/efi.hpp"
#include "accede/guest/unaccepted_table.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string_view>
#include <vector>

namespace accede::guest {
namespace {

using abi::efi::MemoryType;

constexpr std::uint64_t kPage = 4096;
/// The last page that a range can hold: a range cannot end at 2^64.
constexpr std::uint64_t kTopPage = ~0ULL - 2 * kPage + 1;

PhysRange range(std::uint64_t begin, std::uint64_t end) {
  return PhysRange::make(PhysAddr{begin}, PhysAddr{end}).value();
}

struct Descriptor {
  MemoryType type;
  std::uint64_t start;
  std::uint64_t pages;
};

/// What GetMemoryMap gives, with junk between the descriptors.
std::vector<std::byte> efi(const std::vector<Descriptor>& list, std::size_t stride = 48) {
  std::vector<std::byte> bytes(list.size() * stride, std::byte{0xA5});
  for (std::size_t i = 0; i < list.size(); ++i) {
    const abi::efi::MemoryDescriptor descriptor{
        .type = static_cast<std::uint32_t>(list[i].type),
        .padding = 0xFFFFFFFF,
        .physical_start = list[i].start,
        .virtual_start = ~0ULL,
        .number_of_pages = list[i].pages,
        .attribute = 0xF,
    };
    const auto raw = std::bit_cast<std::array<std::byte, sizeof(descriptor)>>(descriptor);
    std::copy(raw.begin(), raw.end(), bytes.begin() + static_cast<std::ptrdiff_t>(i * stride));
  }
  return bytes;
}

std::vector<std::byte> e820(const std::vector<abi::e820::Entry>& list) {
  std::vector<std::byte> bytes;
  for (const abi::e820::Entry& entry : list) {
    const auto raw = std::bit_cast<std::array<std::byte, sizeof(entry)>>(entry);
    bytes.insert(bytes.end(), raw.begin(), raw.end());
  }
  return bytes;
}

std::vector<MemoryRegion> regions(const MemoryMap::Result& map) {
  EXPECT_TRUE(map);
  return map ? std::vector<MemoryRegion>{map->regions().begin(), map->regions().end()}
             : std::vector<MemoryRegion>{};
}

std::vector<MemoryRegion> from_efi(const std::vector<Descriptor>& list, std::size_t stride = 48) {
  std::vector<MemoryRegion> storage(list.size());
  return regions(MemoryMap::from_efi(efi(list, stride), stride, storage));
}

MapError error_of(const MemoryMap::Result& map) {
  EXPECT_FALSE(map);
  return map ? MapError{} : map.error();
}

MapError efi_error(const std::vector<Descriptor>& list, std::size_t room = 64) {
  std::vector<MemoryRegion> storage(room);
  return error_of(MemoryMap::from_efi(efi(list), 48, storage));
}

TEST(MemoryMapEfi, TakesTheStrideFromTheCaller) {
  for (std::size_t stride = 40; stride < 130; ++stride) {
    const auto list = from_efi(
        {{MemoryType::kConventional, 0, 16}, {MemoryType::kUnaccepted, 0x100000, 1}}, stride);
    const std::vector<MemoryRegion> expected{
        {range(0, 0x10000), MemoryKind::kUsable, 0},
        {range(0x100000, 0x101000), MemoryKind::kUnaccepted, 1},
    };
    ASSERT_EQ(list, expected) << stride;
  }
}

TEST(MemoryMapEfi, RefusesAStrideBelowADescriptor) {
  std::array<MemoryRegion, 4> storage{};
  const auto bytes = efi({{MemoryType::kConventional, 0, 1}}, 48);
  for (const std::size_t stride : {0U, 1U, 20U, 39U}) {
    EXPECT_EQ(error_of(MemoryMap::from_efi(bytes, stride, storage)),
              (MapError{MapErrorKind::kBadStride, 0}));
  }
}

TEST(MemoryMapEfi, ADescriptorThatIsCutOffIsNotThere) {
  const auto bytes =
      efi({{MemoryType::kConventional, 0, 1}, {MemoryType::kConventional, kPage, 1}});
  std::array<MemoryRegion, 4> storage{};
  for (std::size_t size = 48; size < 96; ++size) {
    const auto map = MemoryMap::from_efi(std::span{bytes}.first(size), 48, storage);
    ASSERT_EQ(regions(map).size(), 1U);
    EXPECT_EQ(map->regions()[0].range, range(0, kPage));
  }
}

TEST(MemoryMapEfi, NoDescriptorsAreAnEmptyMap) {
  EXPECT_TRUE(from_efi({}).empty());
}

TEST(MemoryMapEfi, EveryTypeHasItsKind) {
  using enum MemoryType;
  const std::vector<std::pair<MemoryType, MemoryKind>> kinds{
      {kReserved, MemoryKind::kReserved},
      {kLoaderCode, MemoryKind::kUsable},
      {kLoaderData, MemoryKind::kUsable},
      {kBootServicesCode, MemoryKind::kUsable},
      {kBootServicesData, MemoryKind::kUsable},
      {kRuntimeServicesCode, MemoryKind::kReserved},
      {kRuntimeServicesData, MemoryKind::kReserved},
      {kConventional, MemoryKind::kUsable},
      {kUnusable, MemoryKind::kUnusable},
      {kAcpiReclaim, MemoryKind::kAcpiReclaim},
      {kAcpiNvs, MemoryKind::kAcpiNvs},
      {kMemoryMappedIo, MemoryKind::kReserved},
      {kMemoryMappedIoPortSpace, MemoryKind::kReserved},
      {kPalCode, MemoryKind::kReserved},
      {kPersistent, MemoryKind::kPersistent},
      {kUnaccepted, MemoryKind::kUnaccepted},
      {static_cast<MemoryType>(16), MemoryKind::kReserved},
      {static_cast<MemoryType>(0x70000000), MemoryKind::kReserved},
      {static_cast<MemoryType>(0x80000000), MemoryKind::kReserved},
      {static_cast<MemoryType>(0xFFFFFFFF), MemoryKind::kReserved},
  };
  for (const auto& [type, kind] : kinds) {
    const auto list = from_efi({{type, kPage, 1}});
    ASSERT_EQ(list.size(), 1U);
    EXPECT_EQ(list[0].kind, kind) << static_cast<std::uint32_t>(type);
  }
}

TEST(MemoryMapEfi, SortsItsDescriptors) {
  const auto list = from_efi({{MemoryType::kConventional, 0x300000, 1},
                              {MemoryType::kUnaccepted, 0x100000, 1},
                              {MemoryType::kReserved, 0x200000, 1}});
  const std::vector<MemoryRegion> expected{
      {range(0x100000, 0x101000), MemoryKind::kUnaccepted, 1},
      {range(0x200000, 0x201000), MemoryKind::kReserved, 2},
      {range(0x300000, 0x301000), MemoryKind::kUsable, 0},
  };
  EXPECT_EQ(list, expected);
}

TEST(MemoryMapEfi, DescriptorsOfOneKindThatTouchAreOneRegion) {
  const auto list = from_efi({{MemoryType::kConventional, 2 * kPage, 2},
                              {MemoryType::kBootServicesData, 0, 2},
                              {MemoryType::kUnaccepted, 4 * kPage, 1}});
  const std::vector<MemoryRegion> expected{
      {range(0, 4 * kPage), MemoryKind::kUsable, 0},
      {range(4 * kPage, 5 * kPage), MemoryKind::kUnaccepted, 2},
  };
  EXPECT_EQ(list, expected);
}

TEST(MemoryMapEfi, DescriptorsOfOneKindThatOverlapAreOneRegion) {
  const auto list = from_efi({{MemoryType::kUnaccepted, 0, 100},
                              {MemoryType::kUnaccepted, 10 * kPage, 10},
                              {MemoryType::kUnaccepted, 0, 1},
                              {MemoryType::kUnaccepted, 90 * kPage, 20}});
  const std::vector<MemoryRegion> expected{{range(0, 110 * kPage), MemoryKind::kUnaccepted, 0}};
  EXPECT_EQ(list, expected);
}

TEST(MemoryMapEfi, AHoleOfOnePageKeepsRegionsApart) {
  EXPECT_EQ(
      from_efi({{MemoryType::kUnaccepted, 0, 1}, {MemoryType::kUnaccepted, 2 * kPage, 1}}).size(),
      2U);
}

TEST(MemoryMapEfi, RefusesKindsThatOverlapAndNamesTheLaterEntry) {
  EXPECT_EQ(
      efi_error({{MemoryType::kConventional, 0, 10}, {MemoryType::kUnaccepted, 9 * kPage, 1}}),
      (MapError{MapErrorKind::kOverlap, 48}));
  EXPECT_EQ(efi_error({{MemoryType::kUnaccepted, 9 * kPage, 5},
                       {MemoryType::kReserved, 50 * kPage, 1},
                       {MemoryType::kConventional, 0, 10}}),
            (MapError{MapErrorKind::kOverlap, 96}));
}

TEST(MemoryMapEfi, RefusesTwoKindsForTheSamePage) {
  EXPECT_EQ(efi_error({{MemoryType::kConventional, 0, 1}, {MemoryType::kUnaccepted, 0, 1}}).kind,
            MapErrorKind::kOverlap);
}

TEST(MemoryMapEfi, RefusesAKindInsideAMergedRegion) {
  EXPECT_EQ(efi_error({{MemoryType::kUnaccepted, 0, 2},
                       {MemoryType::kUnaccepted, 2 * kPage, 98},
                       {MemoryType::kConventional, 50 * kPage, 1}}),
            (MapError{MapErrorKind::kOverlap, 96}));
}

TEST(MemoryMapEfi, IgnoresEmptyDescriptorsWhereverTheyLie) {
  const auto list = from_efi({{MemoryType::kUnaccepted, 0x5000, 0},
                              {MemoryType::kConventional, 0, 16},
                              {MemoryType::kReserved, kTopPage + kPage, 0}});
  EXPECT_EQ(list, (std::vector<MemoryRegion>{{range(0, 0x10000), MemoryKind::kUsable, 1}}));
}

TEST(MemoryMapEfi, EmptyDescriptorsNeedNoStorage) {
  std::array<MemoryRegion, 1> storage{};
  const auto bytes = efi({{MemoryType::kReserved, 0, 0},
                          {MemoryType::kConventional, 0, 1},
                          {MemoryType::kReserved, 0, 0}});
  EXPECT_TRUE(MemoryMap::from_efi(bytes, 48, storage));
}

TEST(MemoryMapEfi, RefusesAnUnalignedDescriptor) {
  EXPECT_EQ(efi_error({{MemoryType::kConventional, 0, 1}, {MemoryType::kReserved, kPage + 1, 1}}),
            (MapError{MapErrorKind::kUnalignedEntry, 48}));
}

TEST(MemoryMapEfi, RefusesADescriptorThatWraps) {
  for (const std::uint64_t pages :
       {~0ULL, ~0ULL >> 12, (~0ULL >> 12) - 4, 1ULL << 52, 1ULL << 63}) {
    EXPECT_EQ(
        efi_error({{MemoryType::kConventional, 0, 1}, {MemoryType::kUnaccepted, 0x100000, pages}}),
        (MapError{MapErrorKind::kEntryWraps, 48}))
        << pages;
  }
}

TEST(MemoryMapEfi, TheTopOfTheAddressSpaceIsRepresentableExceptItsLastPage) {
  const auto list = from_efi({{MemoryType::kUnaccepted, kTopPage, 1}});
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0].range, range(kTopPage, kTopPage + kPage));
  EXPECT_EQ(efi_error({{MemoryType::kUnaccepted, kTopPage, 2}}),
            (MapError{MapErrorKind::kEntryWraps, 0}));
}

TEST(MemoryMapEfi, NamesTheEntryForWhichThereIsNoRoom) {
  EXPECT_EQ(efi_error({{MemoryType::kConventional, 0, 1},
                       {MemoryType::kReserved, 0, 0},
                       {MemoryType::kConventional, kPage, 1},
                       {MemoryType::kConventional, 2 * kPage, 1}},
                      2),
            (MapError{MapErrorKind::kTooManyEntries, 3 * 48}));
}

TEST(MemoryMapE820, EveryTypeHasItsKind) {
  const std::vector<std::pair<std::uint32_t, MemoryKind>> kinds{
      {0, MemoryKind::kReserved},    {1, MemoryKind::kUsable},     {2, MemoryKind::kReserved},
      {3, MemoryKind::kAcpiReclaim}, {4, MemoryKind::kAcpiNvs},    {5, MemoryKind::kUnusable},
      {6, MemoryKind::kReserved},    {7, MemoryKind::kPersistent}, {15, MemoryKind::kReserved},
      {~0U, MemoryKind::kReserved},
  };
  for (const auto& [type, kind] : kinds) {
    std::array<MemoryRegion, 1> storage{};
    const auto map = MemoryMap::from_e820(e820({{0, kPage, type}}), storage);
    ASSERT_EQ(regions(map).size(), 1U);
    EXPECT_EQ(map->regions()[0].kind, kind) << type;
  }
}

TEST(MemoryMapE820, EntriesNeedNoAlignmentAndNoOrder) {
  std::array<MemoryRegion, 4> storage{};
  const auto list = regions(MemoryMap::from_e820(
      e820({{0x9FC00, 0x400, 2}, {0x100000, 0, 1}, {0, 0x9FC00, 1}}), storage));
  const std::vector<MemoryRegion> expected{
      {range(0, 0x9FC00), MemoryKind::kUsable, 2},
      {range(0x9FC00, 0xA0000), MemoryKind::kReserved, 0},
  };
  EXPECT_EQ(list, expected);
}

TEST(MemoryMapE820, NamesTheEntryThatIsWrong) {
  std::array<MemoryRegion, 2> storage{};
  EXPECT_EQ(error_of(MemoryMap::from_e820(e820({{0, 1, 1}, {~0ULL, 1, 1}}), storage)),
            (MapError{MapErrorKind::kEntryWraps, 20}));
  EXPECT_EQ(error_of(MemoryMap::from_e820(e820({{0, 10, 1}, {9, 10, 2}}), storage)),
            (MapError{MapErrorKind::kOverlap, 20}));
  EXPECT_EQ(error_of(MemoryMap::from_e820(e820({{0, 1, 1}, {8, 1, 1}, {16, 1, 1}}), storage)),
            (MapError{MapErrorKind::kTooManyEntries, 40}));
}

TEST(MemoryMapE820, AnEntryThatIsCutOffIsNotThere) {
  std::array<MemoryRegion, 2> storage{};
  const auto bytes = e820({{0, kPage, 1}, {kPage * 2, kPage, 1}});
  EXPECT_EQ(regions(MemoryMap::from_e820(std::span{bytes}.first(39), storage)).size(), 1U);
}

TEST(MemoryMapRegions, AreNumberedByTheirPlaceInTheInput) {
  std::vector<MemoryRegion> input{
      {range(0x3000, 0x4000), MemoryKind::kUsable, 77},
      {range(0x1000, 0x2000), MemoryKind::kUnaccepted, 77},
      {range(0x2000, 0x3000), MemoryKind::kUsable, 77},
  };
  const std::vector<MemoryRegion> expected{
      {range(0x1000, 0x2000), MemoryKind::kUnaccepted, 1},
      {range(0x2000, 0x4000), MemoryKind::kUsable, 0},
  };
  EXPECT_EQ(regions(MemoryMap::from_regions(input)), expected);
}

TEST(MemoryMapRegions, RefusesUnalignedUnacceptedMemoryOnly) {
  std::vector<MemoryRegion> usable{{range(0, 0x800), MemoryKind::kUsable, 0}};
  EXPECT_TRUE(MemoryMap::from_regions(usable));
  for (const PhysRange wrong : {range(0x800, 0x2000), range(0x1000, 0x1800)}) {
    std::vector<MemoryRegion> input{usable[0], {wrong, MemoryKind::kUnaccepted, 0}};
    EXPECT_EQ(error_of(MemoryMap::from_regions(input)),
              (MapError{MapErrorKind::kUnalignedEntry, sizeof(MemoryRegion)}));
  }
}

TEST(MemoryMapRegions, RefusesKindsThatOverlap) {
  std::vector<MemoryRegion> input{{range(0, 0x3000), MemoryKind::kUnaccepted, 0},
                                  {range(0x2000, 0x4000), MemoryKind::kUsable, 0}};
  EXPECT_EQ(error_of(MemoryMap::from_regions(input)),
            (MapError{MapErrorKind::kOverlap, sizeof(MemoryRegion)}));
}

TEST(MemoryMap, AnEmptyMapHasNothing) {
  const MemoryMap map;
  EXPECT_TRUE(map.regions().empty());
  EXPECT_EQ(map.bytes_of(MemoryKind::kUsable), 0_B);
  EXPECT_FALSE(map.covers(range(0, 1), MemoryKind::kUsable));
}

TEST(MemoryMap, CountsTheBytesOfAKind) {
  std::vector<MemoryRegion> input{{range(0, 0x1000), MemoryKind::kUsable, 0},
                                  {range(0x1000, 0x3000), MemoryKind::kUnaccepted, 0},
                                  {range(0x5000, 0x9000), MemoryKind::kUnaccepted, 0}};
  const auto map = MemoryMap::from_regions(input);
  ASSERT_TRUE(map);
  EXPECT_EQ(map->bytes_of(MemoryKind::kUnaccepted), 24_KiB);
  EXPECT_EQ(map->bytes_of(MemoryKind::kUsable), 4_KiB);
  EXPECT_EQ(map->bytes_of(MemoryKind::kReserved), 0_B);
}

TEST(MemoryMap, CoversAgreesWithEveryPageOfASmallMap) {
  std::vector<MemoryRegion> input{{range(1 * kPage, 3 * kPage), MemoryKind::kUsable, 0},
                                  {range(3 * kPage, 5 * kPage), MemoryKind::kUnaccepted, 0},
                                  {range(6 * kPage, 8 * kPage), MemoryKind::kUnaccepted, 0}};
  const std::array<int, 10> kinds{-1, 0, 0, 1, 1, -1, 1, 1, -1, -1};
  const auto map = MemoryMap::from_regions(input);
  ASSERT_TRUE(map);
  for (std::size_t begin = 0; begin < 10; ++begin) {
    for (std::size_t end = begin + 1; end <= 10; ++end) {
      for (const MemoryKind kind : {MemoryKind::kUsable, MemoryKind::kUnaccepted}) {
        const bool expected = std::all_of(kinds.begin() + static_cast<std::ptrdiff_t>(begin),
                                          kinds.begin() + static_cast<std::ptrdiff_t>(end),
                                          [&](int page) { return page == static_cast<int>(kind); });
        EXPECT_EQ(map->covers(range(begin * kPage, end * kPage), kind), expected)
            << begin << " " << end << " " << to_string(kind);
      }
    }
  }
}

/// All that a loader does with a map: the plan, and the regions it came from.
struct Plan {
  std::vector<PhysRange> ranges;
  std::vector<MemoryKind> kinds;
  PhysRange covered;
  Bytes table;

  friend bool operator==(const Plan&, const Plan&) = default;
};

Plan plan_of(const std::vector<Descriptor>& list) {
  Plan plan;
  std::vector<MemoryRegion> storage(list.size());
  const auto bytes = efi(list);
  const auto map = MemoryMap::from_efi(bytes, 48, storage);
  EXPECT_TRUE(map);
  for (const MemoryRegion& region : regions(map)) {
    plan.ranges.push_back(region.range);
    plan.kinds.push_back(region.kind);
  }
  const auto layout = UnacceptedTable::plan(map.value_or(MemoryMap{}));
  if (layout && *layout) {
    plan.covered = (*layout)->covered;
    plan.table = (*layout)->table;
  }
  return plan;
}

TEST(MemoryMap, Regression_E01_any_order_of_entries_gives_the_same_plan) {
  using enum MemoryType;
  std::vector<Descriptor> list{
      {kConventional, 0, 160},        {kUnaccepted, 0x100000, 0x7F00},
      {kUnaccepted, 1ULL << 32, 512}, {kUnaccepted, 5ULL << 30, 4096},
      {kReserved, 0xFF000000, 16},    {kUnaccepted, 0x8000000, 3},
  };
  std::vector<std::size_t> order{0, 1, 2, 3, 4, 5};
  const Plan expected = plan_of(list);
  EXPECT_EQ(expected.covered, range(0, 5ULL << 30 | 16ULL << 20));
  unsigned count = 0;
  do {
    std::vector<Descriptor> shuffled;
    for (const std::size_t i : order) {
      shuffled.push_back(list[i]);
    }
    ASSERT_EQ(plan_of(shuffled), expected);
    ++count;
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_EQ(count, 720U);
}

TEST(MemoryMap, Regression_E03_map_with_more_entries_than_room_is_an_error_at_every_size) {
  std::vector<Descriptor> list;
  for (std::uint64_t i = 0; i < 40; ++i) {
    list.push_back({MemoryType::kUnaccepted, i * 2 * kPage, 1});
  }
  for (std::size_t room = 0; room < list.size(); ++room) {
    EXPECT_EQ(efi_error(list, room), (MapError{MapErrorKind::kTooManyEntries, room * 48}));
  }
}

TEST(MemoryMap, EveryErrorHasATextOfItsOwn) {
  using enum MapErrorKind;
  std::set<std::string_view> texts;
  for (const auto kind : {kBadStride, kUnalignedEntry, kEntryWraps, kOverlap, kTooManyEntries}) {
    EXPECT_FALSE(to_string(kind).starts_with("unknown"));
    EXPECT_EQ(to_string(kind).find('\n'), std::string_view::npos);
    texts.insert(to_string(kind));
  }
  EXPECT_EQ(texts.size(), 5U);
  EXPECT_TRUE(to_string(static_cast<MapErrorKind>(99)).starts_with("unknown"));
}

TEST(MemoryMap, EveryKindHasANameOfItsOwn) {
  using enum MemoryKind;
  std::set<std::string_view> names;
  for (const auto kind :
       {kUsable, kUnaccepted, kReserved, kAcpiReclaim, kAcpiNvs, kUnusable, kPersistent}) {
    names.insert(to_string(kind));
  }
  EXPECT_EQ(names.size(), 7U);
  EXPECT_EQ(to_string(static_cast<MemoryKind>(99)), "unknown");
}

}  // namespace
}  // namespace accede::guest
