#include "accede/base/byte_reader.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace accede {
namespace {

constexpr std::size_t kHuge = std::numeric_limits<std::size_t>::max();

constexpr std::array<std::byte, 9> kData{std::byte{0x01}, std::byte{0x02}, std::byte{0x03},
                                         std::byte{0x84}, std::byte{0x05}, std::byte{0x06},
                                         std::byte{0x07}, std::byte{0x88}, std::byte{0x09}};

TEST(ByteReader, ReadsLittleEndianIntegers) {
  constexpr ByteReader reader{kData};
  EXPECT_EQ(reader.read<std::uint8_t>(3), 0x84);
  EXPECT_EQ(reader.read<std::uint16_t>(0), 0x0201);
  EXPECT_EQ(reader.read<std::uint32_t>(0), 0x84030201U);
  EXPECT_EQ(reader.read<std::uint64_t>(0), 0x8807060584030201U);
}

TEST(ByteReader, ReadsAtAnyAlignment) {
  constexpr ByteReader reader{kData};
  EXPECT_EQ(reader.read<std::uint64_t>(1), 0x0988070605840302U);
  EXPECT_EQ(reader.read<std::uint32_t>(5), 0x09880706U);
}

TEST(ByteReader, ReadsTheLastIntegerAndNothingBeyond) {
  constexpr ByteReader reader{kData};
  EXPECT_TRUE(reader.read<std::uint8_t>(8));
  EXPECT_FALSE(reader.read<std::uint8_t>(9));
  EXPECT_TRUE(reader.read<std::uint64_t>(1));
  EXPECT_FALSE(reader.read<std::uint64_t>(2));
}

TEST(ByteReader, RefusesOffsetsThatWouldWrap) {
  constexpr ByteReader reader{kData};
  EXPECT_FALSE(reader.read<std::uint32_t>(kHuge));
  EXPECT_FALSE(reader.read<std::uint32_t>(kHuge - 3));
  EXPECT_FALSE(reader.slice(kHuge, 1));
  EXPECT_FALSE(reader.slice(1, kHuge));
}

TEST(ByteReader, ReadsNothingFromNothing) {
  constexpr ByteReader reader{{}};
  EXPECT_EQ(reader.size(), 0U);
  EXPECT_FALSE(reader.read<std::uint8_t>(0));
  EXPECT_TRUE(reader.slice(0, 0));
}

TEST(ByteReader, CopiesAWireStructAtAnyAlignment) {
  struct Wire {
    std::uint32_t first;
    std::uint16_t second;
    std::uint16_t third;
  };
  constexpr ByteReader reader{kData};
  const auto wire = reader.read_struct<Wire>(1);
  ASSERT_TRUE(wire);
  EXPECT_EQ(wire->first, 0x05840302U);
  EXPECT_EQ(wire->second, 0x0706);
  EXPECT_EQ(wire->third, 0x0988);
  EXPECT_FALSE(reader.read_struct<Wire>(2));
  EXPECT_FALSE(reader.read_struct<Wire>(kHuge));
}

TEST(ByteReader, SlicesOnlyWhatLiesWhollyInside) {
  constexpr ByteReader reader{kData};
  const auto slice = reader.slice(2, 3);
  ASSERT_TRUE(slice);
  EXPECT_EQ(slice->size(), 3U);
  EXPECT_EQ((*slice)[0], std::byte{0x03});
  EXPECT_TRUE(reader.slice(9, 0));
  EXPECT_FALSE(reader.slice(10, 0));
  EXPECT_FALSE(reader.slice(7, 3));
}

TEST(ByteReader, WorksAtCompileTime) {
  static_assert(ByteReader{kData}.read<std::uint16_t>(7) == 0x0988);
  static_assert(!ByteReader{kData}.read<std::uint16_t>(8));
}

}  // namespace
}  // namespace accede
