#include "accede/firmware/efi_memory_map.hpp"

#include "accede/abi/efi.hpp"
#include "tests/firmware/made_up_hobs.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace accede::firmware {
namespace {

using abi::efi::MemoryMapView;
using abi::efi::MemoryType;
using guest::MemoryKind;
using guest::MemoryMap;
using guest::MemoryRegion;
using test::range;

MemoryMap map_of(std::vector<MemoryRegion>& regions) {
  return MemoryMap::from_regions(regions).value();
}

TEST(EfiMemoryMapWriter, EveryKindHasItsTypeAndAttributes) {
  struct Case {
    MemoryKind kind;
    MemoryType type;
    std::uint64_t attribute;
  };
  for (const Case& given : std::vector<Case>{
           {MemoryKind::kUsable, MemoryType::kConventional, 0xF},
           {MemoryKind::kUnaccepted, MemoryType::kUnaccepted, 0xF},
           {MemoryKind::kReserved, MemoryType::kReserved, 0},
           {MemoryKind::kAcpiReclaim, MemoryType::kAcpiReclaim, 0xF},
           {MemoryKind::kAcpiNvs, MemoryType::kAcpiNvs, 0xF},
           {MemoryKind::kUnusable, MemoryType::kUnusable, 0xF},
           {MemoryKind::kPersistent, MemoryType::kPersistent, 0x800F},
       }) {
    std::vector<MemoryRegion> regions{{range(0x3000, 0x8000), given.kind}};
    std::vector<std::byte> buffer(48, std::byte{0xA5});
    const auto written = write_efi_map(map_of(regions), 48, buffer);
    ASSERT_TRUE(written.has_value());
    const auto descriptor = (*MemoryMapView::make(*written, 48))[0];
    EXPECT_EQ(descriptor.type, static_cast<std::uint32_t>(given.type));
    EXPECT_EQ(descriptor.physical_start, 0x3000U);
    EXPECT_EQ(descriptor.number_of_pages, 5U);
    EXPECT_EQ(descriptor.attribute, given.attribute);
    EXPECT_EQ(descriptor.virtual_start, 0U);
    EXPECT_TRUE(
        std::ranges::all_of(written->subspan(40), [](std::byte b) { return b == std::byte{}; }));
  }
}

TEST(EfiMemoryMapWriter, PutsDescriptorsAsFarApartAsTheCallerSays) {
  std::vector<MemoryRegion> regions{{range(0, 0x1000), MemoryKind::kUsable},
                                    {range(0x1000, 0x2000), MemoryKind::kUnaccepted}};
  const MemoryMap map = map_of(regions);
  for (std::size_t stride = 40; stride < 100; ++stride) {
    std::vector<std::byte> buffer(2 * stride);
    const auto written = write_efi_map(map, stride, buffer);
    ASSERT_TRUE(written.has_value());
    ASSERT_EQ(written->size(), 2 * stride);
    const auto view = *MemoryMapView::make(*written, stride);
    ASSERT_EQ(view.range(1), range(0x1000, 0x2000));
  }
}

TEST(EfiMemoryMapWriter, RefusesABufferThatIsTooSmallAndSaysWhatItNeeds) {
  std::vector<MemoryRegion> regions{{range(0, 0x1000), MemoryKind::kUsable},
                                    {range(0x1000, 0x2000), MemoryKind::kUnaccepted}};
  const MemoryMap map = map_of(regions);
  for (const std::size_t room : {0U, 48U, 95U}) {
    std::vector<std::byte> buffer(room);
    const auto written = write_efi_map(map, 48, buffer);
    ASSERT_FALSE(written.has_value());
    EXPECT_EQ(written.error(), (EfiMapError{EfiMapErrorKind::kBufferTooSmall, 96}));
  }
}

TEST(EfiMemoryMapWriter, RefusesARegionThatIsNotPageAligned) {
  std::vector<MemoryRegion> regions{{range(0, 0x1000), MemoryKind::kUsable},
                                    {range(0x1000, 0x1800), MemoryKind::kReserved}};
  std::vector<std::byte> buffer(96);
  const auto written = write_efi_map(map_of(regions), 48, buffer);
  ASSERT_FALSE(written.has_value());
  EXPECT_EQ(written.error(), (EfiMapError{EfiMapErrorKind::kUnaligned, 1}));
}

TEST(EfiMemoryMapWriter, EveryErrorHasItsOwnText) {
  EXPECT_NE(to_string(EfiMapErrorKind::kUnaligned), to_string(EfiMapErrorKind::kBufferTooSmall));
  EXPECT_NE(to_string(static_cast<EfiMapErrorKind>(255)), to_string(EfiMapErrorKind::kUnaligned));
}

TEST(EfiMemoryMapWriter, AReportedSizeThatMakesNoSenseCannotBeAllocated) {
  const Bytes most{~0ULL};
  EXPECT_EQ(efi_map_allocation(most, 0, 48), most);
  EXPECT_EQ(efi_map_allocation(Bytes{0}, 1, ~0ULL), most);
  EXPECT_EQ(efi_map_allocation(Bytes{0}, ~0ULL, 48), most);
  EXPECT_EQ(efi_map_allocation(Bytes{96}, 0, 0), Bytes{96});
}

/// Every second page is unaccepted, the others are reserved.
std::vector<MemoryRegion> many_unaccepted(std::uint64_t count) {
  std::vector<MemoryRegion> regions;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t at = i * 0x2000;
    regions.push_back({range(at, at + 0x1000), MemoryKind::kUnaccepted});
    regions.push_back({range(at + 0x1000, at + 0x2000), MemoryKind::kReserved});
  }
  return regions;
}

TEST(EfiMemoryMapWriter, Regression_E03_TheReportedSizeCountsUnacceptedRanges) {
  for (const std::uint64_t count : {0U, 1U, 9U, 100U}) {
    std::vector<MemoryRegion> regions = many_unaccepted(count);
    const MemoryMap map = map_of(regions);
    // Not one byte behind what was reported is written.
    std::vector<std::byte> buffer(efi_map_size(map, 48).value() + 64, std::byte{0xA5});
    const auto written = write_efi_map(map, 48, buffer);
    ASSERT_TRUE(written.has_value());
    EXPECT_EQ(written->size(), 2 * count * 48);
    EXPECT_TRUE(std::ranges::all_of(std::span{buffer}.subspan(written->size()),
                                    [](std::byte b) { return b == std::byte{0xA5}; }));
  }
}

TEST(EfiMemoryMapWriter, Regression_E03_TheAllocationHoldsWhatOldFirmwareForgetsToCount) {
  for (const std::uint64_t count : {0U, 1U, 9U, 100U}) {
    std::vector<MemoryRegion> regions = many_unaccepted(count);
    const MemoryMap map = map_of(regions);
    const Bytes forgotten = Bytes{count} * 48;
    const Bytes reported = efi_map_size(map, 48) - forgotten;
    EXPECT_EQ(efi_map_allocation(reported, count, 48), efi_map_size(map, 48) + Bytes{8 * 48});
  }
}

}  // namespace
}  // namespace accede::firmware
