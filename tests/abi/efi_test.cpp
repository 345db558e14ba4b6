#include "accede/abi/efi.hpp"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

namespace accede::abi::efi {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

MemoryDescriptor descriptor(MemoryType type, std::uint64_t start, std::uint64_t pages) {
  return {.type = static_cast<std::uint32_t>(type),
          .padding = 0,
          .physical_start = start,
          .virtual_start = 0,
          .number_of_pages = pages,
          .attribute = 0xF};
}

/// A memory map as firmware writes it: descriptors `stride` bytes apart, rubbish between them.
std::vector<std::byte> map_of(std::span<const MemoryDescriptor> descriptors, std::size_t stride) {
  std::vector<std::byte> map(descriptors.size() * stride, std::byte{0xA5});
  for (std::size_t i = 0; i < descriptors.size(); ++i) {
    const auto raw = std::bit_cast<std::array<std::byte, sizeof(MemoryDescriptor)>>(descriptors[i]);
    for (std::size_t j = 0; j < raw.size(); ++j) {
      map[i * stride + j] = raw[j];
    }
  }
  return map;
}

std::optional<PhysRange> range_of(std::uint64_t start, std::uint64_t pages) {
  const std::array one{descriptor(MemoryType::kUnaccepted, start, pages)};
  const auto map = map_of(one, sizeof(MemoryDescriptor));
  return MemoryMapView::make(map, sizeof(MemoryDescriptor))->range(0);
}

TEST(Efi, GuidsLieInMemoryAsTheSpecificationsPrintThem) {
  constexpr std::array<std::uint8_t, 16> kAccept{0x00, 0x48, 0xC7, 0x38, 0x90, 0x55, 0xB4, 0x4D,
                                                 0xA0, 0xF3, 0x67, 0x5D, 0x9B, 0x8E, 0x80, 0x26};
  constexpr std::array<std::uint8_t, 16> kHandshake{0xFE, 0x10, 0xA0, 0xC5, 0xA7, 0x38, 0x31, 0x45,
                                                    0x8A, 0x4A, 0x05, 0x00, 0xD2, 0xFD, 0x16, 0x49};
  EXPECT_EQ((std::bit_cast<std::array<std::uint8_t, 16>>(kMemoryAcceptProtocol)), kAccept);
  EXPECT_EQ((std::bit_cast<std::array<std::uint8_t, 16>>(kMemoryAcceptanceHandshakeProtocol)),
            kHandshake);
}

TEST(Efi, ErrorsHaveTheTopBit) {
  EXPECT_FALSE(is_error(Status::kSuccess));
  EXPECT_FALSE(is_error(static_cast<Status>(4)));
  EXPECT_TRUE(is_error(Status::kLoadError));
  EXPECT_TRUE(is_error(Status::kNotFound));
}

TEST(EfiMemoryMap, AdvancesByTheStrideOfTheFirmware) {
  const std::array descriptors{descriptor(MemoryType::kConventional, 0x100000, 0x100),
                               descriptor(MemoryType::kUnaccepted, 0x1'0000'0000, 0x80000)};
  for (const std::size_t stride : {40U, 48U, 56U, 41U, 4096U}) {
    const auto map = map_of(descriptors, stride);
    const auto view = MemoryMapView::make(map, stride);
    ASSERT_TRUE(view);
    ASSERT_EQ(view->size(), 2U) << stride;
    EXPECT_EQ((*view)[0].type, 7U);
    EXPECT_EQ((*view)[1].type, 15U);
    EXPECT_EQ(view->range(1),
              PhysRange::make(PhysAddr{0x1'0000'0000}, PhysAddr{0x1'8000'0000}).value());
  }
}

TEST(EfiMemoryMap, RefusesAStrideSmallerThanADescriptor) {
  const std::vector<std::byte> map(480);
  EXPECT_FALSE(MemoryMapView::make(map, 0));
  EXPECT_FALSE(MemoryMapView::make(map, 1));
  EXPECT_FALSE(MemoryMapView::make(map, 39));
  EXPECT_TRUE(MemoryMapView::make(map, 40));
}

TEST(EfiMemoryMap, HasNoEntryThatDoesNotFitWholly) {
  const std::vector<std::byte> map(100);
  EXPECT_EQ(MemoryMapView::make(map, 48)->size(), 2U);
  EXPECT_EQ(MemoryMapView::make(std::span{map}.first(95), 48)->size(), 1U);
  EXPECT_EQ(MemoryMapView::make(std::span{map}.first(39), 40)->size(), 0U);
  EXPECT_EQ(MemoryMapView::make({}, 40)->size(), 0U);
  EXPECT_EQ(MemoryMapView::make(map, std::numeric_limits<std::size_t>::max())->size(), 0U);
}

TEST(EfiMemoryMapDeathTest, StopsAtAnIndexBeyondTheEnd) {
  const std::vector<std::byte> map(48);
  const auto view = MemoryMapView::make(map, 48).value();
  EXPECT_DEATH(static_cast<void>(view[1]), "");
  EXPECT_DEATH(static_cast<void>(view.range(1)), "");
}

TEST(EfiMemoryMap, GivesNoRangeForAnUnalignedStart) {
  EXPECT_FALSE(range_of(0x1001, 1));
  EXPECT_FALSE(range_of(kMax, 1));
}

TEST(EfiMemoryMap, GivesNoRangeThatWraps) {
  EXPECT_FALSE(range_of(0x1000, kMax));
  EXPECT_FALSE(range_of(0x1000, kMax / 4096 + 1));
  EXPECT_FALSE(range_of(kMax - 4095, 1));
  EXPECT_FALSE(range_of(0x2000, kMax / 4096));
}

TEST(EfiMemoryMap, GivesTheLargestRangeThatDoesNotWrap) {
  EXPECT_EQ(range_of(0, kMax / 4096), PhysRange::make(PhysAddr{0}, PhysAddr{kMax - 4095}).value());
}

TEST(EfiMemoryMap, GivesAnEmptyRangeForADescriptorOfNoPages) {
  ASSERT_TRUE(range_of(0x1000, 0));
  EXPECT_TRUE(range_of(0x1000, 0)->empty());
}

TEST(EfiMemoryMap, ReadsADescriptorAtAnyAlignment) {
  const std::array one{descriptor(MemoryType::kPersistent, 0x5000, 3)};
  auto map = map_of(one, 40);
  map.insert(map.begin(), std::byte{0});
  const auto view = MemoryMapView::make(std::span{map}.subspan(1), 40);
  EXPECT_EQ((*view)[0].physical_start, 0x5000U);
  EXPECT_EQ((*view)[0].attribute, 0xFU);
}

}  // namespace
}  // namespace accede::abi::efi
