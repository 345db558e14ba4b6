#include "accede/host/pamt.hpp"

#include "tests/host/seam_fixture.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

namespace accede::host {
namespace {

using test::kGib;
using test::kMib;
using test::kPageBytes;

constexpr std::uint64_t kBase = 4 * kGib;

/// One TDMR of 2 GiB at 4 GiB, whose second MiB is reserved; all of it initialized.
class PamtTest : public testing::Test {
 protected:
  PamtTest() {
    tdmrs_[0].base = kBase;
    tdmrs_[0].size = 2 * kGib;
    tdmrs_[0].reserved[0] = {.offset = 2 * kMib, .size = kMib};
    EXPECT_TRUE(pamt_.configure(tdmrs_));
  }

  void initialize() {
    for (std::uint64_t i = 0; i < 512; ++i) {
      (void)pamt_.initialize(PhysAddr{kBase});
    }
  }

  auto walk(std::uint64_t hpa, PageSize size = PageSize::k4K,
            PamtLock lock = PamtLock::kExclusive) {
    return pamt_.walk(PhysAddr{hpa}, size, lock);
  }
  PamtRefusal refusal(std::uint64_t hpa, PageSize size = PageSize::k4K,
                      PamtLock lock = PamtLock::kExclusive) {
    const auto page = walk(hpa, size, lock);
    EXPECT_FALSE(page.has_value());
    return page.has_value() ? PamtRefusal{99} : page.error();
  }

