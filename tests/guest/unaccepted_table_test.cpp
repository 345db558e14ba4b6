#include "accede/guest/unaccepted_table.hpp"

#include "tests/guest/fake_platform.hpp"
#include "tests/guest/naive_table.hpp"

#include <gtest/gtest.h>

#include <sys/mman.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <string_view>
#include <vector>

namespace accede::guest {
namespace {

using abi::linux_unaccepted::ParseErrorKind;
using abi::linux_unaccepted::TableHeader;
using test::NaiveTable;
using test::OwnedTable;
using test::range;

constexpr std::uint64_t k2M = 2 << 20;
constexpr std::uint64_t kMax = ~0ULL;

/// A map with these unaccepted ranges and the storage behind it.
class Map {
 public:
  explicit Map(const std::vector<PhysRange>& unaccepted) {
    for (const PhysRange part : unaccepted) {
      regions_.push_back({part, MemoryKind::kUnaccepted, 0});
    }
    const auto map = MemoryMap::from_regions(regions_);
    EXPECT_TRUE(map);
    map_ = map.value_or(MemoryMap{});
  }
  [[nodiscard]] const MemoryMap& operator*() const { return map_; }

 private:
  std::vector<MemoryRegion> regions_;
  MemoryMap map_;
};

TableLayout layout_of(const Map& map, Bytes unit = 2_MiB) {
  const auto layout = UnacceptedTable::plan(*map, unit);
  EXPECT_TRUE(layout && *layout);
  return layout && *layout ? **layout : TableLayout{};
}

constexpr auto kAcceptsAll = [](PhysRange) { return PlatformResult{}; };
constexpr auto kAcceptsNothing = [](PhysRange asked) -> PlatformResult {
  return std::unexpected{PlatformFailure{.kind = FailureKind::kRefused,
                                         .status = 0xBAD,
                                         .at = asked.begin(),
                                         .size = PageSize::k4K,
                                         .done_end = asked.begin()}};
};

// --- plan() ---

TEST(UnacceptedTablePlan, WithoutUnacceptedMemoryThereIsNoTable) {
  std::vector<MemoryRegion> regions{{range(0, 1 << 30), MemoryKind::kUsable, 0}};
  const auto layout = UnacceptedTable::plan(*MemoryMap::from_regions(regions));
  ASSERT_TRUE(layout);
  EXPECT_FALSE(*layout);
  EXPECT_FALSE(UnacceptedTable::plan(MemoryMap{})->has_value());
}

TEST(UnacceptedTablePlan, RoundsToUnitsAndToBytesOfBitmap) {
  const TableLayout layout = layout_of(Map{{range(3 * k2M - 4096, 20 * k2M + 4096)}});
  EXPECT_EQ(layout.unit, 2_MiB);
  EXPECT_EQ(layout.bitmap, 3_B) << "19 units";
  EXPECT_EQ(layout.covered, range(2 * k2M, (2 + 24) * k2M));
  EXPECT_EQ(layout.table, 32_B);
  EXPECT_EQ(layout.index, UnacceptedTable::index_words(3_B));
}

TEST(UnacceptedTablePlan, CountsOnlyUnacceptedRegions) {
  std::vector<MemoryRegion> regions{{range(0, k2M), MemoryKind::kUsable, 0},
                                    {range(8 * k2M, 16 * k2M), MemoryKind::kUnaccepted, 0},
                                    {range(64 * k2M, 128 * k2M), MemoryKind::kReserved, 0}};
  const auto layout = UnacceptedTable::plan(*MemoryMap::from_regions(regions));
  ASSERT_TRUE(layout && *layout);
  EXPECT_EQ((*layout)->covered, range(8 * k2M, 16 * k2M));
}

TEST(UnacceptedTablePlan, FourPiBTakesExactly256MiBAndOneMiBOfIndex) {
  const TableLayout layout = layout_of(Map{{range(0, 1ULL << 52)}});
  EXPECT_EQ(layout.bitmap, 256_MiB);
  EXPECT_EQ(layout.table, 256_MiB + 24_B);
  EXPECT_EQ(layout.index * sizeof(std::uint64_t), 1_MiB .value());
}

TEST(UnacceptedTablePlan, TheSpanCountsNotTheMemoryInIt) {
  const TableLayout layout =
      layout_of(Map{{range(0, 2 * k2M), range((1ULL << 52) - 2 * k2M, 1ULL << 52)}});
  EXPECT_EQ(layout.bitmap, 256_MiB);
}

TEST(UnacceptedTablePlan, RefusesMoreThanFourPiB) {
  const Map map{{range(0, (1ULL << 52) + 4096)}};
  const auto layout = UnacceptedTable::plan(*map);
  ASSERT_FALSE(layout);
  EXPECT_EQ(layout.error().kind, TableErrorKind::kTooLarge);
}

TEST(UnacceptedTablePlan, RefusesATableThatWouldCoverTheTopOfTheAddressSpace) {
  for (const std::uint64_t unit : {4096ULL, 1ULL << 21, 1ULL << 31}) {
    const std::uint64_t top = kMax - 4095;
    const Map map{{range(top - 8192, top)}};
    const auto layout = UnacceptedTable::plan(*map, Bytes{unit});
    ASSERT_FALSE(layout) << unit;
    EXPECT_EQ(layout.error().kind, TableErrorKind::kTooLarge);
  }
}

TEST(UnacceptedTablePlan, TakesEveryPowerOfTwoFrom4KiBTo2GiB) {
  const Map map{{range(1ULL << 32, 1ULL << 36)}};
  for (unsigned shift = 12; shift <= 31; ++shift) {
    const auto layout = UnacceptedTable::plan(*map, Bytes{1ULL << shift});
    ASSERT_TRUE(layout && *layout) << shift;
    EXPECT_EQ((*layout)->bitmap, Bytes{((15ULL << 32 >> shift) + 7) / 8}) << shift;
  }
}

TEST(UnacceptedTablePlan, RefusesEveryOtherUnit) {
  const Map map{{range(1ULL << 32, 1ULL << 36)}};
  for (const std::uint64_t unit : {0ULL, 1ULL, 2048ULL, 4097ULL, 3ULL << 20, (1ULL << 31) + 1,
                                   1ULL << 32, 1ULL << 63, ~0ULL}) {
    const auto layout = UnacceptedTable::plan(*map, Bytes{unit});
    ASSERT_FALSE(layout) << unit;
    EXPECT_EQ(layout.error().kind, TableErrorKind::kBadUnit);
  }
}

TEST(UnacceptedTablePlan, TheIndexIsATwoHundredFiftySixthOfTheBitmap) {
  EXPECT_EQ(UnacceptedTable::index_words(0_B), 0U);
  EXPECT_GT(UnacceptedTable::index_words(1_B), 0U);
  EXPECT_EQ(UnacceptedTable::index_words(4_KiB) * sizeof(std::uint64_t), 16U);
  EXPECT_EQ(UnacceptedTable::index_words(4_KiB + 1_B) * sizeof(std::uint64_t), 32U);
  EXPECT_EQ(UnacceptedTable::index_words(1_MiB) * sizeof(std::uint64_t), 4096U);
}

// --- build() ---

/// Builds into dirty storage and compares every byte and every range with the naive one.
void expect_as_linux_builds(const std::vector<PhysRange>& regions, std::uint64_t unit) {
  const Map map{regions};
  const TableLayout layout = layout_of(map, Bytes{unit});
  const NaiveTable expected = NaiveTable::built(regions, unit);
  for (const bool indexed : {false, true}) {
    std::vector<std::uint64_t> storage(layout.table.value() / 8, 0xA5A5A5A5A5A5A5A5);
    std::vector<std::uint64_t> index(indexed ? layout.index : 0, 0x5A5A5A5A5A5A5A5A);
    std::vector<PhysRange> now;
    UnacceptedTable table;
    const auto result = table.build(*map, layout, std::as_writable_bytes(std::span{storage}),
                                    OwnedTable::kWhere, index, [&](PhysRange part) {
                                      now.push_back(part);
                                      return PlatformResult{};
                                    });
    ASSERT_TRUE(result);
    const auto bytes = std::as_bytes(std::span{storage});
    ASSERT_EQ((std::vector<std::byte>{bytes.begin(), bytes.end()}), expected.bytes());
    ASSERT_EQ(now, expected.accepted_at_once);
    ASSERT_EQ(table.unaccepted(), Bytes{unit} * expected.count(0, expected.bits.size()));
    ASSERT_TRUE(table.invariants());
    ASSERT_EQ(table.bytes().size(), 24 + expected.bits.size() / 8) << "padding excluded";
  }
}

TEST(UnacceptedTableBuild, IsLinuxsTableForEveryAlignmentOfOneRegion) {
  constexpr std::uint64_t kUnit = 4 * 4096;
  for (std::uint64_t begin = 16; begin < 21; ++begin) {
    for (std::uint64_t end = begin + 1; end < begin + 60; ++end) {
      expect_as_linux_builds({range(begin * 4096, end * 4096)}, kUnit);
    }
  }
}

TEST(UnacceptedTableBuild, IsLinuxsTableForRandomMaps) {
  std::mt19937_64 random{1};
  for (int round = 0; round < 2000; ++round) {
    const std::uint64_t unit = 4096ULL << random() % 8;
    std::uint64_t at = random() % 64 * 4096;
    std::vector<PhysRange> regions;
    for (std::uint64_t i = 1 + random() % 6; i > 0; --i) {
      const std::uint64_t pages = random() % 3 == 0 ? 1 + random() % 4096 : 1 + random() % 64;
      regions.push_back(range(at, at + pages * 4096));
      at += (pages + 1 + random() % 100) * 4096;
    }
    expect_as_linux_builds(regions, unit);
    if (HasFatalFailure()) {
      FAIL() << "round " << round;
    }
  }
}

TEST(UnacceptedTableBuild, TwelveGiBMachineGetsTheKnownHeader) {
  const Map map{{range(1ULL << 32, 14ULL << 30)}};
  const TableLayout layout = layout_of(map);
  std::vector<std::uint64_t> storage(layout.table.value() / 8);
  UnacceptedTable table;
  ASSERT_TRUE(table.build(*map, layout, std::as_writable_bytes(std::span{storage}), PhysAddr{0}, {},
                          kAcceptsAll));
  EXPECT_EQ(storage[0], 0x0020'0000'0000'0001U);
  EXPECT_EQ(storage[1], 0x1'0000'0000U);
  EXPECT_EQ(storage[2], 640U);
  EXPECT_EQ(storage[3], kMax);
}

TEST(UnacceptedTableBuild, AMapOfShortRegionsGivesATableOfZeros) {
  expect_as_linux_builds({range(0, k2M), range(4 * k2M, 6 * k2M - 4096)}, k2M);
}

TEST(UnacceptedTableBuild, RefusesStorageThatIsTooSmall) {
  const Map map{{range(0, 100 * k2M)}};
  const TableLayout layout = layout_of(map);
  std::vector<std::uint64_t> storage(layout.table.value() / 8);
  const auto bytes = std::as_writable_bytes(std::span{storage});
  for (const std::size_t size : {std::size_t{0}, std::size_t{24}, bytes.size() - 1}) {
    UnacceptedTable table;
    const auto result = table.build(*map, layout, bytes.first(size), PhysAddr{0}, {}, kAcceptsAll);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind, TableErrorKind::kStorage);
    EXPECT_FALSE(table.present());
  }
}

TEST(UnacceptedTableBuild, RefusesUnalignedStorage) {
  const Map map{{range(0, 100 * k2M)}};
  const TableLayout layout = layout_of(map);
  std::vector<std::uint64_t> storage(layout.table.value() / 8 + 1);
  for (std::size_t off = 1; off < 8; ++off) {
    UnacceptedTable table;
    const auto result =
        table.build(*map, layout, std::as_writable_bytes(std::span{storage}).subspan(off),
                    PhysAddr{0}, {}, kAcceptsAll);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind, TableErrorKind::kStorage);
  }
}

TEST(UnacceptedTableBuild, RefusesAnIndexThatIsTooSmall) {
  const Map map{{range(0, 20000 * k2M)}};
  const TableLayout layout = layout_of(map);
  ASSERT_GT(layout.index, 1U);
  std::vector<std::uint64_t> storage(layout.table.value() / 8);
  std::vector<std::uint64_t> index(layout.index - 1);
  UnacceptedTable table;
  const auto result = table.build(*map, layout, std::as_writable_bytes(std::span{storage}),
                                  PhysAddr{0}, index, kAcceptsAll);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, TableErrorKind::kStorage);
}

