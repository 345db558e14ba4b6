#include "accede/emulator/firmware_tables.hpp"

#include "accede/emulator/nested_page_table.hpp"
#include "tests/emulator/guest_ram.hpp"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace accede::emulator {
namespace {

using test::range_of;

constexpr std::uint64_t k4K = 4096;
constexpr std::uint64_t k2M = 1ULL << 21;
constexpr std::uint64_t k1G = 1ULL << 30;
constexpr std::uint64_t kCBit = NestedPageTable::kViewMask;
constexpr std::uint64_t kTable = 0x67;  ///< present, writable, user, accessed, dirty
constexpr std::uint64_t kSmall = 0x8000'0000'0000'0063;
constexpr std::uint64_t kLarge = 0x80E3;  ///< with a bit that only software knows

/// RAM from 0 to 640 KiB, from 1 MiB to 256 MiB (the last 16 MiB are the emulator's) and from 4 GiB
/// to 6 GiB. The firmware's tables are at 1 MiB, with its quirks: an attribute in each entry.
class FirmwareTablesTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kHidden = 240ULL << 20;
  static constexpr std::uint64_t kRoot = 1 << 20;
  static constexpr std::uint64_t kLevel2 = kRoot + k4K;
  static constexpr std::uint64_t kLevel1 = kRoot + 2 * k4K;
  static constexpr std::uint64_t kLevel0 = kRoot + 3 * k4K;

  FirmwareTablesTest() {
    entry(kRoot, 0) = kLevel2 | kTable;
    entry(kLevel2, 0) = kLevel1 | kTable;
    entry(kLevel1, 0) = kLevel0 | kTable;
  }

  [[nodiscard]] std::uint64_t& entry(std::uint64_t table, std::uint64_t index) {
    return ram_.at<std::uint64_t>(PhysAddr{table + index * 8});
  }
  /// Sets `where`, runs set_c_bit() and tells whether it set the C-bit there and nothing else.
  bool gets_c_bit(std::uint64_t table, std::uint64_t index, std::uint64_t value) {
    std::uint64_t& where = entry(table, index);
    where = value;
    set_c_bit(ram_.window(), PhysAddr{kRoot}, machine_);
    EXPECT_TRUE(where == value || where == (value | kCBit)) << std::hex << where;
    return where != value;
  }

  test::GuestRam ram_{256_MiB};
  std::array<PhysRange, 3> ranges_{range_of(0, 0xA0000), range_of(1 << 20, kHidden),
                                   range_of(4 * k1G, 6 * k1G)};
  MachineMap machine_{ranges_, range_of(kHidden, 256ULL << 20)};
};

TEST_F(FirmwareTablesTest, MarksSmallPagesOfRam) {
  EXPECT_TRUE(gets_c_bit(kLevel0, 0, 0 | kSmall));
  EXPECT_TRUE(gets_c_bit(kLevel0, 0x9F, 0x9F000 | kSmall));
  EXPECT_FALSE(gets_c_bit(kLevel0, 0xA0, 0xA0000 | kSmall)) << "a device";
  EXPECT_TRUE(gets_c_bit(kLevel0, 511, 5 * k1G | kSmall)) << "not an identity map";
}

TEST_F(FirmwareTablesTest, TakesTheBitForPatOfASmallPageForNoSize) {
  EXPECT_TRUE(gets_c_bit(kLevel0, 1, k4K | kSmall | 0x80));
}