  std::vector<abi::tdx::TdmrInfo> tdmrs_ = std::vector<abi::tdx::TdmrInfo>(1);
  test::AlignedBytes storage_{512_KiB};
  Pamt pamt_{storage_.span()};
};

TEST_F(PamtTest, NothingCanBeWalkedBeforeAWholeGibIsInitialized) {
  EXPECT_EQ(refusal(kBase), PamtRefusal::kOutsideTdmrs);
  for (int step = 0; step < 255; ++step) {
    EXPECT_EQ(*pamt_.initialize(PhysAddr{kBase}), PhysAddr{kBase});
  }
  EXPECT_EQ(refusal(kBase), PamtRefusal::kOutsideTdmrs);
  EXPECT_EQ(*pamt_.initialize(PhysAddr{kBase}), PhysAddr{kBase + kGib});
  EXPECT_TRUE(walk(kBase).has_value());
  EXPECT_TRUE(walk(kBase + kGib - kPageBytes).has_value());
  EXPECT_EQ(refusal(kBase + kGib), PamtRefusal::kOutsideTdmrs);
}

TEST_F(PamtTest, InitializingEndsWithTheTdmrAndKnowsOnlyItsBase) {
  initialize();
  EXPECT_EQ(pamt_.initialize(PhysAddr{kBase}).error(), Pamt::InitializeError::kAlreadyDone);
  EXPECT_EQ(pamt_.initialize(PhysAddr{kBase + kGib}).error(), Pamt::InitializeError::kNoSuchTdmr);
}

TEST_F(PamtTest, APageOutsideTheTdmrsHasNoEntry) {
  initialize();
  EXPECT_EQ(refusal(kBase - kPageBytes), PamtRefusal::kOutsideTdmrs);
  EXPECT_EQ(refusal(kBase + 2 * kGib), PamtRefusal::kOutsideTdmrs);
  EXPECT_TRUE(walk(kBase + 2 * kGib - kPageBytes).has_value());
}

TEST_F(PamtTest, PagesStartFreeAndThoseOfReservedAreasReserved) {
  initialize();
  const auto type = [&](std::uint64_t offset) { return walk(kBase + offset)->type(); };
  EXPECT_EQ(type(2 * kMib - kPageBytes), PamtType::kFree);
  EXPECT_EQ(type(2 * kMib), PamtType::kReserved);
  EXPECT_EQ(type(3 * kMib - kPageBytes), PamtType::kReserved);
  EXPECT_EQ(type(3 * kMib), PamtType::kFree);
}

TEST_F(PamtTest, AnAssignedPageKeepsItsTypeOwnerAndRecord) {
  initialize();
  const PhysAddr owner{(1ULL << 45) | 0x7000};
  walk(kBase)->assign(PamtType::kTdvpr, owner, 77);
  const auto page = walk(kBase, PageSize::k4K, PamtLock::kShared);
  EXPECT_EQ(page->type(), PamtType::kTdvpr);
  EXPECT_EQ(page->owner(), owner);
  EXPECT_EQ(page->record(), 77U);
  EXPECT_EQ(page->level(), PageSize::k4K);
}

TEST_F(PamtTest, ALargePageIsFoundFromEachOfItsPages) {
  initialize();
  walk(kBase, PageSize::k2M)->assign(PamtType::kRegular, PhysAddr{0x1000});
  const auto inside = walk(kBase + 2 * kMib - kPageBytes);
  EXPECT_EQ(inside->level(), PageSize::k2M);
  EXPECT_EQ(inside->type(), PamtType::kRegular);
}

TEST_F(PamtTest, ALargePageIsFreeOnlyWhileNoPageInItIsUsedOrReserved) {
  initialize();
  const auto free = [&](std::uint64_t hpa) {
    const auto page = walk(hpa, PageSize::k2M);
    return pamt_.range_free(*page, PhysAddr{hpa});
  };
  EXPECT_TRUE(free(kBase));
  EXPECT_FALSE(free(kBase + 2 * kMib));
  EXPECT_TRUE(free(kBase + 4 * kMib));
  walk(kBase + 511 * kPageBytes)->assign(PamtType::kRegular, PhysAddr{});
  EXPECT_FALSE(free(kBase));
  walk(kBase + 511 * kPageBytes)->free();
  EXPECT_TRUE(free(kBase));
}

TEST_F(PamtTest, AnExclusiveLockKeepsEverybodyElseFromThePageAndThoseAbove) {
  initialize();
  const auto held = walk(kBase);
  EXPECT_EQ(refusal(kBase), PamtRefusal::kBusy);
  EXPECT_EQ(refusal(kBase, PageSize::k4K, PamtLock::kShared), PamtRefusal::kBusy);
  EXPECT_EQ(refusal(kBase, PageSize::k2M), PamtRefusal::kBusy);
  EXPECT_EQ(refusal(kBase, PageSize::k1G), PamtRefusal::kBusy);
  EXPECT_TRUE(walk(kBase, PageSize::k2M, PamtLock::kShared).has_value());
  EXPECT_TRUE(walk(kBase + kPageBytes).has_value());
}

TEST_F(PamtTest, SharedLocksGoTogetherAndKeepExclusiveOnesOut) {
  initialize();
  {
    const auto first = walk(kBase, PageSize::k4K, PamtLock::kShared);
    const auto second = walk(kBase, PageSize::k4K, PamtLock::kShared);
    EXPECT_TRUE(second.has_value());
    EXPECT_EQ(refusal(kBase), PamtRefusal::kBusy);
    EXPECT_FALSE(pamt_.invariants());
  }
  EXPECT_TRUE(walk(kBase).has_value());
  EXPECT_TRUE(pamt_.invariants());
}

TEST_F(PamtTest, AnExclusivelyLockedLargePageHidesThePagesBelow) {
  initialize();
  const auto held = walk(kBase, PageSize::k2M);
  EXPECT_EQ(refusal(kBase + kPageBytes, PageSize::k4K, PamtLock::kShared), PamtRefusal::kBusy);
}

TEST_F(PamtTest, StorageGrowsWithTheRegionsInUseAndItsBoundIsExact) {
  initialize();
  EXPECT_EQ(pamt_.storage_used(), Pamt::storage_bound(tdmrs_, 0, 0));
  (void)walk(kBase);
  (void)walk(kBase + kPageBytes);
  EXPECT_EQ(pamt_.storage_used(), Pamt::storage_bound(tdmrs_, 1, 1));
  (void)walk(kBase + kGib, PageSize::k2M);
  EXPECT_EQ(pamt_.storage_used(), Pamt::storage_bound(tdmrs_, 2, 1));
  EXPECT_TRUE(pamt_.invariants());
}

TEST_F(PamtTest, AnExhaustedStorageRefusesNewRegionsAndKeepsTheOldOnes) {
  test::AlignedBytes small{Pamt::storage_bound(tdmrs_, 1, 1)};
  Pamt pamt{small.span()};
  ASSERT_TRUE(pamt.configure(tdmrs_));
  while (pamt.initialize(PhysAddr{kBase}).has_value()) {
  }
  const auto refused = [&](std::uint64_t hpa) -> std::optional<PamtRefusal> {
    const auto page = pamt.walk(PhysAddr{hpa}, PageSize::k4K, PamtLock::kExclusive);
    return page.has_value() ? std::nullopt : std::optional{page.error()};
  };
  EXPECT_EQ(refused(kBase), std::nullopt);
  EXPECT_EQ(refused(kBase + 4 * kMib), PamtRefusal::kOutOfStorage);
  EXPECT_EQ(refused(kBase + kGib), PamtRefusal::kOutOfStorage);
  EXPECT_EQ(refused(kBase + kPageBytes), std::nullopt);
  EXPECT_TRUE(pamt.invariants());
}

TEST_F(PamtTest, TdmrsWhoseGibsDoNotFitAreRefused) {
  test::AlignedBytes none{0_B};
  Pamt pamt{none.span()};
  EXPECT_FALSE(pamt.configure(tdmrs_));
  EXPECT_TRUE(pamt.invariants());
}

TEST(PamtNames, EveryTypeAndRefusalHasAName) {
  for (const PamtType type :
       {PamtType::kFree, PamtType::kReserved, PamtType::kRegular, PamtType::kTdr, PamtType::kTdcx,
        PamtType::kTdvpr, PamtType::kSept, PamtType::kPamt}) {
    EXPECT_NE(name(type), "unknown");
  }
  EXPECT_EQ(name(PamtType{2}), "unknown");
  for (const PamtRefusal refusal :
       {PamtRefusal::kOutsideTdmrs, PamtRefusal::kBusy, PamtRefusal::kOutOfStorage}) {
    EXPECT_NE(name(refusal), "unknown");
  }
}

}  // namespace
}  // namespace accede::host
