#include "accede/firmware/identity_map.hpp"

#include "tests/firmware/made_up_linux.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

namespace accede::firmware {
namespace {

using Levels = IdentityMap::Levels;
using test::range;

constexpr unsigned long long kGiB = 1 << 30;
constexpr PhysAddr kWhere{0x7000'0000};

/// Walks as the processor does; nothing: a page fault.
std::optional<std::uint64_t> walk(const std::vector<PageTable>& tables, Levels levels,
                                  std::uint64_t address) {
  std::size_t table = 0;
  for (unsigned shift = levels == Levels::k5 ? 48 : 39;; shift -= 9) {
    const std::uint64_t entry = tables.at(table).entries[address >> shift & 511];
    if ((entry & 3) != 3) {
      return std::nullopt;
    }
    const std::uint64_t target = entry & 0x000F'FFFF'FFFF'F000;
    if (shift <= 30 && (entry & 0x80) != 0) {
      return target + (address & ((1ULL << shift) - 1));
    }
    if (shift == 12 || (entry & 0x80) != 0) {
      ADD_FAILURE() << "a leaf of the wrong size";
      return std::nullopt;
    }
    table = (target - kWhere.value()) / 4096;
  }
}

class IdentityMaps : public testing::TestWithParam<std::tuple<PageSize, Levels>> {
 protected:
  PageSize leaf() const { return std::get<0>(GetParam()); }
  Levels levels() const { return std::get<1>(GetParam()); }
};

TEST_P(IdentityMaps, MapEveryRangeAtItsOwnAddressInAsManyTablesAsTheySay) {
  const std::vector ranges{range(0, 4 * kGiB), range(5 * kGiB + 0x1000, 7 * kGiB),
                           range((1ULL << 46) - 1, (1ULL << 46) + 1), range(6 * kGiB, 6 * kGiB)};
  std::vector<PageTable> tables(IdentityMap::tables_for(ranges, leaf(), levels()));
  for (auto& table : tables) {
    table.entries.fill(~0ULL);
  }
  IdentityMap map{tables, kWhere, leaf(), levels()};
  for (const PhysRange one : ranges) {
    ASSERT_TRUE(map.map(one));
  }
  EXPECT_EQ(map.root(), kWhere);
  for (const std::uint64_t inside :
       {0ULL, 4 * kGiB - 1, 5 * kGiB + 0x1000, 7 * kGiB - 1, (1ULL << 46) - 1, 1ULL << 46}) {
    EXPECT_EQ(walk(tables, levels(), inside), inside) << std::hex << inside;
  }
  for (const std::uint64_t outside : {4 * kGiB, 7 * kGiB, 1ULL << 45, (1ULL << 46) + kGiB}) {
    EXPECT_EQ(walk(tables, levels(), outside), std::nullopt) << std::hex << outside;
  }
}

TEST_P(IdentityMaps, SayWhenTheirTablesDoNotSuffice) {
  const std::vector ranges{range(0, kGiB)};
  const std::size_t needed = IdentityMap::tables_for(ranges, leaf(), levels());
  for (std::size_t count = 1; count < needed; ++count) {
    std::vector<PageTable> tables(count);
    IdentityMap map{tables, kWhere, leaf(), levels()};
    EXPECT_FALSE(map.map(ranges[0])) << count;
  }
}

TEST_P(IdentityMaps, RefuseWhatHasNoAddressOfItsOwn) {
  std::vector<PageTable> tables(16);
  IdentityMap map{tables, kWhere, leaf(), levels()};
  const std::uint64_t reach = levels() == Levels::k5 ? 1ULL << 52 : 1ULL << 47;
  EXPECT_TRUE(map.map(range(reach - 0x1000, reach)));
  EXPECT_FALSE(map.map(range(reach - 0x1000, reach + 1)));
  EXPECT_FALSE(map.map(range(0, ~0ULL)));
}

INSTANTIATE_TEST_SUITE_P(AllKinds, IdentityMaps,
                         testing::Combine(testing::Values(PageSize::k2M, PageSize::k1G),
                                          testing::Values(Levels::k4, Levels::k5)));

}  // namespace
}  // namespace accede::firmware