TEST_F(FirmwareTablesTest, MarksLargePagesOfRam) {
  EXPECT_TRUE(gets_c_bit(kLevel1, 1, k2M | kLarge));
  EXPECT_TRUE(gets_c_bit(kLevel1, 2, 4 * k1G | kLarge));
  EXPECT_FALSE(gets_c_bit(kLevel1, 3, 0xFEE0'0000 | kLarge)) << "a device";
  EXPECT_FALSE(gets_c_bit(kLevel1, 4, (4 * k1G - k2M) | 0x1000 | kLarge))
      << "bit 12 is no address bit";
}

TEST_F(FirmwareTablesTest, MarksALargePageWithAnyRam) {
  entry(kRoot + 5 * k4K, 0) = 0;
  EXPECT_TRUE(gets_c_bit(kLevel1, 0, 0 | kLarge)) << "640 KiB of RAM, a device and RAM";
}

TEST_F(FirmwareTablesTest, MarksHugePagesOfRam) {
  EXPECT_TRUE(gets_c_bit(kLevel2, 4, 4 * k1G | kLarge));
  EXPECT_TRUE(gets_c_bit(kLevel2, 5, 5 * k1G | 0x1000 | kLarge));
  EXPECT_FALSE(gets_c_bit(kLevel2, 3, 3 * k1G | kLarge));
  EXPECT_FALSE(gets_c_bit(kLevel2, 6, 6 * k1G | 0x1000 | kLarge));
  EXPECT_FALSE(gets_c_bit(kLevel2, 7, 0x80'0000'0000 | kLarge));
}

TEST_F(FirmwareTablesTest, MarksTheEmulatorsMemory) {
  EXPECT_TRUE(gets_c_bit(kLevel1, 127, ((256ULL << 20) - k2M) | kLarge))
      << "an access is to be told as what it is";
}

TEST_F(FirmwareTablesTest, LeavesEntriesThatReferToTables) {
  entry(kLevel0, 1) = k4K | kSmall;
  set_c_bit(ram_.window(), PhysAddr{kRoot}, machine_);
  EXPECT_EQ(entry(kLevel0, 1), k4K | kSmall | kCBit) << "the leaf was reached";
  EXPECT_EQ(entry(kRoot, 0), kLevel2 | kTable);
  EXPECT_EQ(entry(kLevel2, 0), kLevel1 | kTable);
  EXPECT_EQ(entry(kLevel1, 0), kLevel0 | kTable);
}

TEST_F(FirmwareTablesTest, LeavesEntriesThatAreNotPresent) {
  EXPECT_FALSE(gets_c_bit(kLevel0, 2, 2 * k4K | (kSmall & ~1ULL)));
  EXPECT_FALSE(gets_c_bit(kLevel1, 5, 5 * k2M | (kLarge & ~1ULL)));
  EXPECT_FALSE(gets_c_bit(kLevel2, 1, ~1ULL & ~kCBit));
  EXPECT_FALSE(gets_c_bit(kRoot, 511, ~1ULL & ~kCBit));
}

TEST_F(FirmwareTablesTest, WalksEveryPartOfTheTables) {
  constexpr std::uint64_t kOther = kRoot + 8 * k4K;
  entry(kRoot, 511) = kOther | kTable;
  entry(kOther, 511) = (kOther + k4K) | kTable;
  entry(kOther + k4K, 511) = (kOther + 2 * k4K) | kTable;
  EXPECT_TRUE(gets_c_bit(kOther + 2 * k4K, 511, 0x20'0000 | kSmall));
}

TEST_F(FirmwareTablesTest, ChangesNothingTheSecondTime) {
  entry(kLevel0, 1) = k4K | kSmall;
  entry(kLevel1, 1) = k2M | kLarge;
  entry(kLevel2, 4) = 4 * k1G | kLarge;
  set_c_bit(ram_.window(), PhysAddr{kRoot}, machine_);
  const auto words = [this] {
    const auto* const first = &entry(kRoot, 0);
    return std::vector<std::uint64_t>(first, first + 4 * 512);
  };
  const auto once = words();
  set_c_bit(ram_.window(), PhysAddr{kRoot}, machine_);
  EXPECT_EQ(words(), once);
}

TEST_F(FirmwareTablesTest, TakesCr3AsItIs) {
  entry(kLevel0, 1) = k4K | kSmall;
  set_c_bit(ram_.window(), PhysAddr{kRoot | 0x18}, machine_);
  EXPECT_EQ(entry(kLevel0, 1), k4K | kSmall | kCBit);
}

TEST_F(FirmwareTablesTest, FollowsTablesThatCarryTheCBitAlready) {
  entry(kRoot, 0) |= kCBit;
  EXPECT_TRUE(gets_c_bit(kLevel0, 1, k4K | kSmall));
}

}  // namespace
}  // namespace accede::emulator
