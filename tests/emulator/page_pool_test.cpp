#include "accede/emulator/page_pool.hpp"

#include "tests/emulator/guest_ram.hpp"

#include <gtest/gtest.h>

#include <array>
#include <set>

namespace accede::emulator {
namespace {

using test::GuestRam;

TEST(PagePool, HandsOutEveryPageOnceAndThenNone) {
  const GuestRam ram{1_MiB};
  PagePool pool{ram.window(), PhysAddr{0x10000}, PhysAddr{0x14000}};
  EXPECT_EQ(pool.available(), 4U);
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 4; ++i) {
    const auto page = pool.allocate();
    ASSERT_TRUE(page.has_value());
    EXPECT_TRUE(test::range_of(0x10000, 0x14000).contains(*page));
    EXPECT_TRUE(page->is_aligned(4_KiB));
    EXPECT_TRUE(seen.insert(page->value()).second);
  }
  EXPECT_FALSE(pool.allocate().has_value());
  EXPECT_EQ(pool.available(), 0U);
}

TEST(PagePool, GivesAReturnedPageAgainAndZeroed) {
  const GuestRam ram{1_MiB};
  PagePool pool{ram.window(), PhysAddr{0x10000}, PhysAddr{0x11000}};
  const PhysAddr page = pool.allocate().value();
  for (std::uint64_t offset = 0; offset < 4096; offset += 8) {
    ram.at<std::uint64_t>(page + Bytes{offset}) = ~0ULL;
  }
  pool.free(page);
  EXPECT_EQ(pool.available(), 1U);
  ASSERT_EQ(pool.allocate(), page);
  for (std::uint64_t offset = 0; offset < 4096; offset += 8) {
    EXPECT_EQ(ram.at<std::uint64_t>(page + Bytes{offset}), 0U) << offset;
  }
}

TEST(PagePool, DoesNotTouchPagesThatNobodyAskedFor) {
  const GuestRam ram{1_MiB};
  ram.at<std::uint64_t>(PhysAddr{0x11000}) = 42;
  PagePool pool{ram.window(), PhysAddr{0x10000}, PhysAddr{0x12000}};
  pool.free(pool.allocate().value());
  EXPECT_EQ(ram.at<std::uint64_t>(PhysAddr{0x11000}), 42U);
}

TEST(PagePool, KeepsReturnedPagesInAnyOrder) {
  const GuestRam ram{1_MiB};
  PagePool pool{ram.window(), PhysAddr{0x10000}, PhysAddr{0x18000}};
  std::array<PhysAddr, 8> pages{};
  for (PhysAddr& page : pages) {
    page = pool.allocate().value();
  }
  for (const std::size_t i : {3U, 0U, 7U, 1U, 6U, 2U, 5U, 4U}) {
    pool.free(pages[i]);
  }
  std::set<std::uint64_t> seen;
  while (const auto page = pool.allocate()) {
    EXPECT_TRUE(seen.insert(page->value()).second);
  }
  EXPECT_EQ(seen.size(), pages.size());
}

}  // namespace
}  // namespace accede::emulator
