// What the firmware does to pages, and pages in use.
#include "tests/host/rmp_fixture.hpp"

#include <gtest/gtest.h>

#include <string>

namespace accede::host {
namespace {

using test::gpa_at;
using test::kRmp2M;
using test::kRmp4K;
using test::kRmpAsid;
using test::spa_at;
using E = RmpEntry;

class RmpFirmware : public ::testing::Test, public test::RmpTable {
 protected:
  void TearDown() override { EXPECT_TRUE(rmp.invariants()); }
  void all_small(std::uint64_t region, RmpState state) {
    for (std::uint64_t i = 0; i < 512; ++i) {
      bring(region + i * kRmp4K, PageSize::k4K, state);
    }
  }
};

// --- SNP_LAUNCH_UPDATE ---

class RmpLaunch : public ::testing::TestWithParam<LaunchPageType>, public test::RmpTable {};

TEST_P(RmpLaunch, Regression_S01_TheFirmwareValidatesAPageOfThisType) {
  bring(kRmp4K, PageSize::k4K, RmpState::kPreGuest);
  ASSERT_EQ(rmp.launch_update(spa_at(kRmp4K),
                              {.type = GetParam(), .asid = kRmpAsid, .permissions = {1, 2, 0x1F}}),
            FirmwareCode::kSuccess);
  EXPECT_EQ(state(kRmp4K), RmpState::kGuestValid);
  const RmpEntry entry = rmp.lookup(spa_at(kRmp4K));
  EXPECT_EQ(E::Vmsa::get(entry.low), GetParam() == LaunchPageType::kVmsa ? 1U : 0U);
  EXPECT_EQ(entry.high, 0x1F02011FU);
  EXPECT_TRUE(rmp.invariants());
}

TEST_P(RmpLaunch, A2MPageIsForPlainMemoryOnly) {
  bring(0, PageSize::k2M, RmpState::kPreGuest);
  const bool plain = GetParam() == LaunchPageType::kNormal || GetParam() == LaunchPageType::kZero ||
                     GetParam() == LaunchPageType::kUnmeasured;
  EXPECT_EQ(
      rmp.launch_update(spa_at(0), {.type = GetParam(), .size = PageSize::k2M, .asid = kRmpAsid}),
      plain ? FirmwareCode::kSuccess : FirmwareCode::kInvalidPageSize);
  EXPECT_EQ(state(511 * kRmp4K), plain ? RmpState::kGuestValid : RmpState::kPreGuest);
}

std::string type_name(const ::testing::TestParamInfo<LaunchPageType>& type) {
  constexpr std::array kNames{"Normal", "Vmsa", "Zero", "Unmeasured", "Secrets", "Cpuid"};
  return kNames[static_cast<std::size_t>(type.param) - 1];
}
INSTANTIATE_TEST_SUITE_P(Types, RmpLaunch,
                         ::testing::Values(LaunchPageType::kNormal, LaunchPageType::kVmsa,
                                           LaunchPageType::kZero, LaunchPageType::kUnmeasured,
                                           LaunchPageType::kSecrets, LaunchPageType::kCpuid),
                         type_name);

TEST_F(RmpFirmware, LaunchUpdateRefusesWhatItWasNotGiven) {
  bring(kRmp4K, PageSize::k4K, RmpState::kPreGuest);
  bring(kRmp2M, PageSize::k2M, RmpState::kPreGuest);
  const auto launch = [&](std::uint64_t offset, const LaunchPage& page) {
    return rmp.launch_update(spa_at(offset), page);
  };
  EXPECT_EQ(launch(kRmp4K, {.asid = 6}), FirmwareCode::kInvalidPageOwner);
  EXPECT_EQ(launch(kRmp4K, {.type = LaunchPageType{0}, .asid = 5}), FirmwareCode::kInvalidParam);
  EXPECT_EQ(launch(kRmp4K, {.type = LaunchPageType{7}, .asid = 5}), FirmwareCode::kInvalidParam);
  EXPECT_EQ(launch(kRmp4K, {.asid = 5, .permissions = {0, 0x20, 0}}), FirmwareCode::kInvalidParam);
  EXPECT_EQ(launch(kRmp2M, {.asid = 5}), FirmwareCode::kInvalidPageSize);
  EXPECT_EQ(launch(kRmp4K, {.size = PageSize::k2M, .asid = 5}), FirmwareCode::kInvalidAddress);
  EXPECT_EQ(launch(0, {.size = PageSize::k2M, .asid = 5}), FirmwareCode::kInvalidPageSize);
  EXPECT_EQ(launch(0, {.size = PageSize::k1G, .asid = 5}), FirmwareCode::kInvalidPageSize);
  EXPECT_EQ(launch(4 * kRmp2M + 3 * kRmp4K, {.asid = 5}), FirmwareCode::kInvalidAddress);
  EXPECT_EQ(launch(kRmp4K + 1, {.asid = 5}), FirmwareCode::kInvalidAddress);
  EXPECT_EQ(launch(kRmp4K, {.asid = 5}), FirmwareCode::kSuccess);
  EXPECT_EQ(launch(kRmp4K, {.asid = 5}), FirmwareCode::kInvalidPageState) << "twice";
}

TEST_F(RmpFirmware, EveryCodeHasItsName) {
  EXPECT_EQ(name_of(FirmwareCode::kSuccess), "SUCCESS");
  EXPECT_EQ(name_of(FirmwareCode::kInvalidAddress), "INVALID_ADDRESS");
  EXPECT_EQ(name_of(FirmwareCode::kInvalidParam), "INVALID_PARAM");
  EXPECT_EQ(name_of(FirmwareCode::kInvalidPageSize), "INVALID_PAGE_SIZE");
  EXPECT_EQ(name_of(FirmwareCode::kInvalidPageState), "INVALID_PAGE_STATE");
  EXPECT_EQ(name_of(FirmwareCode::kInvalidPageOwner), "INVALID_PAGE_OWNER");
  EXPECT_EQ(name_of(static_cast<FirmwareCode>(99)), "unknown");
}

// --- reclaim ---

TEST_F(RmpFirmware, AnImmutablePageIsTheHostsAgainOnlyThroughReclaim) {
  for (const RmpState from : {RmpState::kFirmware, RmpState::kPreGuest}) {
    for (const PageSize size : {PageSize::k4K, PageSize::k2M}) {
      bring(0, size, from);
      EXPECT_EQ(release(0, size), RmpUpdateCode::kFailPermission);
      ASSERT_EQ(rmp.reclaim(spa_at(0), size), FirmwareCode::kSuccess);
      EXPECT_EQ(state(0), RmpState::kReclaim);
      EXPECT_EQ(rmp.reclaim(spa_at(0), size), FirmwareCode::kInvalidPageState);
      EXPECT_EQ(release(0, size), RmpUpdateCode::kSuccess);
      EXPECT_EQ(state(0), RmpState::kHypervisor);
    }
  }
}

TEST_F(RmpFirmware, MoveChecksPlaceSizeAndMetadata) {
  bring(0, PageSize::k2M, RmpState::kFirmware);
  EXPECT_EQ(rmp.reclaim(spa_at(0), PageSize::k4K), FirmwareCode::kInvalidPageSize);
  EXPECT_EQ(rmp.reclaim(spa_at(kRmp4K), PageSize::k2M), FirmwareCode::kInvalidAddress);
  EXPECT_EQ(rmp.reclaim(PhysAddr{0}, PageSize::k4K), FirmwareCode::kInvalidAddress);
  for (const PhysAddr metadata : {PhysAddr{}, PhysAddr{1}, PhysAddr{1ULL << 51}}) {
    EXPECT_EQ(rmp.move(spa_at(0), PageSize::k2M, RmpState::kMetadata, metadata),
              FirmwareCode::kInvalidParam);
  }
}

TEST_F(RmpFirmware, A2MPageCannotBeMadeAroundAnHvFixedPage) {
  bring(7 * kRmp4K, PageSize::k4K, RmpState::kHvFixed);
  EXPECT_EQ(assign(0, PageSize::k2M), RmpUpdateCode::kFailPermission);
  EXPECT_EQ(release(0, PageSize::k2M), RmpUpdateCode::kFailPermission);
  EXPECT_EQ(assign(8 * kRmp4K, PageSize::k4K), RmpUpdateCode::kSuccess);
}

// --- PAGE_UNSMASH ---

TEST_F(RmpFirmware, UnsmashUndoesPsmash) {
  bring(0, PageSize::k2M, RmpState::kGuestValid);
  ASSERT_EQ(rmp.rmpadjust(page(0), 1, 0x301), RmpAdjustOutcome{});
  const RmpEntry before = rmp.lookup(spa_at(9 * kRmp4K));
  ASSERT_EQ(rmp.psmash(spa_at(0)), PsmashCode::kSuccess);
  ASSERT_EQ(rmp.unsmash(spa_at(0)), FirmwareCode::kSuccess);
  EXPECT_EQ(rmp.lookup(spa_at(9 * kRmp4K)), before);
  EXPECT_EQ(raw(9 * kRmp4K), RmpEntry{});
  EXPECT_EQ(access(9 * kRmp4K, PageSize::k2M), RmpVerdict::kAllowed);
  EXPECT_EQ(rmp.unsmash(spa_at(0)), FirmwareCode::kInvalidPageSize) << "one page already";
}

TEST_F(RmpFirmware, UnsmashTakesPagesOfTheGuestInAnyOneState) {
  for (const RmpState from : {RmpState::kGuestInvalid, RmpState::kPreGuest, RmpState::kPreSwap}) {
    RmpTable table;
    for (std::uint64_t i = 0; i < 512; ++i) {
      table.bring(i * kRmp4K, PageSize::k4K, from);
    }
    EXPECT_EQ(table.rmp.unsmash(spa_at(0)), FirmwareCode::kSuccess);
    EXPECT_EQ(table.state(300 * kRmp4K), from);
    EXPECT_TRUE(table.rmp.invariants());
  }
}

TEST_F(RmpFirmware, UnsmashNeeds512PagesThatAgree) {
  const auto refused = [&] { return rmp.unsmash(spa_at(0)) == FirmwareCode::kInvalidPageState; };
  EXPECT_TRUE(refused()) << "nobody's";
  all_small(0, RmpState::kGuestInvalid);
  const std::uint64_t last = 511 * kRmp4K;
  ASSERT_EQ(pvalidate(last, 0), PvalidateOutcome{});
  EXPECT_TRUE(refused()) << "one is valid";
  ASSERT_EQ(release(last, PageSize::k4K), RmpUpdateCode::kSuccess);
  EXPECT_TRUE(refused()) << "one is missing";
  ASSERT_EQ(rmp.update(spa_at(last), RmpUpdate::guest(gpa_at(0), PageSize::k4K, kRmpAsid)),
            RmpUpdateCode::kSuccess);
  EXPECT_TRUE(refused()) << "another GPA";
  ASSERT_EQ(rmp.update(spa_at(last), RmpUpdate::guest(gpa_at(last), PageSize::k4K, kRmpAsid + 1)),
            RmpUpdateCode::kSuccess);
  EXPECT_TRUE(refused()) << "another guest's";
  ASSERT_EQ(assign(last, PageSize::k4K), RmpUpdateCode::kSuccess);
  ASSERT_TRUE(rmp.begin_use(spa_at(last)));
  EXPECT_TRUE(refused()) << "in use";
  rmp.end_use(spa_at(last));
  EXPECT_EQ(rmp.unsmash(spa_at(kRmp4K)), FirmwareCode::kInvalidAddress);
  EXPECT_EQ(rmp.unsmash(spa_at(4 * kRmp2M)), FirmwareCode::kInvalidAddress);
  EXPECT_FALSE(refused());
}

TEST_F(RmpFirmware, UnsmashLeavesVmsasAlone) {
  bring(0, PageSize::k2M, RmpState::kGuestValid);
  ASSERT_EQ(rmp.rmpadjust(page(0), 1, 0x10001), RmpAdjustOutcome{});
  ASSERT_EQ(rmp.psmash(spa_at(0)), PsmashCode::kSuccess);
  EXPECT_EQ(rmp.unsmash(spa_at(0)), FirmwareCode::kInvalidPageState);
}

TEST_F(RmpFirmware, UnsmashNeedsGpasFromAMultipleOf2M) {
  for (std::uint64_t i = 0; i < 512; ++i) {
    ASSERT_EQ(rmp.update(spa_at(i * kRmp4K),
                         RmpUpdate::guest(gpa_at((i + 1) * kRmp4K), PageSize::k4K, kRmpAsid)),
              RmpUpdateCode::kSuccess);
  }
  EXPECT_EQ(rmp.unsmash(spa_at(0)), FirmwareCode::kInvalidPageState);
}

// --- VMRUN ---

class RmpRun : public RmpFirmware {
 protected:
  void SetUp() override {
    bring(kVmsa, PageSize::k4K, RmpState::kPreGuest);
    ASSERT_EQ(rmp.launch_update(spa_at(kVmsa), {.type = LaunchPageType::kVmsa, .asid = kRmpAsid}),
              FirmwareCode::kSuccess);
  }
  static constexpr std::uint64_t kVmcb = kRmp2M + kRmp4K;
  static constexpr std::uint64_t kVmsa = 3 * kRmp4K;
  static constexpr std::uint64_t kAvic = 2 * kRmp2M;
  const std::array<PhysAddr, 1> avic{spa_at(kAvic)};
  RunPages pages{.vmcb = spa_at(kVmcb),
                 .vmsa = RunPages::Vmsa{spa_at(kVmsa), gpa_at(kVmsa), kRmpAsid},
                 .avic = avic};
};

TEST_F(RmpRun, WhatVmrunMarkedIsInUseUntilTheExit) {
  ASSERT_EQ(rmp.vmrun(pages), RunVerdict::kEntered);
  for (const std::uint64_t page : {kVmcb, kVmsa, kAvic}) {
    EXPECT_TRUE(rmp.in_use(spa_at(page), PageSize::k4K));
    EXPECT_TRUE(rmp.in_use(spa_at(page), PageSize::k2M));
    EXPECT_EQ(assign(page, PageSize::k4K), RmpUpdateCode::kFailInUse);
    EXPECT_EQ(release(page, PageSize::k4K), RmpUpdateCode::kFailInUse);
  }
  EXPECT_EQ(assign(kRmp2M, PageSize::k2M), RmpUpdateCode::kFailInUse);
  EXPECT_EQ(assign(0, PageSize::k2M), RmpUpdateCode::kFailInUse) << "before FAIL_OVERLAP";
  EXPECT_EQ(assign(kVmcb + kRmp4K, PageSize::k4K), RmpUpdateCode::kSuccess) << "a neighbour";
  EXPECT_TRUE(rmp.invariants());
  rmp.vmexit(pages);
  for (const std::uint64_t page : {kVmcb, kVmsa, kAvic}) {
    EXPECT_FALSE(rmp.in_use(spa_at(page), PageSize::k2M));
    EXPECT_EQ(release(page, PageSize::k4K), RmpUpdateCode::kSuccess);
  }
}

TEST_F(RmpRun, TheVmcbMustBeTheHypervisors) {
  pages.vmcb = spa_at(kVmsa);
  EXPECT_EQ(rmp.vmrun(pages), RunVerdict::kGeneralProtection);
  pages.vmcb = PhysAddr{0x1000};
  EXPECT_EQ(rmp.vmrun(pages), RunVerdict::kEntered) << "not covered: the hypervisor's for ever";
  rmp.vmexit(pages);
}

TEST_F(RmpRun, TheVmsaMustBeOneOfTheGuest) {
  const auto refused = [&](const RunPages::Vmsa& vmsa) {
    pages.vmsa = vmsa;
    const RunVerdict verdict = rmp.vmrun(pages);
    EXPECT_FALSE(rmp.in_use(pages.vmcb, PageSize::k4K)) << "nothing stays marked";
    return verdict == RunVerdict::kVmexitInvalid;
  };
  EXPECT_TRUE(refused({spa_at(kVmsa), gpa_at(kVmsa), kRmpAsid + 1}));
  EXPECT_TRUE(refused({spa_at(kVmsa), gpa_at(0), kRmpAsid}));
  EXPECT_TRUE(refused({PhysAddr{0}, gpa_at(kVmsa), kRmpAsid})) << "not covered";
  EXPECT_TRUE(refused({spa_at(0), gpa_at(0), kRmpAsid})) << "not assigned";
  bring(0, PageSize::k4K, RmpState::kGuestValid);
  EXPECT_TRUE(refused({spa_at(0), gpa_at(0), kRmpAsid})) << "no VMSA bit";
  ASSERT_EQ(rmp.move(spa_at(kVmsa), PageSize::k4K, RmpState::kPreSwap), FirmwareCode::kSuccess);
  EXPECT_TRUE(refused({spa_at(kVmsa), gpa_at(kVmsa), kRmpAsid})) << "immutable";
}

TEST_F(RmpRun, TwoVcpusCannotRunOnOneVmsa) {
  ASSERT_EQ(rmp.vmrun(pages), RunVerdict::kEntered);
  RunPages other = pages;
  other.vmcb = spa_at(kVmcb + kRmp4K);
  EXPECT_EQ(rmp.vmrun(other), RunVerdict::kVmexitInvalid);
  rmp.vmexit(pages);
  EXPECT_EQ(rmp.vmrun(other), RunVerdict::kEntered);
  rmp.vmexit(other);
}

TEST_F(RmpRun, PsmashFailsWhileAVcpuRunsInside) {
  bring(3 * kRmp2M, PageSize::k2M, RmpState::kGuestValid);
  ASSERT_EQ(rmp.rmpadjust(page(3 * kRmp2M), 1, 0x10001), RmpAdjustOutcome{});
  const std::uint64_t inside = 3 * kRmp2M + kRmp4K;
  pages.vmsa = RunPages::Vmsa{spa_at(inside), gpa_at(inside), kRmpAsid};
  ASSERT_EQ(rmp.vmrun(pages), RunVerdict::kEntered);
  EXPECT_EQ(rmp.psmash(spa_at(3 * kRmp2M)), PsmashCode::kFailInUse);
  EXPECT_EQ(release(3 * kRmp2M, PageSize::k2M), RmpUpdateCode::kFailInUse);
  EXPECT_EQ(rmp.move(spa_at(3 * kRmp2M), PageSize::k2M, RmpState::kPreSwap),
            FirmwareCode::kInvalidPageState);
  EXPECT_TRUE(rmp.invariants());
  rmp.vmexit(pages);
  EXPECT_EQ(rmp.psmash(spa_at(3 * kRmp2M)), PsmashCode::kSuccess);
}

TEST_F(RmpRun, SixtyThreeUsersOfAPageCanBeCounted) {
  for (int i = 0; i < 63; ++i) {
    ASSERT_TRUE(rmp.begin_use(spa_at(kAvic)));
  }
  EXPECT_FALSE(rmp.begin_use(spa_at(kAvic)));
  EXPECT_EQ(rmp.vmrun(pages), RunVerdict::kTooManyUsers);
  EXPECT_FALSE(rmp.in_use(spa_at(kVmsa), PageSize::k4K)) << "nothing stays marked";
  EXPECT_FALSE(rmp.in_use(spa_at(kVmcb), PageSize::k4K));
  for (int i = 0; i < 63; ++i) {
    rmp.end_use(spa_at(kAvic));
  }
  EXPECT_FALSE(rmp.in_use(spa_at(kAvic), PageSize::k4K));
}

TEST_F(RmpRun, AnHvFixedPageMayBeAVmcb) {
  bring(kAvic + kRmp4K, PageSize::k4K, RmpState::kHvFixed);
  pages.vmcb = spa_at(kAvic + kRmp4K);
  ASSERT_EQ(rmp.vmrun(pages), RunVerdict::kEntered);
  EXPECT_TRUE(rmp.invariants());
  rmp.vmexit(pages);
}

TEST_F(RmpRun, AGuestCannotExecuteTheHostsInstructions) {
  const RmpUpdate update = RmpUpdate::hypervisor(PageSize::k4K);
  EXPECT_EQ(rmp.update(spa_at(0), update, kRmpAsid), RmpUpdateCode::kFailPermission);
  EXPECT_EQ(rmp.update(spa_at(1), update, kRmpAsid), RmpUpdateCode::kFailInput) << "looks first";
  EXPECT_EQ(rmp.psmash(spa_at(0), kRmpAsid), PsmashCode::kFailPermission);
}

TEST_F(RmpRun, MisuseStopsAtOnce) {
  EXPECT_DEATH(rmp.end_use(spa_at(0)), "") << "nobody uses it";
  EXPECT_DEATH(rmp.vmexit(pages), "") << "did not enter";
  EXPECT_DEATH((void)assign(0, PageSize::k1G), "");
  EXPECT_DEATH((void)rmp.reclaim(spa_at(0), PageSize::k1G), "");
  EXPECT_DEATH((void)access(0, PageSize::k4K, 4), "") << "no VMPL 4";
  EXPECT_DEATH((void)rmp.rmpadjust(page(0, 4), 0, 0), "");
}

TEST_F(RmpRun, EveryVerdictHasItsWords) {
  EXPECT_EQ(name(RunVerdict::kEntered), "entered");
  EXPECT_EQ(name(RunVerdict::kGeneralProtection), "#GP(0): the VMCB is not the hypervisor's");
  EXPECT_EQ(name(RunVerdict::kVmexitInvalid), "VMEXIT_INVALID: not a VMSA of the guest");
  EXPECT_EQ(name(RunVerdict::kTooManyUsers), "too many users of one page");
  EXPECT_EQ(name(static_cast<RunVerdict>(9)), "unknown");
}

}  // namespace
}  // namespace accede::host
