#include "accede/host/seam_module.hpp"

#include "tests/host/seam_fixture.hpp"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <vector>

namespace accede::host {
namespace {

using test::kGib;
using test::kPageBytes;
using test::SeamHost;
using test::word;

constexpr std::uint64_t kSysNotReady = 0xC000050500000000;
constexpr ProcessorId kFirst{0};

class SeamBringUp : public testing::Test {
 protected:
  SeamHost host_;
  SeamModule& module_ = host_.module;
};

TEST_F(SeamBringUp, InTheRightOrderItEndsReadyWithUsableMemory) {
  host_.bring_up();
  EXPECT_EQ(host_.type(SeamHost::kTdmr), PamtType::kFree);
  EXPECT_TRUE(module_.invariants());
}

TEST_F(SeamBringUp, SysInitHappensOnceAndItsOperandIsReserved) {
  EXPECT_EQ(word(module_.sys_init(1)), 0xC000010000000001U);
  EXPECT_EQ(word(module_.sys_init()), 0U);
  EXPECT_EQ(word(module_.sys_init()), 0xC000050000000000U);
}

TEST_F(SeamBringUp, SysInitRefusesCmrsThatAreNotSound) {
  std::swap(host_.cmrs()[0], host_.cmrs()[1]);
  EXPECT_EQ(word(module_.sys_init()), 0xC0000A2200000000U);
}

TEST_F(SeamBringUp, EachProcessorIsInitializedOnceAfterTheModule) {
  EXPECT_EQ(word(module_.sys_lp_init(kFirst)), 0xC000050B00000000U);
  (void)module_.sys_init();
  EXPECT_EQ(word(module_.sys_lp_init(kFirst)), 0U);
  EXPECT_EQ(word(module_.sys_lp_init(kFirst)), 0xC000050300000000U);
  EXPECT_EQ(word(module_.sys_lp_init(ProcessorId{3})), 0U);
}

TEST_F(SeamBringUp, ConfigComesAfterTheLastProcessorAndOnce) {
  constexpr std::uint64_t kNotPending = 0xC000050C00000000;
  const auto config = [&] { return word(module_.sys_config(host_.tdmrs(), SeamHost::kGlobalKey)); };
  EXPECT_EQ(config(), kNotPending);
  (void)module_.sys_init();
  for (const ProcessorId processor : SeamHost::processors()) {
    EXPECT_EQ(config(), kNotPending);
    (void)module_.sys_lp_init(processor);
  }
  EXPECT_EQ(config(), 0U);
  EXPECT_EQ(config(), kNotPending);
  EXPECT_EQ(word(module_.sys_lp_init(kFirst)), 0xC000050B00000000U);
}

class SeamConfig : public SeamBringUp {
 protected:
  SeamConfig() {
    (void)module_.sys_init();
    for (const ProcessorId processor : SeamHost::processors()) {
      (void)module_.sys_lp_init(processor);
    }
  }
  std::uint64_t config(KeyId key = SeamHost::kGlobalKey, bool dynamic = false) {
    return word(module_.sys_config(host_.tdmrs(), key, dynamic));
  }
};

TEST_F(SeamConfig, TheGlobalKeyMustBePrivate) {
  EXPECT_EQ(config(KeyId{31}), 0xC000010000000008U);
  EXPECT_EQ(config(KeyId{64}), 0xC000010000000008U);
  EXPECT_EQ(config(KeyId{63}), 0U);
}

TEST_F(SeamConfig, TheCountOfTdmrsIsCheckedBeforeTheKeyAndTheKeyBeforeTheList) {
  host_.tdmrs()[1].size += 1;
  EXPECT_EQ(config(KeyId{0}), 0xC000010000000008U);
  EXPECT_EQ(config(), 0xC0000A0000000001U);
  host_.tdmrs().clear();
  EXPECT_EQ(config(KeyId{0}), 0xC000010000000002U);
  host_.tdmrs().resize(65);
  EXPECT_EQ(config(KeyId{0}), 0xC000010000000002U);
}

TEST_F(SeamConfig, ARefusedListCanBeCorrected) {
  host_.tdmrs()[1].pamt_4k.size -= kPageBytes;
  EXPECT_EQ(config(), 0xC0000A1000000001U);
  host_.tdmrs()[1].pamt_4k.size += kPageBytes;
  EXPECT_EQ(config(), 0U);
}

TEST_F(SeamConfig, DynamicPamtTakesASmallArrayForSmallPages) {
  for (abi::tdx::TdmrInfo& tdmr : host_.tdmrs()) {
    tdmr.pamt_4k.size = least_pamt_size(Bytes{tdmr.size}, PageSize::k4K, true).value();
  }
  EXPECT_EQ(config(), 0xC0000A1000000000U);
  EXPECT_EQ(config(SeamHost::kGlobalKey, true), 0U);
}

TEST_F(SeamConfig, AModelWithoutRoomForTheTdmrsSaysSo) {
  SeamHost small{0_B};
  (void)small.module.sys_init();
  for (const ProcessorId processor : SeamHost::processors()) {
    (void)small.module.sys_lp_init(processor);
  }
  const SeamCall call = small.module.sys_config(small.tdmrs(), SeamHost::kGlobalKey);
  ASSERT_FALSE(call.has_value());
  EXPECT_EQ(call.error(), SeamError::kNoPageMetadata);
}

TEST_F(SeamBringUp, TheKeyIsConfiguredOnceForEachPackage) {
  EXPECT_EQ(word(module_.sys_key_config(kFirst)), 0xC000050700000000U);
  host_.configure();
  EXPECT_EQ(word(module_.sys_key_config(kFirst)), 0U);
  EXPECT_EQ(word(module_.sys_key_config(ProcessorId{1})), 0x0000081500000000U);
  EXPECT_EQ(word(module_.sys_tdmr_init(PhysAddr{SeamHost::kTdmr})), kSysNotReady);
  EXPECT_EQ(word(module_.sys_key_config(ProcessorId{3})), 0U);
  EXPECT_EQ(word(module_.sys_key_config(kFirst)), 0xC000050700000000U);
  EXPECT_EQ(word(module_.sys_tdmr_init(PhysAddr{SeamHost::kTdmr})), 0U);
}

TEST_F(SeamBringUp, TdmrInitKnowsTheBasesOfTdmrsOnly) {
  host_.make_ready();
  EXPECT_EQ(word(module_.sys_tdmr_init(PhysAddr{SeamHost::kTdmr + kGib})), 0xC000010000000001U);
  EXPECT_EQ(word(module_.sys_tdmr_init(PhysAddr{kPageBytes})), 0xC000010000000001U);
}

TEST_F(SeamBringUp, TdmrInitReportsWholeGibsAndWarnsWhenAllIsDone) {
  host_.make_ready();
  std::array<unsigned, 3> calls{};
  SeamCall call = module_.sys_tdmr_init(PhysAddr{SeamHost::kTdmr});
  for (; word(call) == 0; call = module_.sys_tdmr_init(PhysAddr{SeamHost::kTdmr})) {
    EXPECT_EQ(call->rdx % kGib, 0U);
    ++calls.at((call->rdx - SeamHost::kTdmr) / kGib);
  }
  EXPECT_EQ(word(call), 0x00000A0300000000U);
  EXPECT_EQ(calls, (std::array<unsigned, 3>{255, 256, 1}));
}

TEST_F(SeamBringUp, MemoryOfAGibIsUnusableBeforeItIsInitialized) {
  host_.make_ready();
  const auto create = [&](std::uint64_t page) {
    return word(module_.mng_create(PhysAddr{page}, SeamHost::kFirstKey));
  };
  EXPECT_EQ(create(SeamHost::kTdmr), 0xC000010100000001U);
  host_.initialize(SeamHost::kTdmr, SeamHost::kTdmr + kGib);
  EXPECT_EQ(create(SeamHost::kTdmr + kGib), 0xC000010100000001U);
  EXPECT_EQ(create(SeamHost::kTdmr), 0U);
}

TEST_F(SeamBringUp, EveryOtherCallNeedsAReadyModule) {
  host_.configure();
  (void)module_.sys_key_config(kFirst);
  const PhysAddr page{SeamHost::kTdmr};
  test::AlignedBytes storage{64_KiB};
  const std::vector<std::function<SeamCall()>> calls{
      [&] { return module_.sys_tdmr_init(page); },
      [&] { return module_.mng_create(page, SeamHost::kFirstKey); },
      [&] { return module_.mng_key_config(kFirst, page); },
      [&] { return module_.mng_addcx(page, page); },
      [&] { return module_.mng_init(page, {}, storage.span()); },
      [&] { return module_.vp_create(page, page); },
      [&] { return module_.vp_addcx(page, page); },
      [&] { return module_.vp_init(kFirst, page); },
      [&] { return module_.mr_finalize(page); },
      [&] { return module_.mem_sept_add(3, page, page); },
      [&] { return module_.mem_page_add(0, page, page); },
      [&] { return module_.mem_page_aug(0, page, page); },
      [&] { return module_.mem_range_block(0, page); },
      [&] { return module_.mem_range_unblock(0, page); },
      [&] { return module_.mem_track(page); },
      [&] { return module_.mem_page_remove(0, page); },
      [&] { return module_.vp_flush(kFirst, page); },
      [&] { return module_.mng_vpflushdone(page); },
      [&] { return module_.phymem_cache_wb(kFirst); },
      [&] { return module_.mng_key_freeid(page); },
      [&] { return module_.phymem_page_reclaim(page); },
      [&] { return module_.phymem_page_wbinvd(page); },
      [&] { return module_.phymem_page_rdmd(page); },
      [&] { return module_.phymem_pamt_add(1, page, page); },
      [&] { return module_.phymem_pamt_remove(1); },
  };
  for (std::size_t i = 0; i < calls.size(); ++i) {
    EXPECT_EQ(word(calls[i]()), kSysNotReady) << "call " << i;
  }
}

TEST(SeamNames, EveryErrorAndLifecycleHasAName) {
  for (const SeamError error : {SeamError::kNoPageMetadata, SeamError::kNoSeptStorage,
                                SeamError::kNoTdRecord, SeamError::kNoVcpuRecord}) {
    EXPECT_NE(name(error), "unknown");
  }
  EXPECT_EQ(name(SeamError{9}), "unknown");
  for (const TdLifecycle state : {TdLifecycle::kKeyAssigned, TdLifecycle::kKeysConfigured,
                                  TdLifecycle::kBlocked, TdLifecycle::kTeardown}) {
    EXPECT_NE(name(state), "unknown");
  }
  EXPECT_EQ(name(TdLifecycle{9}), "unknown");
}

}  // namespace
}  // namespace accede::host
