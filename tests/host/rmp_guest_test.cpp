// RMPADJUST, RMPQUERY, flags and words: what a guest gets from the RMP beside PVALIDATE.
#include "tests/host/rmp_fixture.hpp"

#include <gtest/gtest.h>

namespace accede::host {
namespace {

using abi::rmp::RmpAdjustOperand;
using test::kRmp2M;
using test::kRmp4K;
using test::kRmpAsid;
using E = RmpEntry;

constexpr RmpAdjustOutcome kDone{};
constexpr RmpAdjustOutcome kFailInput{.code = RmpAdjustCode::kFailInput};
constexpr RmpAdjustOutcome kFailPermission{.code = RmpAdjustCode::kFailPermission};

class RmpAdjust : public ::testing::Test, public test::RmpTable {
 protected:
  void SetUp() override { bring(kRmp4K, PageSize::k4K, RmpState::kGuestValid); }
  void TearDown() override { EXPECT_TRUE(rmp.invariants()); }
  RmpAdjustOutcome adjust(unsigned caller, unsigned target, std::uint8_t mask, bool vmsa = false) {
    return rmp.rmpadjust(page(kRmp4K, caller), 0, RmpAdjustOperand::make(target, mask, vmsa));
  }
  [[nodiscard]] std::uint64_t vmsa() const {
    return E::Vmsa::get(rmp.lookup(test::spa_at(kRmp4K)).low);
  }
};

TEST_F(RmpAdjust, LinuxsProbeForVmpl0Succeeds) {
  EXPECT_EQ(rmp.rmpadjust(page(kRmp4K), 0, 1), kDone) << "VMPL 1 without permissions";
}

TEST_F(RmpAdjust, ItCannotTargetItsOwnOrAMorePrivilegedVmpl) {
  ASSERT_EQ(adjust(0, 1, 0x1F), kDone);
  for (unsigned caller = 0; caller < 4; ++caller) {
    for (unsigned target = 0; target < 4; ++target) {
      EXPECT_EQ(adjust(caller, target, 0), target > caller ? kDone : kFailPermission);
    }
  }
}

TEST_F(RmpAdjust, ItGrantsOnlyWhatTheCallerHas) {
  ASSERT_EQ(adjust(0, 1, 0x05), kDone);
  for (unsigned mask = 0; mask <= 0x1F; ++mask) {
    const bool within = (mask & ~0x05U) == 0;
    EXPECT_EQ(adjust(1, 2, static_cast<std::uint8_t>(mask)), within ? kDone : kFailPermission);
  }
  EXPECT_EQ(E::Vmpl2::get(rmp.lookup(test::spa_at(kRmp4K)).high), 0x05U) << "the last that fitted";
}

TEST_F(RmpAdjust, OnlyVmpl0ChangesTheVmsaBit) {
  ASSERT_EQ(adjust(0, 1, 0x1F, true), kDone);
  EXPECT_EQ(vmsa(), 1U);
  EXPECT_EQ(adjust(1, 2, 0, false), kDone);
  EXPECT_EQ(vmsa(), 1U);
  EXPECT_EQ(adjust(0, 2, 0, false), kDone);
  EXPECT_EQ(vmsa(), 0U);
  EXPECT_EQ(adjust(1, 2, 0, true), kDone);
  EXPECT_EQ(vmsa(), 0U);
}

TEST_F(RmpAdjust, BadOperandsFailBeforeAnythingElse) {
  const GuestPage elsewhere{.spa = PhysAddr{0}, .gpa = PhysAddr{1}, .asid = 9};
  EXPECT_EQ(rmp.rmpadjust(elsewhere, 0, 1), kFailInput) << "misaligned";
  EXPECT_EQ(rmp.rmpadjust(page(kRmp4K), 1, 1), kFailInput) << "not 2M aligned";
  EXPECT_EQ(rmp.rmpadjust(page(kRmp4K), 2, 1), kFailInput);
  EXPECT_EQ(rmp.rmpadjust(page(kRmp4K), 1ULL << 32, 1), kFailInput);
  EXPECT_EQ(rmp.rmpadjust(page(kRmp4K), 0, 4), kFailInput) << "no VMPL 4";
  EXPECT_EQ(rmp.rmpadjust(page(kRmp4K), 0, 1 | 0x2000), kFailInput) << "no permission bit 5";
  EXPECT_EQ(rmp.rmpadjust(page(kRmp4K), 0, 1 | 1ULL << 17), kFailInput);
}

TEST_F(RmpAdjust, FaultsAsAPrivateAccessDoes) {
  const auto fault = [&](GuestPage at, std::uint64_t rcx = 0) {
    return rmp.rmpadjust(at, rcx, 1).fault;
  };
  GuestPage at = page(kRmp4K);
  at.spa = PhysAddr{0};
  EXPECT_EQ(fault(at), RmpVerdict::kNotCovered);
  EXPECT_EQ(fault(page(0)), RmpVerdict::kNotAssigned);
  at = page(kRmp4K);
  at.asid = 6;
  EXPECT_EQ(fault(at), RmpVerdict::kNotAssigned);
  at = page(kRmp4K);
  at.gpa += 4_KiB;
  EXPECT_EQ(fault(at), RmpVerdict::kWrongGpa);
  bring(2 * kRmp4K, PageSize::k4K, RmpState::kPreGuest);
  EXPECT_EQ(fault(page(2 * kRmp4K)), RmpVerdict::kImmutable);
  bring(3 * kRmp4K, PageSize::k4K, RmpState::kGuestInvalid);
  EXPECT_EQ(fault(page(3 * kRmp4K)), RmpVerdict::kNotValidated);
  EXPECT_EQ(fault_of(RmpVerdict::kNotValidated, {}).code, 0x404U);
}

TEST_F(RmpAdjust, SizesMustAgree) {
  bring(kRmp2M, PageSize::k2M, RmpState::kGuestValid);
  EXPECT_EQ(rmp.rmpadjust(page(kRmp2M), 0, 1).fault, RmpVerdict::kSizeMismatch) << "host: PSMASH";
  EXPECT_EQ(rmp.rmpadjust(page(kRmp2M + kRmp4K), 0, 1).fault, RmpVerdict::kSizeMismatch);
  EXPECT_EQ(rmp.rmpadjust(page(kRmp2M), 1, RmpAdjustOperand::make(3, 7)), kDone);
  EXPECT_EQ(E::Vmpl3::get(rmp.lookup(test::spa_at(kRmp2M + 9 * kRmp4K)).high), 7U);
  bring(0, PageSize::k4K, RmpState::kGuestValid);
  EXPECT_EQ(rmp.rmpadjust(page(0), 1, 1),
            (RmpAdjustOutcome{.code = RmpAdjustCode::kFailSizeMismatch}));
  EXPECT_EQ(name_of(RmpAdjustCode::kFailSizeMismatch), "FAIL_SIZEMISMATCH");
  EXPECT_EQ(name_of(static_cast<RmpAdjustCode>(4)), "unknown");
}

TEST_F(RmpAdjust, PermissionsSurvivePsmash) {
  bring(kRmp2M, PageSize::k2M, RmpState::kGuestValid);
  ASSERT_EQ(rmp.rmpadjust(page(kRmp2M), 1, RmpAdjustOperand::make(2, 3)), kDone);
  ASSERT_EQ(rmp.psmash(test::spa_at(kRmp2M)), PsmashCode::kSuccess);
  EXPECT_EQ(E::Vmpl2::get(rmp.lookup(test::spa_at(kRmp2M + 511 * kRmp4K)).high), 3U);
}

TEST_F(RmpAdjust, RmpQueryTellsSizeAndPermissions) {
  ASSERT_EQ(adjust(0, 2, 0x13, true), kDone);
  EXPECT_EQ(rmp.rmpquery(page(kRmp4K), 2), (RmpAdjustOutcome{.rcx = 0, .rdx = 0x11302}));
  EXPECT_EQ(rmp.rmpquery(page(kRmp4K), 0).rdx, 0x11F00U);
  bring(kRmp2M, PageSize::k2M, RmpState::kGuestValid);
  EXPECT_EQ(rmp.rmpquery(page(kRmp2M + kRmp4K), 1), (RmpAdjustOutcome{.rcx = 1, .rdx = 1}));
  EXPECT_EQ(rmp.rmpquery(page(kRmp4K, 2), 1), kFailPermission);
  EXPECT_EQ(rmp.rmpquery(page(kRmp4K), 4), kFailInput);
  EXPECT_EQ(rmp.rmpquery({.gpa = PhysAddr{1}}, 0), kFailInput);
  EXPECT_EQ(rmp.rmpquery(page(0), 0).fault, RmpVerdict::kNotAssigned);
  bring(2 * kRmp4K, PageSize::k4K, RmpState::kGuestInvalid);
  EXPECT_EQ(rmp.rmpquery(page(2 * kRmp4K), 0).fault, RmpVerdict::kNotValidated);
}

TEST_F(RmpAdjust, TheVmsaBitOfARunningVcpuStays) {
  ASSERT_EQ(adjust(0, 1, 0, true), kDone);
  const RunPages run{.vmcb = test::spa_at(0),
                     .vmsa = RunPages::Vmsa{test::spa_at(kRmp4K), test::gpa_at(kRmp4K), kRmpAsid}};
  ASSERT_EQ(rmp.vmrun(run), RunVerdict::kEntered);
  EXPECT_EQ(adjust(0, 1, 0, false), (RmpAdjustOutcome{.code = RmpAdjustCode::kFailInUse}));
  EXPECT_EQ(adjust(0, 1, 1, true), kDone) << "permissions are free";
  rmp.vmexit(run);
  EXPECT_EQ(adjust(0, 1, 0, false), kDone);
}

// --- flags, words, places ---

TEST(RmpFlags, AreThoseOfEaxAndCarryIsPvalidates) {
  using abi::rmp::flags_of;
  EXPECT_EQ(flags_of(0), 0x44U) << "ZF, PF";
  EXPECT_EQ(flags_of(0, true), 0x45U);
  EXPECT_EQ(flags_of(1), 0U);
  EXPECT_EQ(flags_of(2), 0U);
  EXPECT_EQ(flags_of(3), 0x04U);
  EXPECT_EQ(flags_of(6), 0x04U) << "even number of bits";
  EXPECT_EQ(flags_of(0x80000000), 0x84U);
  EXPECT_EQ(abi::rmp::kFlagsWritten, 0x8D5U);
}

TEST(RmpWords, TheOperandOfRmpUpdateIsReadStrictly) {
  const RmpUpdate update =
      *RmpUpdate::from({.gpa = 0x200000, .assigned = 1, .page_size = 1, .immutable = 1, .asid = 7});
  EXPECT_EQ(update.gpa, PhysAddr{0x200000});
  EXPECT_EQ(update.size, PageSize::k2M);
  EXPECT_TRUE(update.assigned && update.immutable);
  EXPECT_EQ(update.asid, 7U);
  EXPECT_FALSE(RmpUpdate::from({.assigned = 2}).has_value());
  EXPECT_FALSE(RmpUpdate::from({.page_size = 2}).has_value());
  EXPECT_FALSE(RmpUpdate::from({.immutable = 2}).has_value());
  EXPECT_FALSE(RmpUpdate::from({.reserved = 1}).has_value());
}

TEST(RmpPlace, EntriesLieBehindTheProcessorsBooks) {
  using abi::rmp::covered_pages;
  const PhysAddr base{0x100000};
  EXPECT_EQ(abi::rmp::entry_address(base, PhysAddr{0x5FFF}), PhysAddr{0x104050});
  EXPECT_EQ(covered_pages(base, PhysAddr{0x103FFF}), PageCount{0});
  EXPECT_EQ(covered_pages(base, PhysAddr{0x105FFF}), PageCount{512});
  EXPECT_EQ(covered_pages(base, base), PageCount{0});
}

TEST(RmpPlace, StorageIsSixteenBytesForA4KPage) {
  const PhysRange gib = *PhysRange::make(PhysAddr{0}, Bytes{1ULL << 30});
  EXPECT_EQ(Rmp::storage_bound(gib), 4_MiB);
}

}  // namespace
}  // namespace accede::host
