#include "accede/firmware/place.hpp"

#include "tests/firmware/made_up_linux.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace accede::firmware {
namespace {

using guest::MemoryKind;
using guest::MemoryMap;
using guest::MemoryRegion;
using test::debian_header;
using test::range;
using test::setup_of;

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kGiB = 1 << 30;

class Place : public testing::Test {
 protected:
  void add(MemoryKind kind, std::uint64_t begin, std::uint64_t end) {
    regions_.push_back({.range = range(begin, end), .kind = kind});
  }
  std::optional<PhysRange> find(const PlaceNeeds& needs, std::span<const PhysRange> taken = {},
                                MemoryKind kind = MemoryKind::kUnaccepted) {
    return find_place(MemoryMap::from_regions(regions_).value(), kind, needs, taken);
  }

  std::vector<MemoryRegion> regions_;
};

TEST_F(Place, IsTheLowestOfItsKind) {
  add(MemoryKind::kUsable, 0, kGiB);
  add(MemoryKind::kUnaccepted, 4 * kGiB, 6 * kGiB);
  EXPECT_EQ(find({.size = 2_MiB}), range(4 * kGiB, 4 * kGiB + 2 * kMiB));
  EXPECT_EQ(find({.size = 2_MiB}, {}, MemoryKind::kUsable), range(0, 2 * kMiB));
}

TEST_F(Place, IsAligned) {
  add(MemoryKind::kUnaccepted, 4 * kGiB + 0x3000, 5 * kGiB);
  EXPECT_EQ(find({.size = 4_KiB, .alignment = 2_MiB}),
            range(4 * kGiB + 2 * kMiB, 4 * kGiB + 2 * kMiB + 4096));
}

TEST_F(Place, KeepsItsBounds) {
  add(MemoryKind::kUnaccepted, kGiB, 3 * kGiB);
  EXPECT_EQ(find({.size = 1_GiB, .lowest = PhysAddr{2 * kGiB}}), range(2 * kGiB, 3 * kGiB));
  EXPECT_EQ(find({.size = 1_GiB, .limit = PhysAddr{2 * kGiB}}), range(kGiB, 2 * kGiB));
  EXPECT_EQ(find({.size = 1_GiB, .lowest = PhysAddr{kGiB + 1}, .limit = PhysAddr{2 * kGiB}}),
            std::nullopt);
  EXPECT_EQ(find({.size = 4_KiB, .limit = PhysAddr{kGiB}}), std::nullopt);
}

TEST_F(Place, GoesToTheNextRegionWhenOneIsTooSmall) {
  add(MemoryKind::kUnaccepted, kGiB, kGiB + 0x1000);
  add(MemoryKind::kUnaccepted, 2 * kGiB, 3 * kGiB);
  EXPECT_EQ(find({.size = 8_KiB}), range(2 * kGiB, 2 * kGiB + 0x2000));
}

TEST_F(Place, AvoidsWhatIsTaken) {
  add(MemoryKind::kUnaccepted, 0, 10 * kMiB);
  const std::vector taken{range(5 * kMiB, 6 * kMiB), range(0, 4096), range(2 * kMiB, 3 * kMiB)};
  EXPECT_EQ(find({.size = 2_MiB, .alignment = 2_MiB}, taken), range(6 * kMiB, 8 * kMiB));
  EXPECT_EQ(find({.size = 5_MiB}, taken), std::nullopt);
}

TEST_F(Place, IsThePreferredOneWhenThatIsFree) {
  add(MemoryKind::kUnaccepted, 0, kGiB);
  const PlaceNeeds needs{.size = 1_MiB, .alignment = 2_MiB, .preferred = PhysAddr{17 * kMiB}};
  EXPECT_EQ(find(needs), range(17 * kMiB, 18 * kMiB));
  const std::vector taken{range(17 * kMiB + 5, 17 * kMiB + 6)};
  EXPECT_EQ(find(needs, taken), range(0, kMiB));
}

TEST_F(Place, IsOnlyThePreferredOneWhenNothingElseWillDo) {
  add(MemoryKind::kUnaccepted, kGiB, 2 * kGiB);
  EXPECT_EQ(find({.size = 1_MiB, .preferred = PhysAddr{16 * kMiB}, .only_preferred = true}),
            std::nullopt);
  EXPECT_EQ(find({.size = 1_MiB, .preferred = PhysAddr{kGiB}, .only_preferred = true}),
            range(kGiB, kGiB + kMiB));
}

TEST_F(Place, DoesNotExistForAnInitrdThatIsLargerThanMemory) {
  add(MemoryKind::kUsable, 0, kGiB);
  add(MemoryKind::kUnaccepted, 4 * kGiB, 5 * kGiB);
  const LinuxSetup setup = setup_of(debian_header());
  EXPECT_TRUE(find(setup.initrd_place(1_GiB)).has_value());
  EXPECT_EQ(find(setup.initrd_place(1_GiB + 1_B)), std::nullopt);
  EXPECT_EQ(find(setup.initrd_place(Bytes{~0ULL})), std::nullopt);
}

TEST_F(Place, OfAKernelIsAtItsPreferredAddressOrAlignedAbove) {
  add(MemoryKind::kUsable, 0, 2 * kGiB);
  const PlaceNeeds needs = setup_of(debian_header()).kernel_place();
  EXPECT_EQ(find(needs, {}, MemoryKind::kUsable), range(16 * kMiB, 64 * kMiB));
  const std::vector taken{range(20 * kMiB, 21 * kMiB)};
  EXPECT_EQ(find(needs, taken, MemoryKind::kUsable), range(22 * kMiB, 70 * kMiB));
}

TEST_F(Place, NearTheEndOfTheAddressSpaceDoesNotWrap) {
  add(MemoryKind::kUnaccepted, ~0ULL - 0x1FFF - 0xFFF, ~0ULL - 0xFFF);
  const std::uint64_t begin = ~0ULL - 0x2FFF + 1 - 1;
  regions_ = {{.range = range(begin & ~0xFFFULL, ~0xFFFULL), .kind = MemoryKind::kUnaccepted}};
  EXPECT_EQ(find({.size = 4_KiB, .alignment = 1_GiB}), std::nullopt);
  EXPECT_EQ(find({.size = Bytes{~0ULL}}), std::nullopt);
}

TEST(PlaceNeeds, AreMetBySuchARange) {
  const PlaceNeeds needs{.size = 8_KiB,
                         .alignment = 8_KiB,
                         .lowest = PhysAddr{0x4000},
                         .limit = PhysAddr{0x9000},
                         .preferred = PhysAddr{0x5000}};
  EXPECT_TRUE(needs.met_by(range(0x4000, 0x6000)));
  EXPECT_TRUE(needs.met_by(range(0x5000, 0x7000)));
  EXPECT_TRUE(needs.met_by(range(0x6000, 0x9000)));
  EXPECT_FALSE(needs.met_by(range(0x7000, 0x9000)));
  EXPECT_FALSE(needs.met_by(range(0x2000, 0x4000)));
  EXPECT_FALSE(needs.met_by(range(0x8000, 0xA000)));
  EXPECT_FALSE(needs.met_by(range(0x4000, 0x5000)));
}

}  // namespace
}  // namespace accede::firmware
