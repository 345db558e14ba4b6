// Editing page tables in use. What maps what is computed by a walk of its own, before and after.

#include "accede/efi/page_privacy.hpp"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <memory>
#include <optional>

namespace accede::efi {
namespace {

constexpr std::uint64_t kCBit = 1ULL << 47;
constexpr std::uint64_t kAddress = 0x000F'FFFF'FFFF'F000;
constexpr std::uint64_t kPresent = 1;
constexpr std::uint64_t kWritable = 2;
constexpr std::uint64_t kUser = 4;
constexpr std::uint64_t kLarge = 1 << 7;
constexpr std::uint64_t kPat4K = 1 << 7;
constexpr std::uint64_t kPatLarge = 1 << 12;
/// Read-only, write-through, accessed, dirty, global, a software bit, a protection key, no execute.
constexpr std::uint64_t kManyFlags =
    kPresent | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 9 | 5ULL << 59 | 1ULL << 63;

constexpr std::uint64_t kTableSpace = 0x10000;
constexpr std::uint64_t kRoot = 0x1000;
constexpr std::uint64_t kSpare = 0x8000;

struct Leaf {
  std::uint64_t flags;  ///< without address, size and PAT
  bool pat;
  std::uint64_t target;
  unsigned shift;
  std::uint64_t pointers_or;   ///< of all entries above
  std::uint64_t pointers_and;  ///< rights: all must allow
};

class PagePrivacyTest : public testing::Test {
 protected:
  PagePrivacyTest() { bytes_->fill(std::byte{0xEE}); }

  std::uint64_t* table(std::uint64_t at) { return window_.pointer<std::uint64_t>(PhysAddr{at}); }
  std::uint64_t* new_table(std::uint64_t at) {
    std::fill_n(table(at), 512, 0);
    return table(at);
  }
  /// Four levels with a 1 GiB leaf at 1 GiB.
  void map_gib(std::uint64_t flags) {
    new_table(kRoot)[0] = 0x2000 | pointer_;
    new_table(0x2000)[1] = (1ULL << 30) | kLarge | flags;
  }
  /// Four levels with a 2 MiB leaf at 1 GiB + 4 MiB.
  void map_2m(std::uint64_t flags) {
    new_table(kRoot)[0] = 0x2000 | pointer_;
    new_table(0x2000)[1] = 0x3000 | pointer_;
    new_table(0x3000)[2] = (1ULL << 30) | 4ULL << 20 | kLarge | flags;
  }

  [[nodiscard]] std::optional<Leaf> walk(std::uint64_t address) {
    std::uint64_t at = kRoot;
    Leaf leaf{
        .flags = 0, .pat = false, .target = 0, .shift = 0, .pointers_or = 0, .pointers_and = ~0ULL};
    for (unsigned shift = five_levels_ ? 48 : 39;; shift -= 9) {
      const std::uint64_t entry = table(at)[address >> shift & 511];
      if ((entry & kPresent) == 0) {
        return std::nullopt;
      }
      const bool large = shift != 12 && shift <= 30 && (entry & kLarge) != 0;
      if (shift == 12 || large) {
        const std::uint64_t pat = large ? kPatLarge : kPat4K;
        const std::uint64_t in = (1ULL << shift) - 1;
        leaf.pat = (entry & pat) != 0;
        leaf.target = (entry & kAddress & ~kCBit & ~in) | (address & in);
        leaf.flags = entry & ~(kAddress & ~kCBit) & ~pat & ~(large ? kLarge : 0);
        leaf.shift = shift;
        return leaf;
      }
      leaf.pointers_or |= entry;
      leaf.pointers_and &= entry;
      at = entry & kAddress & ~kCBit;
    }
  }

  std::expected<void, PrivacyError> set(std::uint64_t page, bool is_private,
                                        Bytes spare = kMostSplitTables) {
    return set_page_private({.window = window_,
                             .root = PhysAddr{kRoot},
                             .five_levels = five_levels_,
                             .private_mask = kCBit},
                            PhysAddr{page}, is_private, *PhysRange::make(PhysAddr{kSpare}, spare));
  }

  /// `page` became shared, and of every 4 KiB page from `begin` on nothing else changed.
  void expect_only_changed(std::uint64_t page, std::uint64_t begin, std::uint64_t end,
                           const Leaf& before) {
    for (std::uint64_t at = begin; at < end; at += 4096) {
      const auto after = walk(at);
      ASSERT_TRUE(after.has_value()) << at;
      ASSERT_EQ(after->target, at);
      ASSERT_EQ(after->pat, before.pat) << at;
      ASSERT_EQ(after->flags, at == page ? before.flags ^ kCBit : before.flags) << at;
      ASSERT_EQ(after->pointers_and & (kPresent | kWritable | kUser), kPresent | kWritable | kUser);
    }
  }

