#include "accede/base/bit_field.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace accede {
namespace {

using Level = BitField<std::uint64_t, 2, 0>;
using Address = BitField<std::uint64_t, 51, 12>;
using Valid = BitField<std::uint64_t, 63>;
using Whole = BitField<std::uint64_t, 63, 0>;
using Upper = BitField<std::uint8_t, 7, 4>;
using Top = BitField<std::uint16_t, 15>;

TEST(BitField, KnowsItsWidthAndMasks) {
  static_assert(Level::kWidth == 3 && Level::kMax == 7 && Level::kMask == 7);
  static_assert(Address::kWidth == 40 && Address::kMask == 0x000F'FFFF'FFFF'F000);
  static_assert(Valid::kWidth == 1 && Valid::kMask == 1ULL << 63);
  static_assert(Whole::kWidth == 64 && Whole::kMask == ~0ULL);
  static_assert(Upper::kMask == 0xF0 && Top::kMask == 0x8000);
}

TEST(BitField, ReadsOnlyItsBits) {
  EXPECT_EQ(Level::get(0xFFFF'FFFF'FFFF'FFFA), 2U);
  EXPECT_EQ(Address::get(0x0000'0012'3456'7FFF), 0x1234567U);
  EXPECT_EQ(Upper::get(0xA5), 0xAU);
  EXPECT_EQ(Whole::get(~0ULL), ~0ULL);
}

TEST(BitField, WritesOnlyItsBits) {
  EXPECT_EQ(Level::set(~0ULL, 0), ~0ULL << 3);
  EXPECT_EQ(Address::set(0xFFF, 1), 0x1FFFU);
  EXPECT_EQ(Valid::set(0, 1), 1ULL << 63);
  EXPECT_EQ(Upper::set(0xA5, 0x3), 0x35);
  EXPECT_EQ(Top::set(0x7FFF, 1), 0xFFFF);
  EXPECT_EQ(Whole::set(1, 42), 42U);
}

TEST(BitField, ReadsBackWhatItWrote) {
  for (std::uint64_t value = 0; value <= Level::kMax; ++value) {
    EXPECT_EQ(Level::get(Level::set(0x5555'5555'5555'5555, value)), value);
  }
}

TEST(BitFieldDeathTest, StopsAtAValueThatDoesNotFit) {
  EXPECT_DEATH(static_cast<void>(Level::set(0, 8)), "");
  EXPECT_DEATH(static_cast<void>(Upper::set(0, 0x10)), "");
}

}  // namespace
}  // namespace accede
