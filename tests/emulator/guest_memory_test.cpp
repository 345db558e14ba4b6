#include "accede/emulator/guest_memory.hpp"

#include "tests/emulator/guest_ram.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

namespace accede::emulator {
namespace {

using test::GuestRam;
using test::pages_at;
using test::range_of;

constexpr std::uint64_t kShared = NestedPageTable::kViewMask;
constexpr std::uint64_t kPresent = 0x3;
constexpr std::uint64_t kLarge = 0x80;

/// 64 MiB of RAM: guest page tables from 1 MiB on, data from 2 MiB on, the emulator in the last
/// 16 MiB, pages at 8 MiB that nobody accepted.
class GuestMemoryTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kTables = 1 << 20;
  static constexpr std::uint64_t kData = 2 << 20;
  static constexpr std::uint64_t kPending = 8 << 20;
  static constexpr std::uint64_t kHidden = 48 << 20;
  static constexpr std::uint64_t kRamEnd = 64 << 20;

  explicit GuestMemoryTest(ViewBit view_bit = ViewBit::kShared)
      : tables_{ram_.window(), pool_, pool_.allocate().value(), view_bit} {
    EXPECT_TRUE(tables_.map(View::kPrivate, range_of(0, kPending)));
    EXPECT_TRUE(tables_.map(View::kPrivate, range_of(kPending + 0x10000, kHidden)));
    save_.cr0 = 1U << 31;
    save_.efer = kEferLma;
    save_.cs.attributes = 0x29B;
    save_.cr3 = kTables;
  }

  /// Writes entry `index` of the guest table at `table`.
  void entry(std::uint64_t table, std::uint64_t index, std::uint64_t value) {
    ram_.at<std::uint64_t>(PhysAddr{table + index * 8}) = value;
  }
  /// A four-level path for linear address 0x40_8060_3000 up to the given depth; entries below it
  /// are the test's own.
  void build_path() {
    entry(kTables, 0, (kTables + 0x1000) | kPresent);
    entry(kTables + 0x1000, 258, (kTables + 0x2000) | kPresent);
    entry(kTables + 0x2000, 3, (kTables + 0x3000) | kPresent);
    entry(kTables + 0x3000, 3, (kData + 0x5000) | kPresent);
  }
  static constexpr std::uint64_t kLinear = 258ULL << 30 | 3ULL << 21 | 3ULL << 12;

  [[nodiscard]] std::optional<std::uint64_t> translate(std::uint64_t linear) const {
    return memory_.translate(save_, linear);
  }
  [[nodiscard]] bool readable(std::uint64_t gpa, std::size_t bytes = 1) const {
    std::vector<std::byte> to(bytes);
    return memory_.read(gpa, to);
  }

