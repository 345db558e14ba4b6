#include "accede/host/seam_module.hpp"

#include "tests/host/seam_fixture.hpp"

#include <gtest/gtest.h>

namespace accede::host {
namespace {

using test::kGib;
using test::kMib;
using test::kPageBytes;
using test::SeamHost;
using test::word;

constexpr std::uint64_t k2M = 1;
constexpr std::uint64_t kRegion = SeamHost::kTdmr;  // control structures
constexpr std::uint64_t kOther = SeamHost::kTdmr + 16 * kMib;
constexpr std::uint64_t kPair = SeamHost::kTdmr + 32 * kMib;  // pages to lend
constexpr std::uint64_t kGpa = 8 * kGib;
constexpr std::uint64_t kHotAdded = 16 * kGib;

constexpr std::uint64_t kMissingRcx = 0x8000030800000001;
constexpr std::uint64_t kInvalidRcx = 0xC000010000000001;
constexpr std::uint64_t kNotFreeRcx = 0xC000030400000001;
constexpr std::uint64_t kNoPairRcx = 0xC000030500000001;
constexpr std::uint64_t kPageNotFreeRdx = 0xC000030300000002;
constexpr std::uint64_t kPageNotFreeR8 = 0xC000030300000008;

/// A host that lends pages for metadata when they are needed.
class SeamDynamicPamt : public testing::Test {
 protected:
  SeamDynamicPamt() {
    for (abi::tdx::TdmrInfo& tdmr : host_.tdmrs()) {
      tdmr.pamt_4k.size = least_pamt_size(Bytes{tdmr.size}, PageSize::k4K, true).value();
    }
    test::must(module_.sys_init());
    for (const ProcessorId processor : SeamHost::processors()) {
      test::must(module_.sys_lp_init(processor));
    }
    test::must(module_.sys_config(host_.tdmrs(), SeamHost::kGlobalKey, true));
    for (const ProcessorId processor : SeamHost::packages()) {
      test::must(module_.sys_key_config(processor));
    }
    host_.initialize(SeamHost::kTdmr, SeamHost::kTdmr + kGib);
  }

  std::uint64_t add(std::uint64_t rcx, std::uint64_t first = kPair,
                    std::uint64_t second = kPair + kPageBytes) {
    return word(module_.phymem_pamt_add(rcx, PhysAddr{first}, PhysAddr{second}));
  }
  std::uint64_t remove(std::uint64_t rcx) { return word(module_.phymem_pamt_remove(rcx)); }
  std::uint64_t create(std::uint64_t page, unsigned key = 33) {
    return word(module_.mng_create(PhysAddr{page}, KeyId{key}));
  }