TEST(UnacceptedTableBuild, AFailedHeadNamesThePageAndLeavesNoTable) {
  const Map map{{range(4096, 100 * 16384)}};
  const TableLayout layout = layout_of(map, 16_KiB);
  std::vector<std::uint64_t> storage(layout.table.value() / 8);
  UnacceptedTable table;
  const auto result = table.build(*map, layout, std::as_writable_bytes(std::span{storage}),
                                  PhysAddr{0x7000}, {}, kAcceptsNothing);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, TableErrorKind::kAcceptFailed);
  EXPECT_EQ(result.error().failure.at, PhysAddr{4096});
  EXPECT_EQ(result.error().failure.status, 0xBADU);
  EXPECT_FALSE(table.present());
  EXPECT_EQ(table.unit(), 2_MiB);
  EXPECT_EQ(table.where(), PhysAddr{});
  EXPECT_TRUE(table.covered().empty());
  EXPECT_TRUE(table.bytes().empty());
  EXPECT_EQ(table.unaccepted(), 0_B);
}

TEST(UnacceptedTableBuild, AFailedTailLeavesNoTableAndNothingCounted) {
  const Map map{{range(0, 100 * k2M), range(200 * k2M, 300 * k2M + 4096)}};
  const TableLayout layout = layout_of(map);
  std::vector<std::uint64_t> storage(layout.table.value() / 8);
  std::vector<std::uint64_t> index(layout.index);
  test::FakePlatform platform;
  platform.fail_at(PhysAddr{300 * k2M}, FailureKind::kRefused, 1);
  UnacceptedTable table;
  const auto accept = [&](PhysRange part) { return platform.accept(part); };
  const auto bytes = std::as_writable_bytes(std::span{storage});
  EXPECT_FALSE(table.build(*map, layout, bytes, PhysAddr{0}, index, accept));
  EXPECT_FALSE(table.present());
  EXPECT_EQ(table.unaccepted(), 0_B);
  ASSERT_TRUE(table.build(*map, layout, bytes, PhysAddr{0}, index, accept));
  EXPECT_EQ(table.unaccepted(), 400_MiB);
  EXPECT_TRUE(table.invariants());
}

