#include "accede/host/seam_module.hpp"

#include "accede/abi/tdx_status_names.hpp"

#include "tests/host/seam_fixture.hpp"

#include <gtest/gtest.h>

namespace accede::host {
namespace {

using test::kGib;
using test::kMib;
using test::kPageBytes;
using test::SeamHost;
using test::word;

constexpr std::uint64_t kMetadataRcx = 0xC000030000000001;
constexpr std::uint64_t kMetadataRdx = 0xC000030000000002;
constexpr std::uint64_t kRangeRcx = 0xC000010100000001;
constexpr std::uint64_t kInvalidRcx = 0xC000010000000001;
constexpr std::uint64_t kInvalidRdx = 0xC000010000000002;
constexpr std::uint64_t kOpState = 0xC000060800000000;
constexpr std::uint64_t kLifecycle = 0xC000060700000000;
constexpr std::uint64_t kKeysNotConfigured = 0x8000081000000000;
constexpr std::uint64_t kTdcsNotAllocated = 0xC000060600000000;
constexpr std::uint64_t kTdcxNum = 0xC000061000000000;

constexpr std::uint64_t kPages = SeamHost::kTdmr;
constexpr ProcessorId kFirst{0};

class SeamTd : public testing::Test {
 protected:
  SeamTd() { host_.bring_up(); }

  /// A TDR with its keys.
  PhysAddr create() {
    const PhysAddr tdr{kPages};
    EXPECT_EQ(word(module_.mng_create(tdr, SeamHost::kFirstKey)), 0U);
    for (const ProcessorId processor : SeamHost::packages()) {
      EXPECT_EQ(word(module_.mng_key_config(processor, tdr)), 0U);
    }
    return tdr;
  }
  /// `count` pages of TDCS.
  void add_tdcs(PhysAddr tdr, unsigned count) {
    for (unsigned i = 1; i <= count; ++i) {
      EXPECT_EQ(word(module_.mng_addcx(tdr + 4_KiB * i, tdr)), 0U);
    }
  }
  std::uint64_t init(PhysAddr tdr, std::uint16_t vcpus = 1, unsigned width = 48) {
    return word(
        module_.mng_init(tdr, {.sept = {.gpa_width = width}, .max_vcpus = vcpus}, storage_.span()));
  }

