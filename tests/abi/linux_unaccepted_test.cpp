#include "accede/abi/linux_unaccepted.hpp"

#include "accede/abi/efi.hpp"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <span>
#include <string_view>
#include <vector>

namespace accede::abi::linux_unaccepted {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

/// What a 12 GiB q35 machine gets: 10 GiB above 4 GiB in units of 2 MiB.
constexpr TableHeader kGood{
    .version = 1, .unit_size = 0x200000, .phys_base = 0x1'0000'0000, .bitmap_bytes = 640};

/// The table in memory: the header and `bitmap` bytes of bitmap.
std::vector<std::byte> table(const TableHeader& header, std::size_t bitmap) {
  const auto raw = std::bit_cast<std::array<std::byte, sizeof(TableHeader)>>(header);
  std::vector<std::byte> bytes{raw.begin(), raw.end()};
  bytes.resize(bytes.size() + bitmap);
  return bytes;
}

ParseError error_of(const TableHeader& header, std::size_t bitmap = 640) {
  const auto bytes = table(header, bitmap);
  const auto parsed = parse_header(bytes);
  EXPECT_FALSE(parsed);
  return parsed ? ParseError{} : parsed.error();
}

TEST(LinuxUnaccepted, FieldsLieWhereLinuxLooksForThem) {
  std::array<std::byte, 24> raw{};
  raw[0] = std::byte{1};
  raw[6] = std::byte{0x20};
  raw[12] = std::byte{1};
  raw[16] = std::byte{0};
  const auto header = parse_header(raw);
  ASSERT_TRUE(header);
  EXPECT_EQ(header->unit_size, 2_MiB);
  EXPECT_EQ(header->covered.begin(), PhysAddr{0x1'0000'0000});
}

TEST(LinuxUnaccepted, GuidIsTheOneThatLinuxSearches) {
  constexpr efi::Guid kGuid{
      0xD5D1DE3C, 0x105C, 0x44F9, {0x9E, 0xA9, 0xBC, 0xEF, 0x98, 0x12, 0x00, 0x31}};
  EXPECT_EQ(std::bit_cast<efi::Guid>(kTableGuidBytes), kGuid);
}

TEST(LinuxUnaccepted, ParsesASoundTable) {
  const auto bytes = table(kGood, 640);
  const auto header = parse_header(bytes);
  ASSERT_TRUE(header);
  EXPECT_EQ(header->unit_size, 2_MiB);
  EXPECT_EQ(header->bitmap_size, 640_B);
  EXPECT_EQ(header->covered,
            PhysRange::make(PhysAddr{0x1'0000'0000}, PhysAddr{0x3'8000'0000}).value());
}

TEST(LinuxUnaccepted, FourKiBOfBitmapCover64GiB) {
  TableHeader header = kGood;
  header.bitmap_bytes = 4096;
  const auto bytes = table(header, 4096);
  EXPECT_EQ(parse_header(bytes)->covered.size(), 64_GiB);
}

TEST(LinuxUnaccepted, TakesTheUnitFromTheTable) {
  TableHeader header = kGood;
  for (unsigned shift = 12; shift < 32; ++shift) {
    header.unit_size = 1U << shift;
    const auto bytes = table(header, 640);
    const auto parsed = parse_header(bytes);
    ASSERT_TRUE(parsed) << shift;
    EXPECT_EQ(parsed->covered.size(), Bytes{1ULL << shift} * (640 * 8));
  }
}

TEST(LinuxUnaccepted, IgnoresBytesAfterTheBitmap) {
  const auto bytes = table(kGood, 641);
  EXPECT_EQ(parse_header(bytes)->bitmap_size, 640_B);
}

TEST(LinuxUnaccepted, AnEmptyBitmapCoversNothing) {
  TableHeader header = kGood;
  header.bitmap_bytes = 0;
  const auto bytes = table(header, 0);
  ASSERT_TRUE(parse_header(bytes));
  EXPECT_TRUE(parse_header(bytes)->covered.empty());
}

TEST(LinuxUnaccepted, RefusesATruncatedHeader) {
  const auto bytes = table(kGood, 640);
  for (std::size_t size = 0; size < sizeof(TableHeader); ++size) {
    const auto parsed = parse_header(std::span{bytes}.first(size));
    ASSERT_FALSE(parsed) << size;
    EXPECT_EQ(parsed.error(), (ParseError{ParseErrorKind::kTruncatedHeader, 0}));
  }
}

TEST(LinuxUnaccepted, RefusesEveryOtherVersion) {
  TableHeader header = kGood;
  for (const std::uint32_t version : {0U, 2U, 0x100U, 0xFFFFFFFFU}) {
    header.version = version;
    EXPECT_EQ(error_of(header), (ParseError{ParseErrorKind::kUnknownVersion, 0}));
  }
}

TEST(LinuxUnaccepted, RefusesAUnitThatIsNoPageSizedPowerOfTwo) {
  TableHeader header = kGood;
  for (const std::uint32_t unit : {0U, 1U, 0x800U, 0x1001U, 0x300000U, 0xFFFFFFFFU}) {
    header.unit_size = unit;
    EXPECT_EQ(error_of(header), (ParseError{ParseErrorKind::kBadUnitSize, 4})) << unit;
  }
}

TEST(LinuxUnaccepted, RefusesABaseBetweenUnits) {
  TableHeader header = kGood;
  for (const std::uint64_t base : {std::uint64_t{1}, std::uint64_t{0x100000}, kMax}) {
    header.phys_base = base;
    EXPECT_EQ(error_of(header), (ParseError{ParseErrorKind::kUnalignedBase, 8})) << base;
  }
}

TEST(LinuxUnaccepted, RefusesASizeWhoseCoverageOverflows) {
  TableHeader header = kGood;
  for (const std::uint64_t size :
       {kMax, kMax / 8, kMax / 8 / 0x200000 + 1, std::uint64_t{1} << 40}) {
    header.bitmap_bytes = size;
    EXPECT_EQ(error_of(header), (ParseError{ParseErrorKind::kCoverageOverflow, 16})) << size;
  }
}

TEST(LinuxUnaccepted, RefusesCoverageThatReachesTheTop) {
  TableHeader header = kGood;
  header.phys_base = kMax - 16 * 0x200000 + 1;
  header.bitmap_bytes = 2;
  EXPECT_EQ(error_of(header), (ParseError{ParseErrorKind::kCoverageOverflow, 16}));
  header.bitmap_bytes = 1;
  EXPECT_TRUE(parse_header(table(header, 1)));
}

TEST(LinuxUnaccepted, RefusesABitmapLongerThanTheBytes) {
  EXPECT_EQ(error_of(kGood, 639), (ParseError{ParseErrorKind::kTruncatedBitmap, 16}));
  EXPECT_EQ(error_of(kGood, 0), (ParseError{ParseErrorKind::kTruncatedBitmap, 16}));
}

TEST(LinuxUnaccepted, NamesTheFirstFieldThatIsWrong) {
  TableHeader header{.version = 9, .unit_size = 9, .phys_base = 9, .bitmap_bytes = kMax};
  EXPECT_EQ(error_of(header).offset, 0U);
  header.version = 1;
  EXPECT_EQ(error_of(header).offset, 4U);
  header.unit_size = 4096;
  EXPECT_EQ(error_of(header).offset, 8U);
  header.phys_base = 4096;
  EXPECT_EQ(error_of(header).offset, 16U);
}

TEST(LinuxUnaccepted, EveryErrorHasATextOfItsOwn) {
  using enum ParseErrorKind;
  std::set<std::string_view> texts;
  for (const auto kind : {kTruncatedHeader, kUnknownVersion, kBadUnitSize, kUnalignedBase,
                          kCoverageOverflow, kTruncatedBitmap}) {
    EXPECT_FALSE(to_string(kind).starts_with("unknown"));
    EXPECT_EQ(to_string(kind).find('\n'), std::string_view::npos);
    texts.insert(to_string(kind));
  }
  EXPECT_EQ(texts.size(), 6U);
  EXPECT_TRUE(to_string(static_cast<ParseErrorKind>(99)).starts_with("unknown"));
}

}  // namespace
}  // namespace accede::abi::linux_unaccepted