// --- attach() ---

std::vector<std::byte> raw(const TableHeader& header, std::size_t bitmap,
                           std::byte fill = std::byte{0}) {
  const auto head = std::bit_cast<std::array<std::byte, sizeof(TableHeader)>>(header);
  std::vector<std::byte> bytes(head.size() + bitmap, fill);
  std::copy(head.begin(), head.end(), bytes.begin());
  return bytes;
}

constexpr TableHeader kGood{
    .version = 1, .unit_size = 0x200000, .phys_base = 0x1'0000'0000, .bitmap_bytes = 640};

struct Malformed {
  std::string_view what;
  TableHeader header;
  std::size_t bitmap;
  std::size_t offset;
  ParseErrorKind parse;
};

TEST(UnacceptedTableAttach, NamesEveryMalformedField) {
  using enum ParseErrorKind;
  const auto with = [](auto change) {
    TableHeader header = kGood;
    change(header);
    return header;
  };
  const std::vector<Malformed> cases{
      {"version 0", with([](auto& h) { h.version = 0; }), 640, 0, kUnknownVersion},
      {"version 2", with([](auto& h) { h.version = 2; }), 640, 0, kUnknownVersion},
      {"unit 0", with([](auto& h) { h.unit_size = 0; }), 640, 4, kBadUnitSize},
      {"unit 2K", with([](auto& h) { h.unit_size = 2048; }), 640, 4, kBadUnitSize},
      {"unit 3M", with([](auto& h) { h.unit_size = 3 << 20; }), 640, 4, kBadUnitSize},
      {"unit all ones", with([](auto& h) { h.unit_size = ~0U; }), 640, 4, kBadUnitSize},
      {"base between units", with([](auto& h) { h.phys_base += 4096; }), 640, 8, kUnalignedBase},
      {"base all ones", with([](auto& h) { h.phys_base = kMax; }), 640, 8, kUnalignedBase},
      {"size all ones", with([](auto& h) { h.bitmap_bytes = kMax; }), 640, 16, kCoverageOverflow},
      {"covers the top", with([](auto& h) { h.phys_base = kMax - k2M + 1; }), 640, 16,
       kCoverageOverflow},
      {"bitmap longer than the memory", kGood, 639, 16, kTruncatedBitmap},
      {"no bitmap", kGood, 0, 16, kTruncatedBitmap},
  };
  for (const Malformed& wrong : cases) {
    OwnedTable table;
    const auto result = table.attach(raw(wrong.header, wrong.bitmap));
    ASSERT_FALSE(result) << wrong.what;
    EXPECT_EQ(result.error().kind, TableErrorKind::kMalformed) << wrong.what;
    EXPECT_EQ(result.error().offset, wrong.offset) << wrong.what;
    EXPECT_EQ(result.error().parse, wrong.parse) << wrong.what;
    EXPECT_FALSE(table->present());
    EXPECT_EQ(table->guarded(range(0, kMax)), PhysRange{});
  }
}