  SeamHost host_;
  SeamModule& module_ = host_.module;
  test::AlignedBytes storage_{256_KiB};
};

TEST_F(SeamTd, ControlStructuresComeFromPagesOfTheTdmrsAndBelongToTheTd) {
  const PhysAddr tdr = host_.build_td(kPages, SeamHost::kFirstKey);
  const auto metadata = [&](PhysAddr page) { return host_.metadata(page.value()); };
  EXPECT_EQ(metadata(tdr), (SeamResult{.rcx = 4}));
  EXPECT_EQ(metadata(tdr + 4_KiB), (SeamResult{.rcx = 5, .rdx = tdr.value()}));
  EXPECT_EQ(metadata(SeamHost::vcpu_of(tdr)), (SeamResult{.rcx = 6, .rdx = tdr.value()}));
  EXPECT_EQ(metadata(SeamHost::vcpu_of(tdr) + 4_KiB), (SeamResult{.rcx = 5, .rdx = tdr.value()}));
  EXPECT_EQ(metadata(SeamHost::after(tdr)), SeamResult{});
  EXPECT_NE(module_.secure_ept(tdr), nullptr);
  EXPECT_TRUE(module_.invariants());
}

// --- MNG.CREATE ---

TEST_F(SeamTd, ATdrOutsideTheTdmrsOrReservedOrMisalignedIsRefused) {
  const auto create = [&](std::uint64_t page) {
    return word(module_.mng_create(PhysAddr{page}, SeamHost::kFirstKey));
  };
  EXPECT_EQ(create(16 * kGib), kRangeRcx);
  EXPECT_EQ(create(SeamHost::kReserved), kMetadataRcx);
  EXPECT_EQ(create(SeamHost::kReserved + 16 * kMib - kPageBytes), kMetadataRcx);
  EXPECT_EQ(create(kPages + 64), kInvalidRcx);
  EXPECT_EQ(create(kPages | 1ULL << 46), kInvalidRcx);
  EXPECT_EQ(create(kPages | 1ULL << 53), kInvalidRcx);
  EXPECT_EQ(create(SeamHost::kReserved - kPageBytes), 0U);
}

TEST_F(SeamTd, ThePageOfATdrCannotBecomeAnother) {
  (void)create();
  EXPECT_EQ(word(module_.mng_create(PhysAddr{kPages}, KeyId{34})), kMetadataRcx);
}

TEST_F(SeamTd, EachTdNeedsAPrivateKeyOfItsOwn) {
  (void)create();
  const PhysAddr other{kPages + kMib};
  EXPECT_EQ(word(module_.mng_create(other, SeamHost::kFirstKey)), 0xC000082000000000U);
  EXPECT_EQ(word(module_.mng_create(other, SeamHost::kGlobalKey)), 0xC000082000000000U);
  EXPECT_EQ(word(module_.mng_create(other, KeyId{31})), kInvalidRdx);
  EXPECT_EQ(word(module_.mng_create(other, KeyId{64})), kInvalidRdx);
  EXPECT_EQ(host_.type(other.value()), PamtType::kFree);
  EXPECT_EQ(word(module_.mng_create(other, KeyId{63})), 0U);
}

TEST_F(SeamTd, AModelWithoutARecordForAnotherTdSaysSoAndChangesNothing) {
  for (unsigned i = 0; i < 4; ++i) {
    EXPECT_EQ(word(module_.mng_create(PhysAddr{kPages + i * kPageBytes}, KeyId{40 + i})), 0U);
  }
  const PhysAddr page{kPages + kMib};
  const SeamCall call = module_.mng_create(page, KeyId{50});
  ASSERT_FALSE(call.has_value());
  EXPECT_EQ(call.error(), SeamError::kNoTdRecord);
  EXPECT_EQ(host_.type(page.value()), PamtType::kFree);
}

// --- MNG.KEY.CONFIG, ADDCX, INIT ---

TEST_F(SeamTd, TheKeyIsConfiguredOnceForEachPackage) {
  const PhysAddr tdr{kPages};
  EXPECT_EQ(word(module_.mng_key_config(kFirst, tdr)), kMetadataRcx);
  (void)module_.mng_create(tdr, SeamHost::kFirstKey);
  EXPECT_EQ(word(module_.mng_key_config(kFirst, tdr)), 0U);
  EXPECT_EQ(word(module_.mng_key_config(ProcessorId{1}, tdr)), 0x0000081500000000U);
  EXPECT_EQ(word(module_.mng_addcx(tdr + 4_KiB, tdr)), kKeysNotConfigured);
  EXPECT_EQ(word(module_.mng_key_config(ProcessorId{2}, tdr)), 0U);
  EXPECT_EQ(word(module_.mng_key_config(ProcessorId{2}, tdr)), kLifecycle);
  EXPECT_EQ(word(module_.mng_addcx(tdr + 4_KiB, tdr)), 0U);
}

TEST_F(SeamTd, APageOfTdcsMustBeFreeMemoryOfATdmr) {
  const PhysAddr tdr = create();
  const auto add = [&](std::uint64_t page) { return word(module_.mng_addcx(PhysAddr{page}, tdr)); };
  EXPECT_EQ(add(16 * kGib), kRangeRcx);
  EXPECT_EQ(add(SeamHost::kReserved), kMetadataRcx);
  EXPECT_EQ(add(kPages + kPageBytes / 2), kInvalidRcx);
  EXPECT_EQ(add(kPages + kPageBytes), 0U);
  EXPECT_EQ(add(kPages + kPageBytes), kMetadataRcx);
  EXPECT_EQ(word(module_.mng_addcx(PhysAddr{kPages + kMib}, PhysAddr{kPages + kPageBytes})),
            kMetadataRdx);
}

TEST_F(SeamTd, TheTdrCannotBeAPageOfItsOwnTdcs) {
  const PhysAddr tdr = create();
  // The call itself holds the entry.
  EXPECT_EQ(word(module_.mng_addcx(tdr, tdr)), 0x8000020000000001U);
}

TEST_F(SeamTd, TdcsHasSixToNinePages) {
  const PhysAddr tdr = create();
  add_tdcs(tdr, kLeastTdcsPages - 1);
  EXPECT_EQ(init(tdr), kTdcsNotAllocated);
  for (unsigned i = kLeastTdcsPages; i <= kMostTdcsPages; ++i) {
    EXPECT_EQ(word(module_.mng_addcx(tdr + 4_KiB * i, tdr)), 0U);
  }
  EXPECT_EQ(word(module_.mng_addcx(tdr + 4_KiB * 20, tdr)), kTdcxNum);
  EXPECT_EQ(init(tdr), 0U);
}

TEST_F(SeamTd, InitHappensOnceAndNoPageOfTdcsJoinsAfterIt) {
  const PhysAddr tdr = create();
  EXPECT_EQ(word(module_.mem_track(tdr)), kTdcsNotAllocated);
  add_tdcs(tdr, kLeastTdcsPages);
  EXPECT_EQ(word(module_.mem_track(tdr)), kOpState);
  EXPECT_EQ(module_.secure_ept(tdr), nullptr);
  EXPECT_EQ(init(tdr), 0U);
  EXPECT_EQ(init(tdr), kOpState);
  EXPECT_EQ(word(module_.mng_addcx(tdr + 4_KiB * 20, tdr)), kOpState);
  EXPECT_EQ(host_.type(kPages + 20 * kPageBytes), PamtType::kFree);
}

TEST_F(SeamTd, ATdThatMayHaveNoVcpuOrHasAnUnknownWidthIsRefused) {
  const PhysAddr tdr = create();
  add_tdcs(tdr, kLeastTdcsPages);
  EXPECT_EQ(init(tdr, 0), 0xC000010000000044U);
  EXPECT_EQ(init(tdr, 1, 49), 0xC000010000000043U);
  EXPECT_EQ(init(tdr, 1, 52), 0U);
  EXPECT_EQ(module_.secure_ept(tdr)->gpa_width(), 52U);
}

// --- vCPUs ---

TEST_F(SeamTd, AVcpuNeedsAnInitializedTdAndFreeMemoryOfATdmr) {
  const PhysAddr tdr = create();
  const PhysAddr page = tdr + 4_KiB * 30;
  EXPECT_EQ(word(module_.vp_create(page, tdr)), kTdcsNotAllocated);
  add_tdcs(tdr, kLeastTdcsPages);
  EXPECT_EQ(word(module_.vp_create(page, tdr)), kOpState);
  EXPECT_EQ(init(tdr), 0U);
  EXPECT_EQ(word(module_.vp_create(PhysAddr{16 * kGib}, tdr)), kRangeRcx);
  EXPECT_EQ(word(module_.vp_create(PhysAddr{SeamHost::kReserved}, tdr)), kMetadataRcx);
  EXPECT_EQ(word(module_.vp_create(page, tdr + 4_KiB)), kMetadataRdx);
  EXPECT_EQ(word(module_.vp_create(page, tdr)), 0U);
  EXPECT_EQ(word(module_.vp_create(page, tdr)), kMetadataRcx);
}

TEST_F(SeamTd, PagesOfTdvpsMustBeFreeAndJoinBeforeTheVcpuIsInitialized) {
  const PhysAddr tdr = host_.build_td(kPages, SeamHost::kFirstKey);
  const PhysAddr tdvpr{kPages + kMib};
  (void)module_.vp_create(tdvpr, tdr);
  EXPECT_EQ(word(module_.vp_init(kFirst, tdvpr)), kTdcxNum);
  EXPECT_EQ(word(module_.vp_addcx(PhysAddr{16 * kGib}, tdvpr)), kRangeRcx);
  EXPECT_EQ(word(module_.vp_addcx(SeamHost::vcpu_of(tdr), tdvpr)), kMetadataRcx);
  EXPECT_EQ(word(module_.vp_addcx(tdvpr + 4_KiB, tdr)), kMetadataRdx);
  for (unsigned i = 1; i < kMostTdvpsPages; ++i) {
    EXPECT_EQ(word(module_.vp_addcx(tdvpr + 4_KiB * i, tdvpr)), 0U);
  }
  EXPECT_EQ(word(module_.vp_addcx(tdvpr + 4_KiB * 40, tdvpr)), kTdcxNum);
  EXPECT_EQ(word(module_.vp_init(kFirst, tdvpr)), 0U);
  EXPECT_EQ(word(module_.vp_init(kFirst, tdvpr)), 0xC000070000000002U);
  EXPECT_EQ(word(module_.vp_addcx(tdvpr + 4_KiB * 40, tdvpr)), 0xC000070000000002U);
  EXPECT_EQ(word(module_.vp_init(kFirst, tdr)), kMetadataRcx);
}

TEST_F(SeamTd, MoreVcpusThanAskedForAreRefused) {
  const PhysAddr tdr = host_.build_td(kPages, SeamHost::kFirstKey, 2);
  (void)host_.add_vcpu(tdr, kPages + kMib);
  const PhysAddr third{kPages + 2 * kMib};
  (void)module_.vp_create(third, tdr);
  for (unsigned i = 1; i < kLeastTdvpsPages; ++i) {
    (void)module_.vp_addcx(third + 4_KiB * i, third);
  }
  EXPECT_EQ(word(module_.vp_init(kFirst, third)), 0xC000070500000000U);
}

TEST_F(SeamTd, AModelWithoutARecordForAnotherVcpuSaysSoAndChangesNothing) {
  const PhysAddr tdr = host_.build_td(kPages, SeamHost::kFirstKey);
  for (unsigned i = 1; i < 8; ++i) {
    EXPECT_EQ(word(module_.vp_create(tdr + Bytes{kMib + i * kPageBytes}, tdr)), 0U);
  }
  const SeamCall call = module_.vp_create(tdr + 2_MiB, tdr);
  ASSERT_FALSE(call.has_value());
  EXPECT_EQ(call.error(), SeamError::kNoVcpuRecord);
  EXPECT_EQ(host_.type(kPages + 2 * kMib), PamtType::kFree);
}

TEST_F(SeamTd, FinalizeNeedsAVcpuAndHappensOnce) {
  const PhysAddr tdr = create();
  add_tdcs(tdr, kLeastTdcsPages);
  EXPECT_EQ(word(module_.mr_finalize(tdr)), kOpState);
  (void)init(tdr);
  EXPECT_EQ(word(module_.mr_finalize(tdr)), 0xC000060900000000U);
  (void)host_.add_vcpu(tdr, kPages + kMib);
  EXPECT_EQ(word(module_.mr_finalize(tdr)), 0U);
  EXPECT_TRUE(module_.secure_ept(tdr)->finalized());
  EXPECT_EQ(word(module_.mr_finalize(tdr)), kOpState);
  EXPECT_EQ(word(module_.vp_create(PhysAddr{kPages + 2 * kMib}, tdr)), kOpState);
  EXPECT_EQ(word(module_.vp_addcx(PhysAddr{kPages + 2 * kMib}, PhysAddr{kPages + kMib})), kOpState);
}

// --- Ending a TD ---

class SeamEnd : public SeamTd {
 protected:
  void flush() {
    EXPECT_EQ(word(module_.vp_flush(kFirst, SeamHost::vcpu_of(tdr_))), 0U);
    EXPECT_EQ(word(module_.mng_vpflushdone(tdr_)), 0U);
  }
  void end() {
    flush();
    for (const ProcessorId processor : SeamHost::packages()) {
      EXPECT_EQ(word(module_.phymem_cache_wb(processor)), 0U);
    }
    EXPECT_EQ(word(module_.mng_key_freeid(tdr_)), 0U);
  }
  std::uint64_t reclaim(PhysAddr page) { return word(module_.phymem_page_reclaim(page)); }