  SeamHost host_;
  SeamModule& module_ = host_.module;
};

TEST_F(SeamDynamicPamt, ASmallPageNeedsAPairForItsRegionFirst) {
  EXPECT_EQ(create(kRegion), kMissingRcx);
  EXPECT_EQ(add(kRegion | k2M), 0U);
  EXPECT_EQ(create(kRegion), 0U);
  EXPECT_EQ(host_.type(kRegion), PamtType::kTdr);
  EXPECT_EQ(create(kOther, 34), kMissingRcx);
}

TEST_F(SeamDynamicPamt, EveryCallThatTakesASmallPageCanMissItsPair) {
  ASSERT_EQ(add(kRegion | k2M), 0U);
  const PhysAddr tdr = host_.build_td(kRegion, SeamHost::kFirstKey);
  EXPECT_EQ(word(module_.vp_create(PhysAddr{kOther}, tdr)), kMissingRcx);
  EXPECT_EQ(word(module_.mem_sept_add(3, tdr, PhysAddr{kOther})), 0x8000030800000008U);
  host_.add_tables(tdr, kGpa, kRegion + kMib);
  EXPECT_EQ(word(module_.mem_page_add(kGpa, tdr, PhysAddr{kOther})), 0x8000030800000008U);
  test::must(module_.mr_finalize(tdr));
  EXPECT_EQ(word(module_.mem_page_aug(kGpa, tdr, PhysAddr{kOther})), 0x8000030800000008U);
  ASSERT_EQ(add(kOther | k2M, kPair + 2 * kPageBytes, kPair + 3 * kPageBytes), 0U);
  EXPECT_EQ(word(module_.mem_page_aug(kGpa, tdr, PhysAddr{kOther})), 0U);
}

TEST_F(SeamDynamicPamt, ALargePageNeedsNoPairAndCannotHaveOne) {
  ASSERT_EQ(add(kRegion | k2M), 0U);
  const PhysAddr tdr = host_.build_td(kRegion, SeamHost::kFirstKey);
  host_.add_tables(tdr, kGpa, kRegion + kMib);
  test::must(module_.mr_finalize(tdr));
  const auto aug = [&](std::uint64_t page) {
    return word(module_.mem_page_aug((kGpa + 2 * kMib) | k2M, tdr, PhysAddr{page}));
  };
  EXPECT_EQ(aug(kPair), 0xC000030000000008U);  // lent in part
  EXPECT_EQ(aug(SeamHost::kReserved), 0xC000030000000008U);
  EXPECT_EQ(aug(kOther), 0U);
  EXPECT_EQ(add(kOther | k2M, kPair + 2 * kPageBytes, kPair + 3 * kPageBytes), kNotFreeRcx);
}

TEST_F(SeamDynamicPamt, ARegionWithAPairIsNoFreeLargePage) {
  ASSERT_EQ(add(kRegion | k2M), 0U);
  ASSERT_EQ(add(kOther | k2M, kPair + 2 * kPageBytes, kPair + 3 * kPageBytes), 0U);
  const PhysAddr tdr = host_.build_td(kRegion, SeamHost::kFirstKey);
  host_.add_tables(tdr, kGpa, kRegion + kMib);
  test::must(module_.mr_finalize(tdr));
  const std::uint64_t entry = (kGpa + 2 * kMib) | k2M;
  EXPECT_EQ(word(module_.mem_page_aug(entry, tdr, PhysAddr{kOther})), 0xC000030000000008U);
  EXPECT_EQ(remove(kOther | k2M), 0U);
  EXPECT_EQ(word(module_.mem_page_aug(entry, tdr, PhysAddr{kOther})), 0U);
}

TEST_F(SeamDynamicPamt, ALentPageIsOfNoOtherUseUntilThePairIsRemoved) {
  ASSERT_EQ(add(kRegion | k2M, kRegion, kRegion + kPageBytes), 0U);
  EXPECT_EQ(create(kRegion), 0xC000030000000001U);
  EXPECT_EQ(create(kRegion + kPageBytes), 0xC000030000000001U);
  EXPECT_EQ(word(module_.phymem_page_wbinvd(PhysAddr{kRegion})), 0xC000030000000001U);
  EXPECT_EQ(add(kOther | k2M, kRegion, kPair), kPageNotFreeRdx);
  EXPECT_EQ(add(kOther | k2M, kPair, kRegion), kPageNotFreeR8);
  const SeamCall removed = module_.phymem_pamt_remove(kRegion | k2M);
  EXPECT_EQ(*removed, (SeamResult{.rdx = kRegion, .r8 = kRegion + kPageBytes}));
  EXPECT_EQ(add(kOther | k2M, kRegion, kPair), 0U);
  EXPECT_EQ(word(module_.phymem_page_wbinvd(PhysAddr{kRegion + kPageBytes})), 0U);
}

TEST_F(SeamDynamicPamt, ARefusedPairLeavesNothingLent) {
  EXPECT_EQ(add(kRegion | k2M, kPair, kPair), kPageNotFreeR8);
  EXPECT_EQ(add(kRegion | k2M, SeamHost::kReserved, kPair), kPageNotFreeRdx);
  EXPECT_EQ(add(kRegion | k2M, kPair, SeamHost::kReserved), kPageNotFreeR8);
  EXPECT_EQ(add(kRegion | k2M), 0U);
  EXPECT_EQ(add(kRegion | k2M), kNotFreeRcx);
}

TEST_F(SeamDynamicPamt, APageThatATdOwnsCannotBeLent) {
  ASSERT_EQ(add(kRegion | k2M), 0U);
  ASSERT_EQ(create(kRegion), 0U);
  EXPECT_EQ(add(kOther | k2M, kRegion, kPair + 2 * kPageBytes), kPageNotFreeRdx);
  EXPECT_EQ(add(kOther | k2M, kPair + 2 * kPageBytes, kRegion), kPageNotFreeR8);
}

TEST_F(SeamDynamicPamt, APairStaysWhileOneOfItsPagesDescribesAPageInUse) {
  EXPECT_EQ(remove(kRegion | k2M), kNoPairRcx);
  ASSERT_EQ(add(kRegion | k2M), 0U);
  ASSERT_EQ(create(kRegion + 255 * kPageBytes), 0U);
  EXPECT_EQ(remove(kRegion | k2M), 0xC000030600000000U);
  test::must(module_.mng_vpflushdone(PhysAddr{kRegion + 255 * kPageBytes}));
  for (const ProcessorId processor : SeamHost::packages()) {
    test::must(module_.phymem_cache_wb(processor));
  }
  test::must(module_.mng_key_freeid(PhysAddr{kRegion + 255 * kPageBytes}));
  test::must(module_.phymem_page_reclaim(PhysAddr{kRegion + 255 * kPageBytes}));
  ASSERT_EQ(create(kRegion + 256 * kPageBytes), 0U);
  EXPECT_EQ(remove(kRegion | k2M), 0xC000030600000001U);
}

TEST_F(SeamDynamicPamt, OperandsAreCheckedInTheModulesOrder) {
  EXPECT_EQ(add(kRegion, 1, 1), kInvalidRcx);
  EXPECT_EQ(add((kRegion + kPageBytes) | k2M, 1, 1), kInvalidRcx);
  EXPECT_EQ(add(kRegion | k2M | 8, 1, 1), kInvalidRcx);
  EXPECT_EQ(add(kRegion | k2M | 1ULL << 46, 1, 1), kInvalidRcx);
  EXPECT_EQ(add(kHotAdded | k2M, 1, 1), 0xC000010000000002U);
  EXPECT_EQ(add(kHotAdded | k2M, kHotAdded, 1), 0xC000010100000002U);
  EXPECT_EQ(add(kHotAdded | k2M, kPair, 1), 0xC000010000000008U);
  EXPECT_EQ(add(kHotAdded | k2M, kPair, kHotAdded), 0xC000010100000008U);
  EXPECT_EQ(add(kHotAdded | k2M), 0xC000010100000001U);
  EXPECT_EQ(remove(kHotAdded | k2M), 0xC000010100000001U);
  EXPECT_EQ(remove(kRegion), kInvalidRcx);
  EXPECT_TRUE(module_.invariants());
}

TEST(SeamStaticPamt, KnowsNoPairs) {
  SeamHost host;
  host.bring_up();
  EXPECT_EQ(word(host.module.phymem_pamt_add(kRegion | k2M, PhysAddr{kPair}, PhysAddr{kPair})),
            0xC000010000000000U);
  EXPECT_EQ(word(host.module.phymem_pamt_remove(kRegion | k2M)), 0xC000010000000000U);
}

}  // namespace
}  // namespace accede::host