TEST(UnacceptedTableAttach, RefusesATruncatedHeader) {
  const auto bytes = raw(kGood, 0);
  for (std::size_t size = 0; size < sizeof(TableHeader); ++size) {
    OwnedTable table;
    const auto result = table.attach(std::span{bytes}.first(size));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().parse, ParseErrorKind::kTruncatedHeader);
    EXPECT_EQ(result.error().offset, 0U);
  }
}

TEST(UnacceptedTableAttach, RefusesATableBetweenWords) {
  const auto bytes = raw(kGood, 640);
  std::vector<std::uint64_t> storage(bytes.size() / 8 + 1);
  for (std::size_t off = 1; off < 8; ++off) {
    const auto place = std::as_writable_bytes(std::span{storage}).subspan(off, bytes.size());
    std::copy(bytes.begin(), bytes.end(), place.begin());
    UnacceptedTable table;
    const auto result = table.attach(place, PhysAddr{off}, {});
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind, TableErrorKind::kUnaligned);
  }
}

TEST(UnacceptedTableAttach, RefusesATableThatLiesInMemoryItCallsUnaccepted) {
  // Units 0 and 1 unaccepted, base 4 GiB, table of 25 bytes.
  const NaiveTable naive = OwnedTable::all_set(1ULL << 32, 2);
  const auto bytes = naive.bytes();
  const std::uint64_t base = naive.base;
  for (const std::uint64_t where : {base - 24, base - 8, base, base + 2 * k2M - 8}) {
    for (const bool indexed : {false, true}) {
      OwnedTable table;
      const auto result = table.attach(std::span{bytes}.first(25), indexed, PhysAddr{where});
      ASSERT_FALSE(result) << where - base;
      EXPECT_EQ(result.error().kind, TableErrorKind::kUnacceptedTable);
      EXPECT_FALSE(table->present());
      EXPECT_EQ(table->unit(), 2_MiB);
    }
  }
}

TEST(UnacceptedTableAttach, TakesATableThatTouchesUnacceptedMemory) {
  const NaiveTable naive = OwnedTable::all_set(1ULL << 32, 2);
  for (const std::uint64_t where : {naive.base - 32, naive.base + 2 * k2M}) {
    OwnedTable table;
    EXPECT_TRUE(table.attach(naive.bytes(), true, PhysAddr{where}));
    EXPECT_EQ(table->where(), PhysAddr{where});
  }
}

TEST(UnacceptedTableAttach, RefusesAPlaceAtTheTopOfTheAddressSpace) {
  OwnedTable table;
  const auto result = table.attach(raw(kGood, 640), true, PhysAddr{kMax - 7});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, TableErrorKind::kMalformed);
  EXPECT_EQ(result.error().offset, 16U);
}