  PhysAddr tdr_ = host_.build_td(kPages, SeamHost::kFirstKey);
};

TEST_F(SeamEnd, AVcpuIsFlushedByTheProcessorThatHoldsIt) {
  const PhysAddr vcpu = SeamHost::vcpu_of(tdr_);
  EXPECT_EQ(word(module_.mng_vpflushdone(tdr_)), 0x8000082400000000U);
  EXPECT_EQ(word(module_.vp_flush(ProcessorId{1}, vcpu)), 0x8000070200000000U);
  EXPECT_EQ(word(module_.vp_flush(kFirst, vcpu)), 0U);
  EXPECT_EQ(word(module_.vp_flush(kFirst, vcpu)), 0x8000070200000000U);
  EXPECT_EQ(word(module_.vp_flush(kFirst, tdr_)), kMetadataRcx);
  EXPECT_EQ(word(module_.mng_vpflushdone(tdr_)), 0U);
}

TEST_F(SeamEnd, AVcpuWithTooFewPagesHasNothingToFlush) {
  const PhysAddr tdvpr{kPages + kMib};
  (void)module_.vp_create(tdvpr, tdr_);
  EXPECT_EQ(word(module_.vp_flush(kFirst, tdvpr)), kTdcxNum);
}

TEST_F(SeamEnd, AfterFlushDoneTheTdIsOfNoUseAnyMore) {
  flush();
  EXPECT_EQ(word(module_.mng_vpflushdone(tdr_)), kLifecycle);
  EXPECT_EQ(word(module_.mem_track(tdr_)), kKeysNotConfigured);
  EXPECT_EQ(word(module_.vp_flush(kFirst, SeamHost::vcpu_of(tdr_))), kKeysNotConfigured);
  EXPECT_EQ(word(module_.mng_key_config(kFirst, tdr_)), kLifecycle);
}

TEST_F(SeamEnd, TheKeyIsFreeOnlyAfterEveryPackageWroteBackItsCache) {
  EXPECT_EQ(word(module_.phymem_cache_wb(kFirst)), 0x0000082100000000U);
  EXPECT_EQ(word(module_.mng_key_freeid(tdr_)), kLifecycle);
  flush();
  EXPECT_EQ(word(module_.mng_key_freeid(tdr_)), 0x8000081700000000U);
  EXPECT_EQ(word(module_.phymem_cache_wb(kFirst)), 0U);
  EXPECT_EQ(word(module_.mng_key_freeid(tdr_)), 0x8000081700000000U);
  EXPECT_EQ(word(module_.phymem_cache_wb(ProcessorId{3})), 0U);
  const PhysAddr other{kPages + kMib};
  EXPECT_EQ(word(module_.mng_create(other, SeamHost::kFirstKey)), 0xC000082000000000U);
  EXPECT_EQ(word(module_.mng_key_freeid(tdr_)), 0U);
  EXPECT_EQ(word(module_.mng_create(other, SeamHost::kFirstKey)), 0U);
}

TEST_F(SeamEnd, PagesComeBackAfterTheKeyIsFreeAndTheTdrLast) {
  const PhysAddr tdcx = tdr_ + 4_KiB;
  EXPECT_EQ(reclaim(tdcx), kLifecycle);
  EXPECT_EQ(reclaim(tdr_), kLifecycle);
  end();
  EXPECT_EQ(reclaim(tdr_), 0xC000040000000000U);
  for (PhysAddr page = tdcx; page < SeamHost::after(tdr_); page += 4_KiB) {
    EXPECT_EQ(reclaim(page), 0U);
    EXPECT_EQ(host_.type(page.value()), PamtType::kFree);
  }
  EXPECT_EQ(reclaim(tdr_), 0U);
  EXPECT_EQ(reclaim(tdr_), kMetadataRcx);
  EXPECT_EQ(module_.secure_ept(tdr_), nullptr);
  EXPECT_TRUE(module_.invariants());
  // Records, key and pages serve another TD.
  (void)host_.build_td(kPages, SeamHost::kFirstKey);
}

TEST_F(SeamEnd, ReclaimReportsWhatThePageWas) {
  end();
  const SeamCall call = module_.phymem_page_reclaim(SeamHost::vcpu_of(tdr_));
  EXPECT_EQ(*call, (SeamResult{.rcx = 6, .rdx = tdr_.value(), .r8 = 0}));
}

TEST_F(SeamEnd, APageThatIsNobodysOrOutsideTheTdmrsCannotBeReclaimed) {
  EXPECT_EQ(reclaim(PhysAddr{16 * kGib}), kRangeRcx);
  EXPECT_EQ(reclaim(PhysAddr{SeamHost::kReserved}), kMetadataRcx);
  EXPECT_EQ(reclaim(SeamHost::after(tdr_)), kMetadataRcx);
  EXPECT_EQ(reclaim(tdr_ + 1_B), kInvalidRcx);
  EXPECT_EQ(reclaim(tdr_ + Bytes{1ULL << 46}), kInvalidRcx);
}

TEST_F(SeamEnd, ATdThatNeverGotItsKeysCanBeEnded) {
  const PhysAddr tdr{kPages + kMib};
  (void)module_.mng_create(tdr, KeyId{40});
  EXPECT_EQ(word(module_.mng_vpflushdone(tdr)), 0U);
  for (const ProcessorId processor : SeamHost::packages()) {
    (void)module_.phymem_cache_wb(processor);
  }
  EXPECT_EQ(word(module_.mng_key_freeid(tdr)), 0U);
  EXPECT_EQ(reclaim(tdr), 0U);
}

TEST_F(SeamEnd, OnlyAFreePageIsWrittenBackWhateverItsKeyBits) {
  const auto writeback = [&](std::uint64_t page) {
    return word(module_.phymem_page_wbinvd(PhysAddr{page}));
  };
  const std::uint64_t free = SeamHost::after(tdr_).value();
  EXPECT_EQ(writeback(free), 0U);
  EXPECT_EQ(writeback(free | 33ULL << 46), 0U);
  EXPECT_EQ(writeback(tdr_.value()), kMetadataRcx);
  EXPECT_EQ(writeback(SeamHost::kReserved), kMetadataRcx);
  EXPECT_EQ(writeback(16 * kGib), kRangeRcx);
  EXPECT_EQ(writeback(free + 1), kInvalidRcx);
  EXPECT_EQ(writeback(free | 1ULL << 52), kInvalidRcx);
}

TEST(SeamStatus, EveryCodeOfAHostHasTheNameThatTheDecoderKnows) {
  const auto name_is = [](abi::tdx::Status code, std::string_view expected) {
    const auto found = abi::tdx::any_name_of(code);
    return found.has_value() && *found == expected;
  };
  EXPECT_TRUE(name_is(abi::tdx::kTdAssociatedPagesExist, "TD_ASSOCIATED_PAGES_EXIST"));
  EXPECT_TRUE(name_is(abi::tdx::kSysInitNotPending, "SYS_INIT_NOT_PENDING"));
  EXPECT_TRUE(name_is(abi::tdx::kSysLpInitDone, "SYS_LP_INIT_DONE"));
  EXPECT_TRUE(name_is(abi::tdx::kSysKeyConfigNotPending, "SYS_KEY_CONFIG_NOT_PENDING"));
  EXPECT_TRUE(name_is(abi::tdx::kSysLpInitNotPending, "SYS_LP_INIT_NOT_PENDING"));
  EXPECT_TRUE(name_is(abi::tdx::kTdcsNotAllocated, "TDCS_NOT_ALLOCATED"));
  EXPECT_TRUE(name_is(abi::tdx::kTdcxNumIncorrect, "TDCX_NUM_INCORRECT"));
  EXPECT_TRUE(name_is(abi::tdx::kVcpuNotAssociated, "VCPU_NOT_ASSOCIATED"));
  EXPECT_TRUE(name_is(abi::tdx::kTdKeysNotConfigured, "TD_KEYS_NOT_CONFIGURED"));
  EXPECT_TRUE(name_is(abi::tdx::kKeyConfigured, "KEY_CONFIGURED"));
  EXPECT_TRUE(name_is(abi::tdx::kWbcacheNotComplete, "WBCACHE_NOT_COMPLETE"));
  EXPECT_TRUE(name_is(abi::tdx::kHkidNotFree, "HKID_NOT_FREE"));
  EXPECT_TRUE(name_is(abi::tdx::kNoHkidReadyToWbcache, "NO_HKID_READY_TO_WBCACHE"));
  EXPECT_TRUE(name_is(abi::tdx::kFlushvpNotDone, "FLUSHVP_NOT_DONE"));
}

}  // namespace
}  // namespace accede::host
