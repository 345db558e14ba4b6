#include "accede/inspect/decompress.hpp"

#include "accede/inspect/lzo.hpp"
#include "tests/inspect/made_up.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <set>
#include <string>

namespace accede::inspect {
namespace {

using test::bytes_of;
using test::ByteVector;
using Kind = DecompressErrorKind;

constexpr std::size_t kMost = 1 << 20;
constexpr std::array kMethods{Compression::kGzip, Compression::kBzip2, Compression::kLzma,
                              Compression::kXz,   Compression::kLzo,   Compression::kLz4,
                              Compression::kZstd};

/// Text that packs, but not to nothing.
ByteVector sample() {
  std::mt19937 random{7};
  std::string text;
  while (text.size() < 20'000) {
    text += "word" + std::to_string(random() % 1000) + " ";
  }
  return bytes_of(text);
}

class EveryMethod : public testing::TestWithParam<Compression> {};

TEST_P(EveryMethod, IsRecognised) {
  EXPECT_EQ(recognise_compression(test::pack(sample(), GetParam())), GetParam());
}

TEST_P(EveryMethod, UnpacksWhatWasPacked) {
  const auto unpacked = decompress(test::pack(sample(), GetParam()), kMost);
  ASSERT_TRUE(unpacked) << to_string(unpacked.error());
  EXPECT_EQ(*unpacked, sample());
}

TEST_P(EveryMethod, StopsAtTheLimit) {
  const auto packed = test::pack(sample(), GetParam());
  EXPECT_TRUE(decompress(packed, sample().size()));
  const auto unpacked = decompress(packed, sample().size() - 1);
  ASSERT_FALSE(unpacked);
  EXPECT_EQ(unpacked.error(), Kind::kTooLarge);
}

/// Formats without an end of their own cannot tell that they are cut off.
TEST_P(EveryMethod, NeverGivesMoreThanThereWasOfAPart) {
  const auto packed = test::pack(sample(), GetParam());
  for (std::size_t size = 0; size < packed.size(); size += 97) {
    const auto unpacked = decompress(std::span{packed}.first(size), kMost);
    const ByteVector got = unpacked.value_or(ByteVector{});
    const ByteVector whole = sample();
    ASSERT_LE(got.size(), whole.size());
    EXPECT_TRUE(std::equal(got.begin(), got.end(), whole.begin()));
  }
}

TEST_P(EveryMethod, UnpacksInStepsWhatItUnpacksAtOnce) {
  const auto packed = test::pack(sample(), GetParam());
  auto unpacker = Unpacker::open(packed, kMost);
  ASSERT_TRUE(unpacker);
  for (std::size_t size = 1; !unpacker->at_end(); size *= 4) {
    ASSERT_TRUE(unpacker->unpack_to(size));
    ASSERT_TRUE(unpacker->bytes().size() >= size || unpacker->at_end());
  }
  EXPECT_EQ(std::move(*unpacker).take(), sample());
}

INSTANTIATE_TEST_SUITE_P(All, EveryMethod, testing::ValuesIn(kMethods),
                         [](const auto& one) { return std::string{to_string(one.param)}; });

TEST(Decompress, WantsAKnownMethod) {
  EXPECT_EQ(recognise_compression(bytes_of("plain")), std::nullopt);
  EXPECT_EQ(decompress(bytes_of("plain"), kMost).error(), Kind::kUnknownMethod);
  EXPECT_EQ(decompress({}, kMost).error(), Kind::kUnknownMethod);
}

TEST(Decompress, TellsCorruptData) {
  for (const Compression method : {Compression::kXz, Compression::kBzip2}) {
    auto packed = test::pack(sample(), method);
    packed[packed.size() / 2] ^= std::byte{0x55};
    const auto unpacked = decompress(packed, kMost);
    ASSERT_FALSE(unpacked) << to_string(method);
    EXPECT_EQ(unpacked.error(), Kind::kCorrupt) << to_string(method);
  }
}

TEST(Decompress, StopsWhereItIsToldTo) {
  const ByteVector zeros(std::size_t{8} << 20);
  const auto packed = test::pack(zeros, Compression::kXz);
  auto unpacker = Unpacker::open(packed, zeros.size());
  ASSERT_TRUE(unpacker);
  ASSERT_TRUE(unpacker->unpack_to(kMost));
  EXPECT_GE(unpacker->bytes().size(), kMost);
  EXPECT_LT(unpacker->bytes().size(), 2 * kMost);
  EXPECT_FALSE(unpacker->at_end());
}

TEST(Decompress, HasATextForEachError) {
  std::set<std::string_view> texts;
  for (const Kind kind : {Kind::kUnknownMethod, Kind::kCorrupt, Kind::kTooLarge}) {
    texts.insert(to_string(kind));
  }
  EXPECT_EQ(texts.size(), 3U);
}

// LZO, with what the lzop program makes of a text.

constexpr std::array<std::uint8_t, 84> kByLzop{
    0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a, 0x10, 0x40, 0x20, 0xa0, 0x09,
    0x40, 0x03, 0x09, 0x03, 0x00, 0x00, 0x01, 0x00, 0x00, 0x81, 0xa4, 0x6b, 0x01, 0xe3,
    0x85, 0x00, 0x00, 0x00, 0x00, 0x05, 0x68, 0x2e, 0x74, 0x78, 0x74, 0x53, 0xc0, 0x06,
    0x5e, 0x00, 0x00, 0x00, 0xd2, 0x00, 0x00, 0x00, 0x19, 0x1d, 0x50, 0x4a, 0xe3, 0x17,
    0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x20, 0x3b, 0x14, 0x00, 0x04, 0x2c, 0x20, 0x6c, 0x7a,
    0x6f, 0x21, 0x20, 0x20, 0x87, 0xa4, 0x00, 0x11, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
/// The stream in it: its third part.
constexpr std::size_t kStreamBegin = 55;
constexpr std::size_t kStreamEnd = 80;

std::string hello() {
  std::string text;
  for (int i = 0; i < 5; ++i) {
    text += "hello hello hello hello hello hello, lzo! ";
  }
  return text;
}

TEST(Lzo, UnpacksWhatLzopPacked) {
  const auto unpacked = decompress(std::as_bytes(std::span{kByLzop}), kMost);
  ASSERT_TRUE(unpacked);
  EXPECT_EQ(*unpacked, bytes_of(hello()));
}

TEST(Lzo, WantsTheWholeStreamAndNothingMore) {
  const auto stream =
      std::as_bytes(std::span{kByLzop}).subspan(kStreamBegin, kStreamEnd - kStreamBegin);
  EXPECT_TRUE(decompress_lzo1x(stream, hello().size()));
  EXPECT_FALSE(decompress_lzo1x(stream, hello().size() + 1));
  EXPECT_FALSE(decompress_lzo1x(stream, hello().size() - 1));
  for (std::size_t size = 0; size < stream.size(); ++size) {
    EXPECT_FALSE(decompress_lzo1x(stream.first(size), hello().size()));
  }
}

TEST(Lzo, RefusesAMatchBeforeTheBeginning) {
  // One literal, then three bytes from 2049 back.
  const ByteVector stream = bytes_of(
      "\x12"
      "a"
      "\x40\x01\x11");
  EXPECT_FALSE(decompress_lzo1x(stream, 10));
}

TEST(Lzo, AnyBytesEnd) {
  std::mt19937 random{11};
  for (int round = 0; round < 20'000; ++round) {
    auto file = kByLzop;
    for (int i = 0; i < 3; ++i) {
      file[9 + random() % (file.size() - 9)] = static_cast<std::uint8_t>(random());
    }
    const auto unpacked = decompress(std::as_bytes(std::span{file}), kMost);
    EXPECT_LE(unpacked.value_or(ByteVector{}).size(), kMost);
  }
}

}  // namespace
}  // namespace accede::inspect
