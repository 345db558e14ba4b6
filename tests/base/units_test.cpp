#include "accede/base/units.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <type_traits>

namespace accede {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

TEST(Units, CannotBeMistakenForEachOther) {
  static_assert(!std::is_convertible_v<std::uint64_t, Bytes>);
  static_assert(!std::is_convertible_v<std::uint64_t, PageCount>);
  static_assert(!std::is_convertible_v<std::uint64_t, PhysAddr>);
  static_assert(!std::is_convertible_v<Bytes, PageCount>);
  static_assert(!std::is_constructible_v<Bytes, PageCount>);
  static_assert(!std::is_constructible_v<PhysAddr, Bytes>);
  static_assert(!std::is_convertible_v<Bytes, std::uint64_t>);
}

TEST(Units, LiteralsArePowersOf1024) {
  EXPECT_EQ((3_B).value(), 3U);
  EXPECT_EQ((1_KiB).value(), 1024U);
  EXPECT_EQ((2_MiB).value(), 0x200000U);
  EXPECT_EQ((1_GiB).value(), 0x40000000U);
  EXPECT_EQ((4_TiB).value(), 4ULL << 40);
}

TEST(Units, DefaultIsZero) {
  EXPECT_EQ(Bytes{}.value(), 0U);
  EXPECT_EQ(PageCount{}.value(), 0U);
  EXPECT_EQ(PhysAddr{}.value(), 0U);
}

TEST(Units, ComparesByValue) {
  EXPECT_LT(1_KiB, 1_MiB);
  EXPECT_EQ(1024_B, 1_KiB);
  EXPECT_GT(PhysAddr{2}, PhysAddr{1});
  EXPECT_LE(PageCount{2}, PageCount{2});
}

TEST(Bytes, AddsAndSubtracts) {
  EXPECT_EQ(1_KiB + 1_KiB, 2_KiB);
  EXPECT_EQ(3_MiB - 1_MiB, 2_MiB);
  Bytes sum = 1_KiB;
  sum += 3_KiB;
  EXPECT_EQ(sum, 4_KiB);
  sum -= 4_KiB;
  EXPECT_EQ(sum, 0_B);
}

TEST(Bytes, MultipliesByACountAndDividesIntoOne) {
  EXPECT_EQ(4_KiB * 512, 2_MiB);
  EXPECT_EQ(4_KiB * 0, 0_B);
  EXPECT_EQ(2_MiB / 4_KiB, 512U);
  EXPECT_EQ((2_MiB + 5_B) % 4_KiB, 5_B);
}

TEST(Bytes, ReachesTheLargestValueWithoutOverflow) {
  EXPECT_EQ((Bytes{kMax - 1} + 1_B).value(), kMax);
  EXPECT_EQ((Bytes{kMax} * 1).value(), kMax);
  EXPECT_EQ((Bytes{kMax / 2} * 2).value(), kMax - 1);
}

TEST(BytesDeathTest, StopsAtOverflow) {
  EXPECT_DEATH(static_cast<void>(Bytes{kMax} + 1_B), "");
  EXPECT_DEATH(static_cast<void>(1_B - 2_B), "");
  EXPECT_DEATH(static_cast<void>(Bytes{kMax / 2 + 1} * 2), "");
}

TEST(BytesDeathTest, StopsAtDivisionByZero) {
  EXPECT_DEATH(static_cast<void>(1_B / 0_B), "");
  EXPECT_DEATH(static_cast<void>(1_B % 0_B), "");
}

TEST(PageSize, HasTheShiftOfItsLevel) {
  EXPECT_EQ(page_shift(PageSize::k4K), 12U);
  EXPECT_EQ(page_shift(PageSize::k2M), 21U);
  EXPECT_EQ(page_shift(PageSize::k1G), 30U);
}

TEST(PageSize, HasItsBytes) {
  EXPECT_EQ(bytes(PageSize::k4K), 4_KiB);
  EXPECT_EQ(bytes(PageSize::k2M), 2_MiB);
  EXPECT_EQ(bytes(PageSize::k1G), 1_GiB);
}

TEST(PageCount, CountsPagesOf4KiB) {
  EXPECT_EQ(PageCount{3}.bytes(), 12_KiB);
}

TEST(PageCountDeathTest, StopsWhenItsBytesDoNotFit) {
  EXPECT_EQ(PageCount{kMax / 4096}.bytes().value(), kMax - 4095);
  EXPECT_DEATH(static_cast<void>(PageCount{kMax / 4096 + 1}.bytes()), "");
}

TEST(PhysAddr, MovesByBytesAndMeasuresDistance) {
  const PhysAddr address{0x1000};
  EXPECT_EQ(address + 4_KiB, PhysAddr{0x2000});
  EXPECT_EQ(address - 4_KiB, PhysAddr{0});
  EXPECT_EQ(PhysAddr{0x3000} - address, 8_KiB);
  PhysAddr moved = address;
  moved += 1_B;
  EXPECT_EQ(moved, PhysAddr{0x1001});
}

TEST(PhysAddr, AlignsDownAndUp) {
  EXPECT_EQ(PhysAddr{0x1FFF}.align_down(4_KiB), PhysAddr{0x1000});
  EXPECT_EQ(PhysAddr{0x1001}.align_up(4_KiB), PhysAddr{0x2000});
  EXPECT_EQ(PhysAddr{0x1000}.align_down(4_KiB), PhysAddr{0x1000});
  EXPECT_EQ(PhysAddr{0x1000}.align_up(4_KiB), PhysAddr{0x1000});
  EXPECT_EQ(PhysAddr{0}.align_up(2_MiB), PhysAddr{0});
  EXPECT_EQ(PhysAddr{7}.align_up(1_B), PhysAddr{7});
}

TEST(PhysAddr, KnowsWhetherItIsAligned) {
  EXPECT_TRUE(PhysAddr{0x200000}.is_aligned(2_MiB));
  EXPECT_FALSE(PhysAddr{0x201000}.is_aligned(2_MiB));
  EXPECT_TRUE(PhysAddr{0}.is_aligned(1_GiB));
}

TEST(PhysAddrDeathTest, StopsWhenItLeavesTheAddressSpace) {
  EXPECT_DEATH(static_cast<void>(PhysAddr{kMax} + 1_B), "");
  EXPECT_DEATH(static_cast<void>(PhysAddr{0} - 1_B), "");
  EXPECT_DEATH(static_cast<void>(PhysAddr{1} - PhysAddr{2}), "");
  EXPECT_EQ(PhysAddr{kMax - 4095}.align_up(4_KiB), PhysAddr{kMax - 4095});
  EXPECT_DEATH(static_cast<void>(PhysAddr{kMax - 4094}.align_up(4_KiB)), "");
}

TEST(PhysAddrDeathTest, StopsAtAnAlignmentThatIsNoPowerOfTwo) {
  EXPECT_DEATH(static_cast<void>(PhysAddr{0}.is_aligned(0_B)), "");
  EXPECT_DEATH(static_cast<void>(PhysAddr{0}.align_down(3_B)), "");
  EXPECT_DEATH(static_cast<void>(PhysAddr{0}.align_up(6_KiB)), "");
}

}  // namespace
}  // namespace accede