TEST(UnacceptedTableAttach, AFailedAttachLeavesNothingOfTheTableBehind) {
  NaiveTable naive = OwnedTable::all_set(0, 16, 4_KiB);
  OwnedTable table;
  EXPECT_FALSE(table.attach(naive.bytes(), true, PhysAddr{0x1000}));
  EXPECT_EQ(table->unit(), 2_MiB);
  EXPECT_EQ(table->where(), PhysAddr{});
  EXPECT_TRUE(table.attach(naive.bytes(), true, PhysAddr{0x100000}));
  EXPECT_EQ(table->unaccepted(), 64_KiB);
}

TEST(UnacceptedTableAttach, AnEmptyBitmapIsNoTable) {
  TableHeader header = kGood;
  header.bitmap_bytes = 0;
  OwnedTable table;
  EXPECT_TRUE(table.attach(raw(header, 0)));
  EXPECT_FALSE(table->present());
}

TEST(UnacceptedTableAttach, TakesEveryUnitFrom4KiBTo2GiB) {
  for (unsigned shift = 12; shift <= 31; ++shift) {
    const std::uint64_t unit = 1ULL << shift;
    NaiveTable naive = OwnedTable::all_set(unit * 4, 0, Bytes{unit});
    naive.bits.resize(80);
    naive.set(3, 5, true);
    naive.set(79, 80, true);
    OwnedTable table{naive, true, PhysAddr{0}};
    EXPECT_EQ(table->unit(), Bytes{unit});
    EXPECT_EQ(table->covered(), range(4 * unit, 84 * unit));
    EXPECT_EQ(table->unaccepted(), Bytes{unit} * 3);
    EXPECT_EQ(table->next_run(table->covered()), range(7 * unit, 9 * unit));
    EXPECT_TRUE(table->any_unaccepted(range(84 * unit - 1, 84 * unit)));
  }
}

TEST(UnacceptedTableAttach, AnIndexThatIsTooSmallIsNotUsed) {
  NaiveTable naive = OwnedTable::all_set(1ULL << 32, 20000);
  auto bytes = naive.bytes();
  std::vector<std::uint64_t> words(bytes.size() / 8);
  std::memcpy(words.data(), bytes.data(), bytes.size());
  std::array<std::uint64_t, 1> index{0x1234};
  UnacceptedTable table;
  ASSERT_TRUE(table.attach(std::as_writable_bytes(std::span{words}), PhysAddr{0}, index));
  EXPECT_EQ(index[0], 0x1234U);
  EXPECT_EQ(table.unaccepted(), 2_MiB * 20000);
  EXPECT_TRUE(table.invariants());
}

TEST(UnacceptedTableAttach, DoesNotChangeTheTable) {
  std::mt19937_64 random{2};
  NaiveTable naive = OwnedTable::all_set(1ULL << 32, 0);
  naive.bits.resize(8000);
  for (std::size_t i = 0; i < naive.bits.size(); ++i) {
    naive.bits[i] = random() % 2 != 0;
  }
  OwnedTable table{naive};
  const auto memory = table.memory();
  EXPECT_EQ((std::vector<std::byte>{memory.begin(), memory.end()}), naive.bytes());
}

// --- Looking and changing ---

void expect_same_answers(const UnacceptedTable& table, const NaiveTable& naive, PhysRange asked) {
  const auto [first, after] = naive.touched(asked.begin().value(), asked.end().value());
  const std::uint64_t count = naive.count(first, after);
  ASSERT_EQ(table.any_unaccepted(asked), count != 0);
  ASSERT_EQ(table.count(asked), Bytes{naive.unit} * count);
  ASSERT_EQ(table.next_run(table.units_of(asked)), naive.next_run(first, after));
}

TEST(UnacceptedTable, WithoutATableEverythingIsAccepted) {
  UnacceptedTable table;
  EXPECT_FALSE(table.present());
  EXPECT_EQ(table.unit(), 2_MiB);
  EXPECT_TRUE(table.covered().empty());
  for (const PhysRange asked : {range(0, 0), range(0, 4096), range(0, kMax), range(kMax, kMax)}) {
    EXPECT_TRUE(table.units_of(asked).empty());
    EXPECT_TRUE(table.guarded(asked).empty());
    EXPECT_FALSE(table.any_unaccepted(asked));
    EXPECT_EQ(table.count(asked), 0_B);
    EXPECT_FALSE(table.next_run(table.guarded(asked)));
  }
  table.for_each_run([](PhysRange) { FAIL(); });
  EXPECT_TRUE(table.invariants());
}

