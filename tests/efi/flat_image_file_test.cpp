#include "accede/efi/flat_image_file.hpp"

#include "tests/efi/flat_image_sample.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <set>
#include <string>

namespace accede::efi {
namespace {

using enum FlatImageErrorKind;
using test::FlatImageHeader;
using test::FlatImageRela;
using test::FlatImageSample;
using test::word_at;

constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();

FlatImageError error_of(const std::vector<std::byte>& file) {
  const auto parsed = FlatImageFile::parse(file);
  EXPECT_FALSE(parsed.has_value());
  return parsed ? FlatImageError{} : parsed.error();
}

template <class Change>
FlatImageError error_after(Change change) {
  FlatImageSample sample;
  change(sample);
  return error_of(sample.bytes());
}

TEST(FlatImageFile, PlacesContentZeroesAndPointers) {
  const FlatImageSample sample;
  const auto bytes = sample.bytes(0x500);  // what lies behind the image does not matter
  const auto file = FlatImageFile::parse(bytes);
  ASSERT_TRUE(file.has_value());
  EXPECT_EQ(file->memory_bytes(), 0x2000_B);
  EXPECT_EQ(file->file_bytes(), 0x400_B);
  EXPECT_EQ(file->entry_offset(), 0x80U);

  std::vector<std::byte> memory(0x2010, std::byte{0xEE});
  constexpr PhysAddr kBase{0x1'4000'0000};
  file->place(memory, kBase);
  EXPECT_EQ(word_at(&memory[0x100]), kBase.value() + 0x80);
  EXPECT_EQ(word_at(&memory[0x301]), kBase.value() + 0x1234);
  EXPECT_EQ(word_at(&memory[0x1FF8]), kBase.value() - 1);
  EXPECT_EQ(memory[0x2000], std::byte{0xEE});
  for (std::size_t i = 0; i < 0x1FF8; ++i) {
    if ((i < 0x100 || i >= 0x108) && (i < 0x301 || i >= 0x309)) {
      ASSERT_EQ(memory[i], i < 0x400 ? bytes[i] : std::byte{0}) << i;
    }
  }
}

TEST(FlatImageFile, RefusesEveryPrefixOfAFile) {
  const auto whole = FlatImageSample{}.bytes();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    // Exactly so many bytes, so that a sanitizer sees a read behind them.
    const auto part = std::make_unique<std::byte[]>(size);
    std::copy_n(whole.begin(), size, part.get());
    const auto parsed = FlatImageFile::parse({part.get(), size});
    ASSERT_FALSE(parsed.has_value()) << size;
    ASSERT_EQ(parsed.error().kind, kTruncated) << size;
    ASSERT_EQ(parsed.error().offset,
              size < sizeof(FlatImageHeader) ? size : offsetof(FlatImageHeader, file_bytes));
  }
}

TEST(FlatImageFile, RefusesAnotherMagic) {
  const FlatImageError expected{kBadMagic, 0};
  EXPECT_EQ(error_after([](auto& sample) { sample.header.magic ^= 1; }), expected);
}

TEST(FlatImageFile, RefusesSizesThatCannotBe) {
  const FlatImageError file{kBadSize, offsetof(FlatImageHeader, file_bytes)};
  const FlatImageError memory{kBadSize, offsetof(FlatImageHeader, memory_bytes)};
  EXPECT_EQ(error_after([](auto& sample) { sample.header.memory_bytes = 0x3FF; }), file);
  EXPECT_EQ(error_after([](auto& sample) { sample.header.memory_bytes = 0; }), file);
  EXPECT_EQ(error_after([](auto& sample) { sample.header.file_bytes = 47; }), file);
  EXPECT_EQ(error_after([](auto& sample) { sample.header.memory_bytes = (1 << 30) + 1; }), memory);
  EXPECT_EQ(error_after([](auto& sample) { sample.header.memory_bytes = kMost; }), memory);
}

TEST(FlatImageFile, RefusesAFileLongerThanItsBytes) {
  const FlatImageError expected{kTruncated, offsetof(FlatImageHeader, file_bytes)};
  EXPECT_EQ(error_after([](auto& sample) { sample.header.file_bytes = 0x401; }), expected);
  EXPECT_EQ(error_after([](auto& sample) { sample.header.file_bytes = kMost; }), expected);
}

TEST(FlatImageFile, RefusesAnEntryPointOutsideTheFile) {
  const FlatImageError expected{kBadEntry, offsetof(FlatImageHeader, entry)};
  for (const std::uint64_t entry :
       {std::uint64_t{0}, std::uint64_t{47}, std::uint64_t{0x400}, std::uint64_t{0x1000}, kMost}) {
    EXPECT_EQ(error_after([&](auto& sample) { sample.header.entry = entry; }), expected) << entry;
  }
}

TEST(FlatImageFile, RefusesRelocationsOutsideTheFile) {
  const FlatImageError offset{kBadRelocations, offsetof(FlatImageHeader, rela_offset)};
  const FlatImageError count{kBadRelocations, offsetof(FlatImageHeader, rela_count)};
  EXPECT_EQ(error_after([](auto& sample) { sample.header.rela_offset = 0x401; }), offset);
  EXPECT_EQ(error_after([](auto& sample) { sample.header.rela_offset = kMost; }), offset);
  EXPECT_EQ(error_after([](auto& sample) { sample.header.rela_offset = 0x3E9; }), count);
  EXPECT_EQ(error_after([](auto& sample) { sample.header.rela_count = 22; }), count);
  EXPECT_EQ(error_after([](auto& sample) { sample.header.rela_count = kMost / 24 + 2; }), count);
  EXPECT_EQ(error_after([](auto& sample) { sample.header.rela_count = kMost; }), count);
}

TEST(FlatImageFile, RefusesAnUnknownRelocation) {
  const FlatImageError expected{kUnknownRelocation, 0x200 + 2 * 24 + offsetof(FlatImageRela, info)};
  EXPECT_EQ(error_after([](auto& sample) { sample.relas[2].info = 6; }), expected);
  EXPECT_EQ(error_after([](auto& sample) { sample.relas[2].info |= 1ULL << 32; }), expected);
}

TEST(FlatImageFile, RefusesARelocationOutsideTheMemory) {
  const FlatImageError expected{kRelocationOutside, 0x200 + 24 + offsetof(FlatImageRela, offset)};
  for (const std::uint64_t offset :
       {std::uint64_t{0x1FF9}, std::uint64_t{0x2000}, std::uint64_t{0x2001}, kMost - 7, kMost}) {
    EXPECT_EQ(error_after([&](auto& sample) { sample.relas[1].offset = offset; }), expected);
  }
}

TEST(FlatImageFile, TakesAnImageWithoutRelocations) {
  FlatImageSample sample;
  sample.header.rela_count = 0;
  sample.header.rela_offset = sample.header.file_bytes;
  const auto bytes = sample.bytes();
  EXPECT_TRUE(FlatImageFile::parse(bytes).has_value());
}

TEST(FlatImageFile, SurvivesEveryChangedByte) {
  const auto whole = FlatImageSample{}.bytes();
  std::vector<std::byte> memory(1 << 16);
  for (std::size_t at = 0; at < 0x200 + 3 * sizeof(FlatImageRela); ++at) {
    for (const unsigned bits : {0x01U, 0x80U, 0xFFU}) {
      auto bytes = whole;
      bytes[at] ^= static_cast<std::byte>(bits);
      const auto file = FlatImageFile::parse(bytes);
      if (file && file->memory_bytes().value() <= memory.size()) {
        const std::unique_ptr<std::byte[]> exact{new std::byte[file->memory_bytes().value()]};
        file->place({exact.get(), file->memory_bytes().value()}, PhysAddr{0x1000});
      }
    }
  }
}

TEST(FlatImageFile, HasATextForEveryError) {
  std::set<std::string_view> texts;
  for (const auto kind : {kTruncated, kBadMagic, kBadSize, kBadEntry, kBadRelocations,
                          kUnknownRelocation, kRelocationOutside}) {
    texts.insert(to_string(kind));
  }
  EXPECT_EQ(texts.size(), 7U);
  EXPECT_FALSE(texts.contains("unknown error of an image file"));
}

}  // namespace
}  // namespace accede::efi
