#include "accede/efi/kernel/page_tables.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

namespace accede::efi::kernel {
namespace {

constexpr std::uint64_t k4K = 4096;
constexpr std::uint64_t k2M = 2ULL << 20;
constexpr std::uint64_t k1G = 1ULL << 30;
constexpr std::uint64_t kEncrypted = 1ULL << 51;

constexpr PagingFeatures kFull{.gib_pages = true, .no_execute = true, .physical_bits = 40};

PhysRange range(std::uint64_t begin, std::uint64_t end) {
  return *PhysRange::make(PhysAddr{begin}, PhysAddr{end});
}

struct Rights {
  bool write;
  bool execute;
  friend bool operator==(const Rights&, const Rights&) = default;
};

std::optional<Rights> rights_of(PageAccess access) {
  switch (access) {
    case PageAccess::kNone:
      return std::nullopt;
    case PageAccess::kRead:
      return Rights{false, false};
    case PageAccess::kReadWrite:
      return Rights{true, false};
    case PageAccess::kReadExecute:
      return Rights{false, true};
    case PageAccess::kReadWriteExecute:
      return Rights{true, true};
  }
  return std::nullopt;
}

struct Translation {
  std::uint64_t target;
  std::uint64_t page;  ///< size
  Rights rights;
  bool is_private = false;
};

/// What the processor does with an address, written down from its manual.
std::optional<Translation> translate(const PageTables& tables, std::uint64_t address,
                                     std::uint64_t private_mask) {
  std::uint64_t entry = tables.root();
  Rights rights{true, true};
  for (unsigned shift = 39;; shift -= 9) {
    EXPECT_EQ(entry & private_mask, private_mask);
    const auto* const table =
        reinterpret_cast<const std::uint64_t*>(entry & ~private_mask & 0x000F'FFFF'FFFF'F000);
    entry = table[address >> shift & 0x1FF];
    if ((entry & 1) == 0) {
      return std::nullopt;
    }
    rights.write = rights.write && (entry & 2) != 0;
    rights.execute = rights.execute && entry >> 63 == 0;
    if (shift == 12 || (entry & 0x80) != 0) {
      EXPECT_LE(shift, 30U);
      const std::uint64_t size = 1ULL << shift;
      const std::uint64_t base = entry & ~private_mask & 0x000F'FFFF'FFFF'F000;
      EXPECT_EQ(base % size, 0U);
      return Translation{base + address % size, size, rights,
                         private_mask != 0 && (entry & private_mask) != 0};
    }
  }
}

class PageTablesTest : public testing::Test {
 protected:
  explicit PageTablesTest(std::size_t tables = kPageTables, PagingFeatures features = kFull,
                          std::uint64_t private_mask = 0)
      : storage_(tables), mask_{private_mask}, tables_{storage_, features, private_mask} {}

  void expect(std::uint64_t address, PageAccess access) {
    const auto found = translate(tables_, address, mask_);
    const auto rights = rights_of(access);
    ASSERT_EQ(found.has_value(), rights.has_value()) << std::hex << address;
    if (found) {
      EXPECT_EQ(found->target, address) << std::hex << address;
      EXPECT_EQ(found->rights, *rights) << std::hex << address;
    }
  }

  std::vector<PageTable> storage_;
  std::uint64_t mask_;
  PageTables tables_;
};

class WithoutGibPages : public PageTablesTest {
 protected:
  WithoutGibPages()
      : PageTablesTest{kPageTables, {.gib_pages = false, .no_execute = true, .physical_bits = 40}} {
  }
};
class WithFewTables : public PageTablesTest {
 protected:
  WithFewTables() : PageTablesTest{6} {}
};
class Encrypted : public PageTablesTest {
 protected:
  Encrypted() : PageTablesTest{kPageTables, kFull, kEncrypted} {}

  [[nodiscard]] bool is_private(std::uint64_t address) {
    return translate(tables_, address, kEncrypted).value().is_private;
  }
};
class EncryptedWithoutGibPages : public PageTablesTest {
 protected:
  EncryptedWithoutGibPages()
      : PageTablesTest{kPageTables,
                       {.gib_pages = false, .no_execute = true, .physical_bits = 40},
                       kEncrypted} {}
};
class WithoutNoExecute : public PageTablesTest {
 protected:
  WithoutNoExecute()
      : PageTablesTest{kPageTables, {.gib_pages = true, .no_execute = false, .physical_bits = 40}} {
  }
};

constexpr std::uint64_t kImage = 0x7E28'3000;

const std::vector<PhysRange> kRam{range(k4K, 0xA0000), range(k1G / 1024, 2 * k1G),
                                  range(4 * k1G, 6 * k1G)};
const std::vector<PhysRange> kRuntime{range(0x7F9E'D000, 0x7FAE'D000)};
const std::vector<PhysRange> kGuards{range(kImage + 0x30000, kImage + 0x31000)};

AddressPlan plan() {
  return {.ram = kRam,
          .executable = kRuntime,
          .image = range(kImage, kImage + 0x80000),
          .text = range(kImage + 0x1000, kImage + 0x11000),
          .rodata = range(kImage + 0x11000, kImage + 0x15000),
          .guards = kGuards};
}

TEST_F(PageTablesTest, GiveTheImageItsRights) {
  ASSERT_TRUE(tables_.build(plan()));
  expect(kImage, PageAccess::kReadWrite);
  expect(kImage + 0xFFF, PageAccess::kReadWrite);
  expect(kImage + 0x1000, PageAccess::kReadExecute);
  expect(kImage + 0x10FFF, PageAccess::kReadExecute);
  expect(kImage + 0x11000, PageAccess::kRead);
  expect(kImage + 0x14FFF, PageAccess::kRead);
  expect(kImage + 0x15000, PageAccess::kReadWrite);
  expect(kImage + 0x7FFFF, PageAccess::kReadWrite);
}

TEST_F(PageTablesTest, HaveNoPageAtZeroAndNoneBelowAStack) {
  ASSERT_TRUE(tables_.build(plan()));
  expect(0, PageAccess::kNone);
  expect(0xFFF, PageAccess::kNone);
  expect(0x1000, PageAccess::kReadWrite);
  expect(kImage + 0x2FFFF, PageAccess::kReadWrite);
  expect(kImage + 0x30000, PageAccess::kNone);
  expect(kImage + 0x31000, PageAccess::kReadWrite);
}

TEST_F(PageTablesTest, LetTheFirmwaresRuntimeCodeRun) {
  ASSERT_TRUE(tables_.build(plan()));
  expect(0x7F9E'CFFF, PageAccess::kReadWrite);
  expect(0x7F9E'D000, PageAccess::kReadWriteExecute);
  expect(0x7FAE'CFFF, PageAccess::kReadWriteExecute);
  expect(0x7FAE'D000, PageAccess::kReadWrite);
}

TEST_F(PageTablesTest, ReachDevicesAndEverythingBelow512Gib) {
  ASSERT_TRUE(tables_.build(plan()));
  expect(0xFEE0'0000, PageAccess::kReadWrite);
  expect(512 * k1G - 1, PageAccess::kReadWrite);
  expect(512 * k1G, PageAccess::kNone);
}

TEST_F(PageTablesTest, ReachRamAbove512Gib) {
  const std::vector<PhysRange> ram{range(4 * k1G, 700 * k1G + k4K)};
  ASSERT_TRUE(tables_.build({.ram = ram}));
  expect(700 * k1G, PageAccess::kReadWrite);
  expect(701 * k1G, PageAccess::kNone);
}

TEST_F(PageTablesTest, RefuseRamThatTheCpuCannotAddress) {
  const std::vector<PhysRange> ram{range(0, (1ULL << 40) + k4K)};
  const auto built = tables_.build({.ram = ram});
  ASSERT_FALSE(built);
  EXPECT_EQ(built.error(), PageTablesError::kTooHigh);
}

TEST_F(PageTablesTest, RefuseARangeAtTheEndOfTheAddressSpace) {
  const std::vector<PhysRange> ram{range(0, ~0ULL - 0xFFF)};
  const auto built = tables_.build({.ram = ram});
  ASSERT_FALSE(built);
  EXPECT_EQ(built.error(), PageTablesError::kTooHigh);
}

TEST_F(PageTablesTest, HaveNothingWritableAndExecutableButRuntimeCode) {
  ASSERT_TRUE(tables_.build(plan()));
  for (std::uint64_t at = k4K; at < 512 * k1G;) {
    const auto found = translate(tables_, at, 0);
    if (!found) {
      at += k4K;
      continue;
    }
    if (!kRuntime[0].contains(PhysAddr{at})) {
      ASSERT_FALSE(found->rights.write && found->rights.execute) << std::hex << at;
    }
    at += found->page - at % found->page;
  }
}

TEST_F(PageTablesTest, UseGibPagesOnlyWhereThereAreNoDevices) {
  ASSERT_TRUE(tables_.build(plan()));
  EXPECT_EQ(translate(tables_, 5 * k1G, 0)->page, k1G);
  EXPECT_EQ(translate(tables_, 2 * k1G, 0)->page, k2M);
  EXPECT_LE(tables_.tables_used(), 10U);
}

TEST_F(WithoutGibPages, MapTheFirst4GibAndRam) {
  ASSERT_TRUE(tables_.build(plan()));
  EXPECT_EQ(translate(tables_, 5 * k1G, 0)->page, k2M);
  expect(0xFEE0'0000, PageAccess::kReadWrite);
  expect(6 * k1G - 1, PageAccess::kReadWrite);
  expect(6 * k1G, PageAccess::kNone);
}

TEST_F(WithoutGibPages, SaySoWhenRamNeedsMoreTables) {
  const std::vector<PhysRange> ram{range(4 * k1G, 100 * k1G)};
  const auto built = tables_.build({.ram = ram});
  ASSERT_FALSE(built);
  EXPECT_EQ(built.error(), PageTablesError::kOutOfTables);
  EXPECT_EQ(tables_.tables_used(), kPageTables);
}

TEST_F(WithFewTables, SaySoWhenTheyAreUsedUp) {
  const auto built = tables_.build(plan());
  ASSERT_FALSE(built);
  EXPECT_EQ(built.error(), PageTablesError::kOutOfTables);
}

TEST_F(Encrypted, HaveTheBitInWhateverPointsToATable) {
  // translate() looks at each step.
  ASSERT_TRUE(tables_.build(plan()));
  EXPECT_EQ(tables_.root() & kEncrypted, kEncrypted);
  expect(kImage + 0x1000, PageAccess::kReadExecute);
  expect(5 * k1G, PageAccess::kReadWrite);
  expect(0, PageAccess::kNone);
}

TEST_F(Encrypted, HaveTheBitInLeavesOfMemory) {
  ASSERT_TRUE(tables_.build(plan()));
  for (const std::uint64_t at : {std::uint64_t{k4K}, std::uint64_t{0x9'FFFF},
                                 std::uint64_t{1} << 20, 2 * k1G - 1, 4 * k1G, 6 * k1G - 1}) {
    EXPECT_TRUE(is_private(at)) << std::hex << at;
  }
  for (std::uint64_t at = kImage; at < kImage + 0x80000; at += k4K) {
    if (!kGuards[0].contains(PhysAddr{at})) {
      EXPECT_TRUE(is_private(at)) << std::hex << at;
    }
  }
  EXPECT_TRUE(is_private(kRuntime[0].begin().value()));
}

TEST_F(Encrypted, DoNotHaveTheBitInLeavesOfDevices) {
  ASSERT_TRUE(tables_.build(plan()));
  for (const std::uint64_t at : {std::uint64_t{0xA0000}, std::uint64_t{0xF'FFFF}, 2 * k1G,
                                 std::uint64_t{0xFEE0'0000}, 4 * k1G - 1, 6 * k1G, 511 * k1G}) {
    expect(at, PageAccess::kReadWrite);
    EXPECT_FALSE(is_private(at)) << std::hex << at;
  }
}

TEST_F(Encrypted, SharedPagesOfMemoryLoseTheBitAndGetItBack) {
  ASSERT_TRUE(tables_.build(plan()));
  constexpr std::uint64_t kShared = kImage + 0x40000;
  const auto page = range(kShared, kShared + k4K);
  ASSERT_TRUE(tables_.map(page, PageAccess::kReadWrite, guest::Visibility::kShared));
  expect(kShared, PageAccess::kReadWrite);
  EXPECT_FALSE(is_private(kShared));
  EXPECT_TRUE(is_private(kShared - 1));
  EXPECT_TRUE(is_private(kShared + k4K));
  ASSERT_TRUE(tables_.map(page, PageAccess::kReadWrite));
  EXPECT_TRUE(is_private(kShared));
}

TEST_F(Encrypted, SplitLargePagesIntoPagesWithTheBit) {
  ASSERT_TRUE(tables_.build(plan()));
  ASSERT_TRUE(tables_.map(range(5 * k1G, 5 * k1G + k4K), PageAccess::kReadWrite,
                          guest::Visibility::kShared));
  EXPECT_FALSE(is_private(5 * k1G));
  EXPECT_TRUE(is_private(5 * k1G + k4K));
  EXPECT_TRUE(is_private(5 * k1G + k2M));
  EXPECT_TRUE(is_private(6 * k1G - 1));
}

TEST_F(EncryptedWithoutGibPages, MapMemoryBeyondTheDevicesPrivate) {
  const std::vector<PhysRange> ram{range(4 * k1G + k4K, 6 * k1G - k4K)};
  ASSERT_TRUE(tables_.build({.ram = ram}));
  EXPECT_TRUE(translate(tables_, 4 * k1G, kEncrypted)->is_private);
  EXPECT_TRUE(translate(tables_, 6 * k1G - 1, kEncrypted)->is_private);
  EXPECT_FALSE(translate(tables_, 0xFEE0'0000, kEncrypted)->is_private);
  expect(6 * k1G, PageAccess::kNone);
}

TEST_F(WithoutNoExecute, SetNoReservedBit) {
  ASSERT_TRUE(tables_.build(plan()));
  EXPECT_TRUE(translate(tables_, kImage, 0)->rights.execute);
  EXPECT_FALSE(translate(tables_, kImage + 0x11000, 0)->rights.write);
}

/// Every map() against a list of what was asked, at every border and inside.
TEST_F(PageTablesTest, AgreeWithTheListOfWhatWasAsked) {
  std::mt19937_64 random{0x21};
  std::vector<PageTable> storage(4096);
  PageTables tables{storage, kFull, 0};
  std::vector<std::pair<PhysRange, PageAccess>> asked;
  std::vector<std::uint64_t> borders;
  const auto check = [&](std::uint64_t address) {
    std::optional<Rights> expected;
    for (const auto& [where, access] : asked) {
      if (where.contains(PhysAddr{address})) {
        expected = rights_of(access);
      }
    }
    const auto found = translate(tables, address, 0);
    ASSERT_EQ(found.has_value(), expected.has_value()) << std::hex << address;
    if (found) {
      ASSERT_EQ(found->target, address);
      ASSERT_EQ(found->rights, *expected) << std::hex << address;
    }
  };
  for (int step = 0; step < 300; ++step) {
    constexpr std::uint64_t kGrains[]{k4K, k2M, k1G};
    const std::uint64_t grain = kGrains[random() % 3];
    const std::uint64_t begin = random() % (64 * k1G / grain) * grain;
    const std::uint64_t end = begin + (random() % 5 + 1) * grain;
    const auto access = static_cast<PageAccess>(random() % 5);
    asked.emplace_back(range(begin, end), access);
    ASSERT_TRUE(tables.map(asked.back().first, access));
    borders.push_back(begin);
    borders.push_back(end);
  }
  for (const std::uint64_t border : borders) {
    check(border);
    if (border != 0) {
      check(border - 1);
    }
  }
  for (int i = 0; i < 2000; ++i) {
    check(random() % (70 * k1G));
  }
}

TEST_F(PageTablesTest, SplitOnlyWhatTheyMust) {
  ASSERT_TRUE(tables_.map(range(4 * k1G, 6 * k1G), PageAccess::kReadWrite));
  const std::size_t before = tables_.tables_used();
  ASSERT_TRUE(tables_.map(range(4 * k1G + k4K, 4 * k1G + 2 * k4K), PageAccess::kNone));
  EXPECT_EQ(tables_.tables_used(), before + 2);
  EXPECT_EQ(translate(tables_, 4 * k1G, 0)->page, k4K);
  EXPECT_EQ(translate(tables_, 4 * k1G + k2M, 0)->page, k2M);
  EXPECT_EQ(translate(tables_, 5 * k1G, 0)->page, k1G);
}

TEST_F(PageTablesTest, TakeNoTableToMapAPageAsItIs) {
  ASSERT_TRUE(tables_.map(range(4 * k1G, 6 * k1G), PageAccess::kReadWrite));
  const std::size_t before = tables_.tables_used();
  ASSERT_TRUE(tables_.map(range(4 * k1G + k4K, 5 * k1G + k4K), PageAccess::kReadWrite));
  EXPECT_EQ(tables_.tables_used(), before);
  expect(4 * k1G + k4K, PageAccess::kReadWrite);
}

TEST_F(PageTablesTest, TakeNoTableToUnmapWhatIsNotThere) {
  ASSERT_TRUE(tables_.map(range(k4K, 100 * k1G), PageAccess::kNone));
  EXPECT_EQ(tables_.tables_used(), 1U);
}

TEST(PageTablesErrors, HaveOneLineOfText) {
  EXPECT_EQ(to_string(PageTablesError::kOutOfTables),
            "too much memory for the page tables in the image");
  EXPECT_EQ(to_string(PageTablesError::kTooHigh),
            "memory beyond the reach of the CPU's page tables");
  EXPECT_EQ(to_string(PageTablesError::kFiveLevels), "the CPU is in 5-level paging");
}

}  // namespace
}  // namespace accede::efi::kernel