TEST(UnacceptedTable, AnswersAndChangesAgreeForEverySizeOfBitmap) {
  // Sizes that are no multiple of 8 end in bytes that are not ours: they stay as they are.
  std::mt19937_64 random{3};
  for (std::size_t bytes = 1; bytes <= 40; ++bytes) {
    for (const bool indexed : {false, true}) {
      NaiveTable naive = OwnedTable::all_set(1ULL << 30, 0, 16_KiB);
      naive.bits.resize(bytes * 8);
      for (std::size_t i = 0; i < naive.bits.size(); ++i) {
        naive.bits[i] = random() % 3 == 0;
      }
      auto memory = naive.bytes();
      std::fill(memory.begin() + static_cast<std::ptrdiff_t>(24 + bytes), memory.end(),
                std::byte{0xFF});
      OwnedTable table;
      ASSERT_TRUE(table.attach(memory, indexed));
      for (int round = 0; round < 40; ++round) {
        const std::uint64_t a = random() % (naive.bits.size() + 1);
        const std::uint64_t b = random() % (naive.bits.size() + 1);
        const std::uint64_t first = std::min(a, b);
        const std::uint64_t after = std::max(a, b);
        const PhysRange units =
            range(naive.base + first * naive.unit, naive.base + after * naive.unit);
        ASSERT_NO_FATAL_FAILURE(expect_same_answers(*table, naive, units));
        const bool set = random() % 2 != 0;
        naive.set(first, after, set);
        if (set) {
          table->mark_unaccepted(units);
        } else {
          table->mark_accepted(units);
        }
        ASSERT_EQ(test::bits_of(*table), naive.bits);
        ASSERT_TRUE(table->invariants());
        ASSERT_EQ(table->unaccepted(), Bytes{naive.unit} * naive.count(0, naive.bits.size()));
      }
      for (std::size_t i = 24 + bytes; i < memory.size(); ++i) {
        ASSERT_EQ(table.memory()[i], std::byte{0xFF});
      }
    }
  }
}

TEST(UnacceptedTable, EveryRunIsFoundOnceInAscendingOrder) {
  std::mt19937_64 random{4};
  for (int round = 0; round < 100; ++round) {
    NaiveTable naive = OwnedTable::all_set(1ULL << 32, 0);
    naive.bits.resize(8 * (1 + random() % 1000));
    for (int i = 0; i < 10; ++i) {
      const std::uint64_t at = random() % naive.bits.size();
      naive.set(at, std::min(naive.bits.size(), at + random() % 700), random() % 2 != 0);
    }
    OwnedTable table{naive, round % 2 != 0};
    std::vector<PhysRange> expected;
    std::uint64_t from = 0;
    while (const auto run = naive.next_run(from, naive.bits.size())) {
      expected.push_back(*run);
      from = (run->end().value() - naive.base) / naive.unit;
    }
    std::vector<PhysRange> runs;
    table->for_each_run([&](PhysRange run) { runs.push_back(run); });
    ASSERT_EQ(runs, expected);
  }
}

TEST(UnacceptedTable, AnswersAreTheSameWithAndWithoutAnIndex) {
  std::mt19937_64 random{5};
  for (int round = 0; round < 30; ++round) {
    NaiveTable naive = OwnedTable::all_set(1ULL << 32, 0);
    naive.bits.resize(8 * (1 + random() % 9000));  // some index words, odd sizes
    const std::size_t size = naive.bits.size();
    for (std::uint64_t i = random() % 20; i > 0; --i) {
      const std::uint64_t at = random() % size;
      naive.set(at, std::min(size, at + (random() % 2 != 0 ? 1 : random() % 20000)), true);
    }
    OwnedTable with{naive, true};
    OwnedTable without{naive, false};
    for (int step = 0; step < 300; ++step) {
      const std::uint64_t at = naive.base - 4 * k2M + random() % ((size + 8) * k2M);
      const std::uint64_t length =
          random() % 2 != 0 ? random() % (8 * k2M) : random() % (size * k2M);
      const PhysRange asked = range(at, at + length);
      ASSERT_EQ(with->any_unaccepted(asked), without->any_unaccepted(asked));
      ASSERT_EQ(with->count(asked), without->count(asked));
      const PhysRange units = with->guarded(asked);
      ASSERT_EQ(units, without->guarded(asked));
      ASSERT_EQ(with->next_run(units), without->next_run(units));
      if (units.empty()) {
        continue;
      }
      for (OwnedTable* table : {&with, &without}) {
        step % 4 == 0 ? (*table)->mark_unaccepted(units) : (*table)->mark_accepted(units);
      }
      ASSERT_EQ(with->unaccepted(), without->unaccepted());
    }
    ASSERT_TRUE(with->invariants());
    ASSERT_EQ(test::bits_of(*with), test::bits_of(*without));
  }
}