  GuestRam ram_{Bytes{kRamEnd}};
  std::array<PhysRange, 2> ranges_{range_of(0, 0xA0000), range_of(1 << 20, kHidden)};
  MachineMap machine_{ranges_, range_of(kHidden, kRamEnd)};
  PagePool pool_{ram_.window(), PhysAddr{kHidden}, PhysAddr{kHidden + (1 << 20)}};
  NestedPageTable tables_;
  GuestMemory memory_{ram_.window(), machine_, tables_};
  VmcbSave save_{};
};

TEST_F(GuestMemoryTest, ReadsAndWritesWhatTheGuestCanReach) {
  const std::array<std::byte, 3> data{std::byte{1}, std::byte{2}, std::byte{3}};
  EXPECT_TRUE(memory_.write(kData + 5, data));
  std::array<std::byte, 3> back{};
  EXPECT_TRUE(memory_.read(kData + 5, back));
  EXPECT_EQ(back, data);
  EXPECT_EQ(ram_.at<std::uint8_t>(PhysAddr{kData + 4}), 0);
  EXPECT_EQ(ram_.at<std::uint8_t>(PhysAddr{kData + 8}), 0);
}

TEST_F(GuestMemoryTest, CrossesPages) {
  std::vector<std::byte> data(3 * 4096);
  for (std::size_t i = 0; i < data.size(); ++i) {
    data[i] = static_cast<std::byte>(i * 7);
  }
  EXPECT_TRUE(memory_.write(kData + 4000, data));
  std::vector<std::byte> back(data.size());
  EXPECT_TRUE(memory_.read(kData + 4000, back));
  EXPECT_EQ(back, data);
}

TEST_F(GuestMemoryTest, DoesNotReachMemoryThatIsNotAccepted) {
  EXPECT_TRUE(readable(kPending - 1));
  EXPECT_FALSE(readable(kPending));
  EXPECT_FALSE(readable(kPending + 0xFFFF));
  EXPECT_TRUE(readable(kPending + 0x10000));
  EXPECT_FALSE(readable(kPending - 4, 8)) << "a read that crosses into it";
  const std::array<std::byte, 8> data{};
  EXPECT_FALSE(memory_.write(kPending - 4, data));
}

TEST_F(GuestMemoryTest, DoesNotReachDevicesTheEmulatorOrNothing) {
  EXPECT_TRUE(tables_.map(View::kPrivate, range_of(0xA0000, 1 << 20)));
  EXPECT_FALSE(readable(0xA0000)) << "a device, although mapped";
  EXPECT_FALSE(readable(0x9FFFF, 2));
  EXPECT_TRUE(tables_.map(View::kPrivate, range_of(kHidden, kRamEnd)));
  EXPECT_FALSE(readable(kHidden)) << "the emulator, even if it were mapped";
  EXPECT_FALSE(readable(kHidden - 4, 8));
  EXPECT_FALSE(readable(kRamEnd));
  EXPECT_FALSE(readable(kShared - 1));
}

TEST_F(GuestMemoryTest, DoesNotReachAddressesAboveTheWidth) {
  EXPECT_FALSE(readable(1ULL << 48));
  EXPECT_FALSE(readable((1ULL << 52) | kData));
  EXPECT_FALSE(readable(~0ULL));
  EXPECT_FALSE(readable(~0ULL, 16)) << "wraps";
}

TEST_F(GuestMemoryTest, ReachesThroughTheViewThatTheSharedBitNames) {
  EXPECT_FALSE(readable(kShared | kData));
  EXPECT_TRUE(tables_.map(View::kShared, pages_at(kData, 1)));
  EXPECT_TRUE(tables_.unmap(View::kPrivate, pages_at(kData, 1)));
  ram_.at<std::uint64_t>(PhysAddr{kData}) = 0x1122;
  EXPECT_FALSE(readable(kData));
  std::array<std::byte, 2> back{};
  EXPECT_TRUE(memory_.read(kShared | kData, back));
  EXPECT_EQ(back[0], std::byte{0x22});
  EXPECT_FALSE(readable((kShared | kData) + 4092, 8)) << "the next shared page is not mapped";
}

TEST_F(GuestMemoryTest, ReadsNothingForNoBytes) {
  EXPECT_TRUE(memory_.read(~0ULL, {}));
}

TEST_F(GuestMemoryTest, TakesLinearAddressesAsPhysicalWithoutPaging) {
  save_.cr0 = 0;
  EXPECT_EQ(translate(0x1234), 0x1234U);
  EXPECT_EQ(translate(0xF'0000'1234), 0x1234U) << "32 bits without paging";
}

TEST_F(GuestMemoryTest, DoesNotWalkThirtyTwoBitPageTables) {
  save_.efer = 0;
  EXPECT_FALSE(translate(0x1234).has_value());
}

TEST_F(GuestMemoryTest, WalksToSmallPages) {
  build_path();
  EXPECT_EQ(translate(kLinear), kData + 0x5000);
  EXPECT_EQ(translate(kLinear + 0xABC), kData + 0x5ABC);
  EXPECT_FALSE(translate(kLinear + 0x1000).has_value());
  EXPECT_FALSE(translate(kLinear - 1).has_value());
}

TEST_F(GuestMemoryTest, WalksToLargePages) {
  build_path();
  // Bit 12 of a 2 MiB leaf is PAT, not an address bit.
  entry(kTables + 0x2000, 4, (6ULL << 21) | 0x1000 | kPresent | kLarge);
  EXPECT_EQ(translate((kLinear & ~0x1FFFFFULL) + 0x200000 + 0x12345), (6ULL << 21) + 0x12345);
  entry(kTables + 0x1000, 259, (2ULL << 30) | 0x1000 | kPresent | kLarge);
  EXPECT_EQ(translate((259ULL << 30) + 0x3456789), (2ULL << 30) + 0x3456789);
}

TEST_F(GuestMemoryTest, FindsNothingWhereAnEntryOfAnyLevelIsAbsent) {
  for (const std::uint64_t place :
       {kTables, kTables + 0x1000 + 258 * 8, kTables + 0x2000 + 24, kTables + 0x3000 + 24}) {
    build_path();
    ram_.at<std::uint64_t>(PhysAddr{place}) &= ~1ULL;
    EXPECT_FALSE(translate(kLinear).has_value()) << std::hex << place;
  }
}

TEST_F(GuestMemoryTest, KeepsTheSharedBitOfALeaf) {
  build_path();
  entry(kTables + 0x3000, 3, kShared | (kData + 0x5000) | kPresent);
  EXPECT_EQ(translate(kLinear + 1), kShared | (kData + 0x5001));
}

TEST_F(GuestMemoryTest, IgnoresBitsOfAnEntryThatAreNoAddress) {
  build_path();
  entry(kTables + 0x3000, 3, (1ULL << 63) | (0x7FFULL << 52) | (kData + 0x5000) | 0xE00 | kPresent);
  save_.cr3 = kTables | 0xFFF;
  EXPECT_EQ(translate(kLinear), kData + 0x5000);
}

TEST_F(GuestMemoryTest, FindsNothingThroughTablesThatTheGuestCannotReach) {
  for (const std::uint64_t place : {kPending, kHidden, std::uint64_t{0xA0000}, kRamEnd,
                                    kShared | kTables, std::uint64_t{1} << 51}) {
    build_path();
    entry(kTables, 0, place | kPresent);
    EXPECT_FALSE(translate(kLinear).has_value()) << std::hex << place;
    save_.cr3 = place;
    EXPECT_FALSE(translate(kLinear).has_value()) << std::hex << place;
    save_.cr3 = kTables;
  }
}

TEST_F(GuestMemoryTest, WalksFiveLevelsWhenTheGuestDoes) {
  constexpr std::uint64_t kTop = kTables + 0x8000;
  build_path();
  entry(kTop, 5, kTables | kPresent);
  save_.cr4 = 1U << 12;
  save_.cr3 = kTop;
  EXPECT_EQ(translate((5ULL << 48) | kLinear), kData + 0x5000);
  EXPECT_FALSE(translate(kLinear).has_value());
}

TEST_F(GuestMemoryTest, TranslatesNoAddressThatIsNotCanonical) {
  build_path();
  EXPECT_TRUE(translate(kLinear).has_value());
  for (const unsigned bit : {48U, 52U, 63U}) {
    EXPECT_FALSE(translate((1ULL << bit) | kLinear).has_value()) << bit;
  }
  // The upper half, properly extended.
  entry(kTables, 256, (kTables + 0x1000) | kPresent);
  EXPECT_TRUE(translate(0xFFFF'8000'0000'0000 | kLinear).has_value());
  EXPECT_FALSE(translate(0x0000'8000'0000'0000 | kLinear).has_value());
}

/// The same machine where the bit means private, with tables as a firmware has them: entries that
/// refer to tables, and CR3, without it.
class GuestMemoryWithCBitTest : public GuestMemoryTest {
 protected:
  static constexpr std::uint64_t kCBit = NestedPageTable::kViewMask;

  GuestMemoryWithCBitTest() : GuestMemoryTest{ViewBit::kPrivate} {
    build_path();
    entry(kTables + 0x3000, 3, kCBit | (kData + 0x5000) | kPresent);
  }
};

TEST_F(GuestMemoryWithCBitTest, ReachesPrivateMemoryWithTheCBitOnly) {
  EXPECT_TRUE(readable(kCBit | kData));
  EXPECT_FALSE(readable(kData));
  EXPECT_FALSE(readable(kCBit | kPending));
  EXPECT_TRUE(tables_.map(View::kShared, pages_at(kData, 1)));
  EXPECT_TRUE(tables_.unmap(View::kPrivate, pages_at(kData, 1)));
  EXPECT_TRUE(readable(kData));
  EXPECT_FALSE(readable(kCBit | kData));
}

TEST_F(GuestMemoryWithCBitTest, WalksPrivateTablesWithoutTheCBit) {
  EXPECT_EQ(translate(kLinear + 0xABC), kCBit | (kData + 0x5ABC));
}

TEST_F(GuestMemoryWithCBitTest, WalksPrivateTablesWithTheCBit) {
  save_.cr3 |= kCBit;
  EXPECT_EQ(translate(kLinear), kCBit | (kData + 0x5000));
  for (const std::uint64_t place : {kTables, kTables + 0x1000 + 258 * 8, kTables + 0x2000 + 24}) {
    ram_.at<std::uint64_t>(PhysAddr{place}) |= kCBit;
    EXPECT_EQ(translate(kLinear), kCBit | (kData + 0x5000)) << std::hex << place;
  }
}

TEST_F(GuestMemoryWithCBitTest, TranslatesALeafWithoutTheCBitToASharedAddress) {
  entry(kTables + 0x3000, 3, (kData + 0x5000) | kPresent);
  EXPECT_EQ(translate(kLinear + 8), kData + 0x5008);
  entry(kTables + 0x2000, 3, kCBit | (6ULL << 21) | kPresent | kLarge);
  EXPECT_EQ(translate(kLinear), kCBit | ((6ULL << 21) + 0x3000));
}

TEST_F(GuestMemoryWithCBitTest, DoesNotWalkSharedTables) {
  EXPECT_TRUE(tables_.unmap(View::kPrivate, pages_at(kTables + 0x2000, 1)));
  EXPECT_TRUE(tables_.map(View::kShared, pages_at(kTables + 0x2000, 1)));
  EXPECT_FALSE(translate(kLinear).has_value());
}

TEST_F(GuestMemoryWithCBitTest, FetchesInstructionsThroughPrivateTables) {
  ram_.at<std::uint32_t>(PhysAddr{kData + 0x5010}) = 0xFF010FF2;
  save_.rip = kLinear + 0x10;
  std::array<std::byte, 4> code{};
  EXPECT_EQ(memory_.fetch(save_, code), 4U);
  EXPECT_EQ(code[0], std::byte{0xF2});
  EXPECT_EQ(code[3], std::byte{0xFF});
}

TEST_F(GuestMemoryTest, FetchesTheInstructionAtRip) {
  build_path();
  ram_.at<std::uint32_t>(PhysAddr{kData + 0x5FF0}) = 0xCC010F66;
  save_.rip = kLinear + 0xFF0;
  std::array<std::byte, 4> code{};
  EXPECT_EQ(memory_.fetch(save_, code), 4U);
  EXPECT_EQ(code[0], std::byte{0x66});
  EXPECT_EQ(code[3], std::byte{0xCC});
}

TEST_F(GuestMemoryTest, FetchesAcrossPagesThatLieApart) {
  build_path();
  entry(kTables + 0x3000, 4, (kData + 0x20000) | kPresent);
  ram_.at<std::uint8_t>(PhysAddr{kData + 0x5FFF}) = 0x66;
  ram_.at<std::uint8_t>(PhysAddr{kData + 0x20000}) = 0x0F;
  save_.rip = kLinear + 0xFFF;
  std::array<std::byte, 4> code{};
  EXPECT_EQ(memory_.fetch(save_, code), 4U);
  EXPECT_EQ(code[0], std::byte{0x66});
  EXPECT_EQ(code[1], std::byte{0x0F});
}

TEST_F(GuestMemoryTest, FetchesWhatThereIsBeforeAPageThatCannotBeReached) {
  build_path();
  save_.rip = kLinear + 0xFFE;
  std::array<std::byte, 4> code{};
  EXPECT_EQ(memory_.fetch(save_, code), 2U) << "the next page is not mapped";
  entry(kTables + 0x3000, 4, kPending | kPresent);
  EXPECT_EQ(memory_.fetch(save_, code), 2U) << "the next page is not accepted";
  save_.rip = kLinear + 0x2000;
  EXPECT_EQ(memory_.fetch(save_, code), 0U);
}

TEST_F(GuestMemoryTest, AddsTheCodeSegmentsBaseOutsideOf64BitMode) {
  save_.cr0 = 0;
  save_.efer = 0;
  save_.cs.attributes = 0x9B;
  save_.cs.base = kData;
  save_.rip = 0x10;
  ram_.at<std::uint8_t>(PhysAddr{kData + 0x10}) = 0x90;
  std::array<std::byte, 1> code{};
  EXPECT_EQ(memory_.fetch(save_, code), 1U);
  EXPECT_EQ(code[0], std::byte{0x90});
  save_.cs.base = 0xFFFF'FFF0;
  save_.rip = 0x10 + kData;
  EXPECT_EQ(memory_.fetch(save_, code), 1U) << "linear addresses wrap at 4 GiB";
}

}  // namespace
}  // namespace accede::emulator
