#include "accede/emulator/touched_pages.hpp"

#include "tests/emulator/guest_ram.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace accede::emulator {
namespace {

using test::pages_at;

TEST(TouchedPages, NeedsABitAPageRoundedUpToWords) {
  EXPECT_EQ(TouchedPages::storage_bound(PhysAddr{0}), Bytes{0});
  EXPECT_EQ(TouchedPages::storage_bound(PhysAddr{4096}), Bytes{8});
  EXPECT_EQ(TouchedPages::storage_bound(PhysAddr{64 * 4096}), Bytes{8});
  EXPECT_EQ(TouchedPages::storage_bound(PhysAddr{65 * 4096}), Bytes{16});
  EXPECT_EQ(TouchedPages::storage_bound(PhysAddr{1ULL << 30}), 32_KiB);
}

TEST(TouchedPages, MarksExactlyTheRange) {
  std::vector<std::uint64_t> words(4);
  TouchedPages touched{words};
  touched.mark(pages_at(63 * 4096, 66));
  for (std::uint64_t page = 0; page < 256; ++page) {
    EXPECT_EQ(touched.test(PhysAddr{page * 4096}), page >= 63 && page < 129) << page;
  }
}

TEST(TouchedPages, AnswersForAnyAddressInAPage) {
  std::vector<std::uint64_t> words(1);
  TouchedPages touched{words};
  touched.mark(pages_at(0x3000, 1));
  EXPECT_TRUE(touched.test(PhysAddr{0x3FFF}));
  EXPECT_FALSE(touched.test(PhysAddr{0x4000}));
  EXPECT_FALSE(touched.test(PhysAddr{0x2FFF}));
}

TEST(TouchedPages, AgreesWithANaiveSetUnderRandomRanges) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random{seed};
  constexpr std::uint64_t kPages = 1000;
  std::vector<std::uint64_t> words((kPages + 63) / 64);
  TouchedPages touched{words};
  std::vector<bool> naive(kPages);
  for (int round = 0; round < 40; ++round) {
    const std::uint64_t begin = random() % kPages;
    const std::uint64_t count = random() % std::min<std::uint64_t>(kPages - begin + 1, 100);
    touched.mark(pages_at(begin * 4096, count));
    std::fill_n(naive.begin() + static_cast<std::ptrdiff_t>(begin), count, true);
    for (std::uint64_t page = 0; page < kPages; ++page) {
      ASSERT_EQ(touched.test(PhysAddr{page * 4096}), naive[page]) << page;
    }
  }
}

}  // namespace
}  // namespace accede::emulator