/// Memory that costs nothing until it is written.
class ReservedMemory {
 public:
  explicit ReservedMemory(Bytes size) : size_{size.value()} {
    data_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  ~ReservedMemory() {
    if (data_ != MAP_FAILED) {
      ::munmap(data_, size_);
    }
  }
  ReservedMemory(const ReservedMemory&) = delete;
  ReservedMemory& operator=(const ReservedMemory&) = delete;

  [[nodiscard]] bool ok() const { return data_ != MAP_FAILED; }
  [[nodiscard]] std::span<std::byte> bytes() { return {static_cast<std::byte*>(data_), size_}; }

 private:
  std::size_t size_;
  void* data_;
};

TEST(UnacceptedTable, TheLastUnitOfFourPiBIsFound) {
  ReservedMemory memory{256_MiB + 24_B};
  if (!memory.ok()) {
    GTEST_SKIP() << "no address space";
  }
  const auto bytes = memory.bytes();
  const auto header =
      raw({.version = 1, .unit_size = k2M, .phys_base = 0, .bitmap_bytes = (256_MiB).value()}, 0);
  std::copy(header.begin(), header.end(), bytes.begin());
  bytes.back() = std::byte{0x80};
  std::vector<std::uint64_t> index(UnacceptedTable::index_words(256_MiB));
  UnacceptedTable table;
  ASSERT_TRUE(table.attach(bytes, PhysAddr{0}, index));
  const PhysRange last = range((1ULL << 52) - k2M, 1ULL << 52);
  EXPECT_EQ(table.covered(), range(0, 1ULL << 52));
  EXPECT_EQ(table.unaccepted(), 2_MiB);
  EXPECT_EQ(table.next_run(table.covered()), last);
  EXPECT_FALSE(table.any_unaccepted(range(0, (1ULL << 52) - k2M)));
  table.mark_accepted(last);
  EXPECT_FALSE(table.any_unaccepted(table.covered()));
  EXPECT_EQ(table.unaccepted(), 0_B);
}

// --- The guard ---

TEST(UnacceptedTableGuard, TheUnitAfterARangeThatEndsOnAUnitBoundaryBelongsToIt) {
  OwnedTable table{OwnedTable::all_set(1ULL << 32, 8)};
  const std::uint64_t base = 1ULL << 32;
  EXPECT_EQ(table->guarded(range(base, base + k2M)), range(base, base + 2 * k2M));
  EXPECT_EQ(table->guarded(range(base, base + k2M - 4096)), range(base, base + k2M));
}

TEST(UnacceptedTableGuard, TheLastByteOfTheLastPageCountsAsItsPage) {
  OwnedTable table{OwnedTable::all_set(1ULL << 32, 8)};
  const std::uint64_t base = 1ULL << 32;
  EXPECT_EQ(table->guarded(range(base, base + k2M - 1)), range(base, base + 2 * k2M));
  EXPECT_EQ(table->guarded(range(base, base + k2M - 4095)), range(base, base + 2 * k2M));
}

TEST(UnacceptedTableGuard, ARangeThatEndsWhereTheTableBeginsHasTheFirstUnitAsItsGuard) {
  OwnedTable table{OwnedTable::all_set(1ULL << 32, 8)};
  const std::uint64_t base = 1ULL << 32;
  EXPECT_EQ(table->guarded(range(0, base)), range(base, base + k2M));
  EXPECT_EQ(table->guarded(range(base - 1, base)), range(base, base + k2M));
  EXPECT_TRUE(table->guarded(range(0, base - 4096)).empty());
}

TEST(UnacceptedTableGuard, ThereIsNoGuardAfterTheLastUnit) {
  OwnedTable table{OwnedTable::all_set(1ULL << 32, 8)};
  const std::uint64_t end = (1ULL << 32) + 8 * k2M;
  const PhysRange last = range(end - k2M, end);
  EXPECT_EQ(table->guarded(range(end - 4096, end)), last);
  EXPECT_EQ(table->guarded(range(end - 4096, end - 1)), last);
  EXPECT_EQ(table->guarded(range(end - 4096, kMax)), last);
  EXPECT_TRUE(table->guarded(range(end, kMax)).empty());
}

TEST(UnacceptedTableGuard, HoldsAtTheTopOfTheAddressSpace) {
  // The table ends one unit below 2^64: there is no address after its guard.
  OwnedTable table{OwnedTable::all_set(kMax - 9 * k2M + 1, 8)};
  const std::uint64_t end = kMax - k2M + 1;
  ASSERT_EQ(table->covered().end(), PhysAddr{end});
  EXPECT_EQ(table->guarded(range(end - k2M, end - 1)), range(end - k2M, end));
  EXPECT_EQ(table->guarded(range(end - k2M, end)), range(end - k2M, end));
  EXPECT_EQ(table->guarded(range(end - 2 * k2M, end - k2M)), range(end - 2 * k2M, end));
  EXPECT_EQ(table->guarded(range(0, kMax)), table->covered());
}

TEST(UnacceptedTableGuard, AnEmptyRangeHasNone) {
  OwnedTable table{OwnedTable::all_set(1ULL << 32, 8)};
  const std::uint64_t base = 1ULL << 32;
  for (const std::uint64_t at : {std::uint64_t{0}, base, base + 4096, base + k2M, kMax}) {
    EXPECT_TRUE(table->guarded(range(at, at)).empty()) << at;
  }
}

TEST(UnacceptedTableGuard, Regression_L13_guard_rule_holds_for_every_alignment) {
  // Exhaustive: a table of 8 units of 4 pages, at pages 16 to 48; all ranges whose begin and end
  // are a page boundary, one byte after it or one byte before it, from page 0 to page 64.
  const NaiveTable naive = OwnedTable::all_set(16 * 4096, 8, 16_KiB);
  OwnedTable table{naive, true, PhysAddr{1 << 20}};
  std::vector<std::uint64_t> points{0, 1};
  for (std::uint64_t page = 1; page <= 64; ++page) {
    points.insert(points.end(), {page * 4096 - 1, page * 4096, page * 4096 + 1});
  }
  for (std::size_t i = 0; i < points.size(); ++i) {
    for (std::size_t j = i; j < points.size(); ++j) {
      const auto [first, after] = naive.guarded(points[i], points[j]);
      const PhysRange units = table->guarded(range(points[i], points[j]));
      if (first == after) {
        ASSERT_TRUE(units.empty()) << points[i] << " " << points[j];
      } else {
        ASSERT_EQ(units, range(naive.base + first * naive.unit, naive.base + after * naive.unit))
            << points[i] << " " << points[j];
      }
    }
  }
}

TEST(UnacceptedTableGuard, UnitsOfARangeAreThoseItTouches) {
  const NaiveTable naive = OwnedTable::all_set(16 * 4096, 8, 16_KiB);
  OwnedTable table{naive, true, PhysAddr{1 << 20}};
  for (std::uint64_t begin = 0; begin <= 64 * 4096; begin += 2048) {
    for (std::uint64_t end = begin + 1; end <= 64 * 4096; end += 2047) {
      const auto [first, after] = naive.touched(begin, end);
      const PhysRange units = table->units_of(range(begin, end));
      ASSERT_EQ(units.size(), Bytes{naive.unit} * (after - first)) << begin << " " << end;
      if (!units.empty()) {
        ASSERT_EQ(units.begin(), PhysAddr{naive.base + first * naive.unit});
      }
    }
  }
}

// --- Texts and helpers ---

TEST(UnacceptedTable, EveryErrorHasATextOfItsOwn) {
  using enum TableErrorKind;
  std::set<std::string_view> texts;
  for (const auto kind :
       {kMalformed, kUnaligned, kUnacceptedTable, kTooLarge, kStorage, kBadUnit, kAcceptFailed}) {
    EXPECT_FALSE(to_string(kind).starts_with("unknown"));
    EXPECT_EQ(to_string(kind).find('\n'), std::string_view::npos);
    texts.insert(to_string(kind));
  }
  EXPECT_EQ(texts.size(), 7U);
  EXPECT_TRUE(to_string(static_cast<TableErrorKind>(99)).starts_with("unknown"));
}

TEST(UnacceptedTable, OnlyAKernelWithoutAPlatformComplainsAboutUnacceptedMemory) {
  const Map map{{range(0, 100 * k2M), range(200 * k2M, 201 * k2M)}};
  EXPECT_EQ(unusable_without_platform(*map, PlatformKind::kNone), 202_MiB);
  EXPECT_EQ(unusable_without_platform(*map, PlatformKind::kTdx), 0_B);
  EXPECT_EQ(unusable_without_platform(*map, PlatformKind::kSnp), 0_B);
  EXPECT_EQ(unusable_without_platform(MemoryMap{}, PlatformKind::kNone), 0_B);
}

// --- first_beyond() ---

/// RAM at [begin, end) for each pair, in MiB.
MemoryMap ram(std::vector<MemoryRegion>& regions,
              std::initializer_list<std::pair<std::uint64_t, std::uint64_t>> mib) {
  regions.clear();
  for (const auto& [begin, end] : mib) {
    const bool first = regions.empty();
    regions.push_back(
        {range(begin << 20, end << 20), first ? MemoryKind::kUsable : MemoryKind::kUnaccepted});
  }
  return *MemoryMap::from_regions(regions);
}

TEST(UnacceptedTableBeyond, FindsNothingWhereEveryUnitIsRam) {
  std::vector<MemoryRegion> regions;
  OwnedTable table{OwnedTable::all_set(64 << 20, 32)};  // 64 to 128 MiB
  EXPECT_FALSE(table->first_beyond(ram(regions, {{64, 128}})));
  EXPECT_FALSE(table->first_beyond(ram(regions, {{0, 100}, {100, 200}})))
      << "a run may lie in several regions";
}

TEST(UnacceptedTableBeyond, NamesTheFirstMemoryThatIsNoRam) {
  std::vector<MemoryRegion> regions;
  OwnedTable table{OwnedTable::all_set(64 << 20, 32)};
  EXPECT_EQ(table->first_beyond(ram(regions, {{64, 126}})), range(126 << 20, 128 << 20));
  EXPECT_EQ(table->first_beyond(ram(regions, {{66, 128}})), range(64 << 20, 66 << 20));
  EXPECT_EQ(table->first_beyond(ram(regions, {{64, 90}, {100, 128}})), range(90 << 20, 100 << 20));
  EXPECT_EQ(table->first_beyond(ram(regions, {{200, 300}})), range(64 << 20, 128 << 20));
  EXPECT_EQ(table->first_beyond(MemoryMap{}), range(64 << 20, 128 << 20));
}

TEST(UnacceptedTableBeyond, DoesNotTakeReservedMemoryForRam) {
  std::vector<MemoryRegion> regions{{range(64 << 20, 128 << 20), MemoryKind::kReserved}};
  OwnedTable table{OwnedTable::all_set(64 << 20, 32)};
  EXPECT_TRUE(table->first_beyond(*MemoryMap::from_regions(regions)));
}

TEST(UnacceptedTableBeyond, AsksOnlyForWhatIsUnaccepted) {
  std::vector<MemoryRegion> regions;
  NaiveTable naive = OwnedTable::all_set(64 << 20, 32);
  naive.set(16, 32, false);
  OwnedTable table{naive};
  EXPECT_FALSE(table->first_beyond(ram(regions, {{64, 96}})));
  EXPECT_FALSE(OwnedTable {} -> first_beyond(MemoryMap{})) << "no table";
}

}  // namespace
}  // namespace accede::guest