  using Space = std::array<std::byte, kTableSpace>;
  struct alignas(4096) Aligned : Space {};
  std::unique_ptr<Aligned> bytes_ = std::make_unique<Aligned>();
  PhysWindow window_{reinterpret_cast<std::uintptr_t>(bytes_.get())};
  std::uint64_t pointer_ = kPresent | kWritable | kUser;
  bool five_levels_ = false;
};

constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr std::uint64_t kMiB = 1ULL << 20;

TEST_F(PagePrivacyTest, SplitsA2MPageAndChangesOnePage) {
  for (const std::uint64_t pat : {std::uint64_t{0}, kPatLarge}) {
    map_2m(kManyFlags | kCBit | pat);
    const std::uint64_t begin = kGiB + 4 * kMiB;
    const Leaf before = walk(begin).value();
    ASSERT_EQ(before.pat, pat != 0);
    ASSERT_TRUE(set(begin + 0x5000, false).has_value());
    EXPECT_EQ(walk(begin)->shift, 12U);
    expect_only_changed(begin + 0x5000, begin, begin + 2 * kMiB, before);
  }
}

TEST_F(PagePrivacyTest, SplitsA1GPageTwiceAndChangesOnePage) {
  for (const std::uint64_t pat : {std::uint64_t{0}, kPatLarge}) {
    map_gib(kManyFlags | kCBit | pat);
    const Leaf before = walk(kGiB).value();
    const std::uint64_t page = kGiB + 7 * kMiB + 0x3000;
    ASSERT_TRUE(set(page, false).has_value());
    EXPECT_EQ(walk(page)->shift, 12U);
    EXPECT_EQ(walk(kGiB)->shift, 21U) << "only what holds the page becomes small";
    expect_only_changed(page, kGiB, 2 * kGiB, before);
  }
}

TEST_F(PagePrivacyTest, ChangesASmallPageWithoutAnyTable) {
  map_2m(kManyFlags | kCBit);
  const std::uint64_t page = kGiB + 4 * kMiB;
  ASSERT_TRUE(set(page, false).has_value());
  ASSERT_TRUE(set(page + 4096, false, 0_B).has_value());
  EXPECT_EQ(walk(page + 4096)->flags, kManyFlags);
  ASSERT_TRUE(set(page, true, 0_B).has_value());
  EXPECT_EQ(walk(page)->flags, kManyFlags | kCBit);
}

TEST_F(PagePrivacyTest, DoesNotSplitForAPageThatIsAsWished) {
  map_gib(kManyFlags | kCBit);
  ASSERT_TRUE(set(kGiB + kMiB, true, 0_B).has_value());
  EXPECT_EQ(walk(kGiB + kMiB)->shift, 30U);
}

TEST_F(PagePrivacyTest, GivesNewPointersTheCBitOfThoseAboveThem) {
  map_gib(kManyFlags | kCBit);
  ASSERT_TRUE(set(kGiB, false).has_value());
  EXPECT_EQ(walk(kGiB)->pointers_or & kCBit, 0U);

  pointer_ |= kCBit;
  map_gib(kManyFlags | kCBit);
  ASSERT_TRUE(set(kGiB, false).has_value());
  EXPECT_EQ(walk(kGiB)->pointers_and & kCBit, kCBit);
}

TEST_F(PagePrivacyTest, WalksFiveLevels) {
  map_2m(kManyFlags | kCBit);
  std::copy_n(table(kRoot), 512, table(0x4000));
  new_table(kRoot)[0] = 0x4000 | pointer_;
  five_levels_ = true;
  const std::uint64_t begin = kGiB + 4 * kMiB;
  const Leaf before = walk(begin).value();
  ASSERT_TRUE(set(begin, false).has_value());
  expect_only_changed(begin, begin, begin + 2 * kMiB, before);
}

TEST_F(PagePrivacyTest, RefusesWhatIsNotMapped) {
  map_2m(kManyFlags | kCBit);
  for (const std::uint64_t page : {kGiB, 0 * kGiB, 1024 * kGiB}) {
    EXPECT_EQ(set(page, false).error(), PrivacyError::kNotMapped);
  }
}

TEST_F(PagePrivacyTest, RefusesWhatIsMappedSomewhereElse) {
  map_2m(kManyFlags | kCBit);
  table(0x3000)[3] = table(0x3000)[2];
  EXPECT_EQ(set(kGiB + 6 * kMiB, false).error(), PrivacyError::kNotMapped);
}

TEST_F(PagePrivacyTest, KeepsAllMappingsWhenTablesRunOut) {
  map_gib(kManyFlags | kCBit);
  const std::uint64_t page = kGiB + 7 * kMiB;
  for (const Bytes spare : {0_B, 4_KiB}) {
    EXPECT_EQ(set(page, false, spare).error(), PrivacyError::kNoTables);
    for (const std::uint64_t at : {kGiB, page, 2 * kGiB - 4096}) {
      EXPECT_EQ(walk(at)->target, at);
      EXPECT_EQ(walk(at)->flags, kManyFlags | kCBit);
    }
  }
}

TEST_F(PagePrivacyTest, TouchesNoMemoryButItsTables) {
  map_gib(kManyFlags | kCBit);
  const Space before = *bytes_;
  ASSERT_TRUE(set(kGiB, false).has_value());
  const auto untouched = [&](std::uint64_t begin, std::uint64_t end) {
    return std::equal(before.begin() + begin, before.begin() + end, bytes_->begin() + begin);
  };
  EXPECT_TRUE(untouched(0, 0x2000));
  EXPECT_TRUE(untouched(0x3000, kSpare));
  EXPECT_TRUE(untouched(kSpare + kMostSplitTables.value(), kTableSpace));
}

TEST(PrivacyErrors, HaveATextEach) {
  EXPECT_NE(to_string(PrivacyError::kNotMapped), to_string(PrivacyError::kNoTables));
}

}  // namespace
}  // namespace accede::efi
