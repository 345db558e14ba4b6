#include "accede/host/rmp.hpp"

#include "tests/host/rmp_fixture.hpp"

#include <gtest/gtest.h>

namespace accede::host {
namespace {

constexpr std::uint64_t k4K = test::kRmp4K;
constexpr std::uint64_t k2M = test::kRmp2M;
constexpr std::uint32_t kAsid = test::kRmpAsid;

class RmpTest : public ::testing::Test, public test::RmpTable {
 protected:
  static PhysAddr spa(std::uint64_t offset) { return test::spa_at(offset); }
  static PhysAddr gpa(std::uint64_t offset) { return test::gpa_at(offset); }
  void TearDown() override { EXPECT_TRUE(rmp.invariants()); }
};

constexpr PvalidateOutcome kDone{};
constexpr PvalidateOutcome kNoChange{.carry = true};

// --- PVALIDATE ---

TEST_F(RmpTest, PvalidateMovesBetweenGuestInvalidAndGuestValidAndTellsWhenNothingChanged) {
  ASSERT_EQ(assign(k4K, PageSize::k4K), RmpUpdateCode::kSuccess);
  EXPECT_EQ(state(k4K), RmpState::kGuestInvalid);
  EXPECT_EQ(pvalidate(k4K, 0, false), kNoChange);
  EXPECT_EQ(pvalidate(k4K, 0), kDone);
  EXPECT_EQ(state(k4K), RmpState::kGuestValid);
  EXPECT_EQ(pvalidate(k4K, 0), kNoChange);
  EXPECT_EQ(pvalidate(k4K, 0, false), kDone);
  EXPECT_EQ(state(k4K), RmpState::kGuestInvalid);
}

TEST_F(RmpTest, PvalidateOf2MNeedsA2MEntry) {
  ASSERT_EQ(assign(0, PageSize::k2M), RmpUpdateCode::kSuccess);
  EXPECT_EQ(pvalidate(0, 1), kDone);
  EXPECT_EQ(state(k2M - k4K), RmpState::kGuestValid);
  ASSERT_EQ(assign(k2M, PageSize::k4K), RmpUpdateCode::kSuccess);
  EXPECT_EQ(pvalidate(k2M, 1), (PvalidateOutcome{.code = PvalidateCode::kFailSizeMismatch}));
  EXPECT_EQ(pvalidate(k4K, 0), (PvalidateOutcome{.fault = RmpVerdict::kSizeMismatch}));
}

TEST_F(RmpTest, PvalidateRefusesBadOperandsBeforeItLooks) {
  const PvalidateOutcome fail_input{.code = PvalidateCode::kFailInput};
  EXPECT_EQ(pvalidate(0, 2), fail_input);
  EXPECT_EQ(pvalidate(0, ~0U), fail_input);
  EXPECT_EQ(pvalidate(k4K, 1), fail_input);
  EXPECT_EQ(rmp.pvalidate(spa(0), gpa(1), kAsid, 0, true), fail_input);
}

TEST_F(RmpTest, PvalidateFaultsOnWhatIsNotTheGuestsPage) {
  const auto fault = [&](std::uint64_t offset) { return pvalidate(offset, 0).fault; };
  EXPECT_EQ(rmp.pvalidate(PhysAddr{0}, gpa(0), kAsid, 0, true).fault, RmpVerdict::kNotCovered);
  EXPECT_EQ(rmp.pvalidate(rmp.covered().end(), gpa(0), kAsid, 0, true).fault,
            RmpVerdict::kNotCovered);
  EXPECT_EQ(fault(0), RmpVerdict::kNotAssigned);
  ASSERT_EQ(assign(0, PageSize::k4K), RmpUpdateCode::kSuccess);
  EXPECT_EQ(rmp.pvalidate(spa(0), gpa(0), kAsid + 1, 0, true).fault, RmpVerdict::kNotAssigned);
  EXPECT_EQ(rmp.pvalidate(spa(0), gpa(k4K), kAsid, 0, true).fault, RmpVerdict::kWrongGpa);
  ASSERT_EQ(rmp.update(spa(k4K), RmpUpdate::pre_guest(gpa(k4K), PageSize::k4K, kAsid)),
            RmpUpdateCode::kSuccess);
  EXPECT_EQ(fault(k4K), RmpVerdict::kImmutable);
}

TEST_F(RmpTest, Regression_O01_TheHostMayAliasAGpaAndTheSecondValidationSucceeds) {
  // Two host pages for one GPA: the table cannot tell, so a guest must never validate twice.
  ASSERT_EQ(assign(0, PageSize::k4K), RmpUpdateCode::kSuccess);
  EXPECT_EQ(pvalidate(0, 0), kDone);
  ASSERT_EQ(rmp.update(spa(k4K), RmpUpdate::guest(gpa(0), PageSize::k4K, kAsid)),
            RmpUpdateCode::kSuccess);
  EXPECT_EQ(rmp.pvalidate(spa(k4K), gpa(0), kAsid, 0, true), kDone);
  // And a page taken away and given back is not valid any more.
  ASSERT_EQ(release(0, PageSize::k4K), RmpUpdateCode::kSuccess);
  ASSERT_EQ(assign(0, PageSize::k4K), RmpUpdateCode::kSuccess);
  EXPECT_EQ(access(0, PageSize::k4K), RmpVerdict::kNotValidated);
}

// --- RMPUPDATE ---

TEST_F(RmpTest, RmpUpdateChecksItsOperands) {
  EXPECT_EQ(assign(k4K, PageSize::k2M), RmpUpdateCode::kFailInput);
  EXPECT_EQ(assign(4 * k2M, PageSize::k2M), RmpUpdateCode::kFailInput) << "not all covered";
  EXPECT_EQ(assign(4 * k2M + 2 * k4K, PageSize::k4K), RmpUpdateCode::kSuccess);
  EXPECT_EQ(assign(4 * k2M + 3 * k4K, PageSize::k4K), RmpUpdateCode::kFailInput);
  EXPECT_EQ(rmp.update(spa(0), RmpUpdate::guest(gpa(0), PageSize::k4K, 1024)),
            RmpUpdateCode::kFailInput);
  EXPECT_EQ(rmp.update(spa(0), RmpUpdate::guest(gpa(0), PageSize::k4K, 0)),
            RmpUpdateCode::kFailInput);
  EXPECT_EQ(rmp.update(spa(0), RmpUpdate::guest(PhysAddr{1ULL << 51}, PageSize::k4K, 1)),
            RmpUpdateCode::kFailInput);
  EXPECT_EQ(rmp.update(spa(0), RmpUpdate::guest(gpa(k4K), PageSize::k2M, 1)),
            RmpUpdateCode::kFailInput);
  EXPECT_EQ(rmp.update(spa(0), RmpUpdate{.immutable = true}), RmpUpdateCode::kFailInput);
  EXPECT_EQ(rmp.update(spa(0), RmpUpdate{.asid = 1}), RmpUpdateCode::kFailInput);
  EXPECT_EQ(rmp.update(spa(0), {.assigned = true, .immutable = true, .gpa = gpa(0)}),
            RmpUpdateCode::kFailInput)
      << "only the firmware makes Metadata";
}

TEST_F(RmpTest, RmpUpdateRefusesOverlaps) {
  ASSERT_EQ(assign(0, PageSize::k2M), RmpUpdateCode::kSuccess);
  EXPECT_EQ(assign(0, PageSize::k4K), RmpUpdateCode::kFailOverlap);
  EXPECT_EQ(release(k4K, PageSize::k4K), RmpUpdateCode::kFailOverlap);
  EXPECT_EQ(assign(0, PageSize::k2M), RmpUpdateCode::kSuccess);
  for (const std::uint64_t page : {std::uint64_t{0}, k4K, k2M - k4K}) {
    ASSERT_EQ(assign(k2M + page, PageSize::k4K), RmpUpdateCode::kSuccess);
    EXPECT_EQ(assign(k2M, PageSize::k2M), RmpUpdateCode::kFailOverlap);
    EXPECT_EQ(release(k2M, PageSize::k2M), RmpUpdateCode::kFailOverlap);
    ASSERT_EQ(release(k2M + page, PageSize::k4K), RmpUpdateCode::kSuccess);
    ASSERT_EQ(release(k2M + page, PageSize::k4K), RmpUpdateCode::kSuccess) << "twice is no harm";
  }
  EXPECT_EQ(assign(k2M, PageSize::k2M), RmpUpdateCode::kSuccess);
}

TEST_F(RmpTest, RmpUpdateDestroysAValidationAndRefusesImmutablePages) {
  ASSERT_EQ(assign(0, PageSize::k2M), RmpUpdateCode::kSuccess);
  ASSERT_EQ(pvalidate(0, 1), kDone);
  ASSERT_EQ(assign(0, PageSize::k2M), RmpUpdateCode::kSuccess);
  EXPECT_EQ(state(0), RmpState::kGuestInvalid);
  ASSERT_EQ(rmp.update(spa(0), RmpUpdate::pre_guest(gpa(0), PageSize::k2M, kAsid)),
            RmpUpdateCode::kSuccess);
  EXPECT_EQ(release(0, PageSize::k2M), RmpUpdateCode::kFailPermission);
  EXPECT_EQ(rmp.psmash(spa(0)), PsmashCode::kFailPermission);
  EXPECT_EQ(rmp.update(spa(k2M), {.assigned = true, .immutable = true}), RmpUpdateCode::kSuccess);
  EXPECT_EQ(state(k2M), RmpState::kFirmware);
}

// --- PSMASH ---

TEST_F(RmpTest, PsmashKeepsEveryFieldAndCountsTheGpaUp) {
  ASSERT_EQ(assign(0, PageSize::k2M), RmpUpdateCode::kSuccess);
  ASSERT_EQ(pvalidate(0, 1), kDone);
  const RmpEntry before = rmp.lookup(spa(5 * k4K));
  ASSERT_EQ(rmp.psmash(spa(0)), PsmashCode::kSuccess);
  RmpEntry after = rmp.lookup(spa(5 * k4K));
  EXPECT_EQ(RmpEntry::Large::get(after.low), 0U);
  after.low = RmpEntry::Large::set(after.low, 1);
  EXPECT_EQ(after, before);
  EXPECT_EQ(RmpEntry::Gfn::get(rmp.lookup(spa(k2M - k4K)).low), gpa(k2M - k4K).value() >> 12);
  EXPECT_EQ(pvalidate(7 * k4K, 0, false), kDone);
  EXPECT_EQ(state(6 * k4K), RmpState::kGuestValid);
  EXPECT_EQ(rmp.psmash(spa(0)), PsmashCode::kFailInput) << "no 2 MiB entry any more";
  EXPECT_EQ(rmp.psmash(spa(k4K)), PsmashCode::kFailInput);
  EXPECT_EQ(rmp.psmash(spa(4 * k2M)), PsmashCode::kFailInput);
  for (std::uint64_t page = 0; page < k2M; page += k4K) {
    ASSERT_EQ(release(page, PageSize::k4K), RmpUpdateCode::kSuccess);
  }
  EXPECT_EQ(assign(0, PageSize::k2M), RmpUpdateCode::kSuccess);
}

// --- access ---

TEST_F(RmpTest, APrivateAccessReportsTheFirstCheckThatFails) {
  const auto check = [&](PhysAddr page, PhysAddr address, std::uint32_t asid, PageSize nested) {
    return rmp.check_private(page, {.gpa = address, .asid = asid, .nested_size = nested});
  };
  EXPECT_EQ(check(PhysAddr{0}, gpa(0), kAsid, PageSize::k4K), RmpVerdict::kNotCovered);
  EXPECT_EQ(check(spa(0), gpa(0), kAsid, PageSize::k4K), RmpVerdict::kNotAssigned);
  EXPECT_EQ(check(spa(0), gpa(0), 0, PageSize::k4K), RmpVerdict::kNotAssigned);
  ASSERT_EQ(rmp.update(spa(0), RmpUpdate::pre_guest(gpa(0), PageSize::k2M, kAsid)),
            RmpUpdateCode::kSuccess);
  EXPECT_EQ(check(spa(0), gpa(k4K), kAsid + 1, PageSize::k4K), RmpVerdict::kNotAssigned);
  EXPECT_EQ(check(spa(0), gpa(k4K), kAsid, PageSize::k4K), RmpVerdict::kWrongGpa);
  EXPECT_EQ(check(spa(0), gpa(0), kAsid, PageSize::k4K), RmpVerdict::kImmutable);
  ASSERT_EQ(assign(k2M, PageSize::k2M), RmpUpdateCode::kSuccess);
  EXPECT_EQ(access(k2M, PageSize::k4K), RmpVerdict::kSizeMismatch);
  EXPECT_EQ(access(k2M, PageSize::k2M), RmpVerdict::kNotValidated);
  ASSERT_EQ(pvalidate(k2M, 1), kDone);
  EXPECT_EQ(access(k2M, PageSize::k2M, 1), RmpVerdict::kNoPermission);
  EXPECT_EQ(access(k2M + 9 * k4K, PageSize::k1G, 0, true), RmpVerdict::kAllowed);
  ASSERT_EQ(rmp.psmash(spa(k2M)), PsmashCode::kSuccess);
  EXPECT_EQ(access(k2M, PageSize::k2M), RmpVerdict::kSizeMismatch);
  EXPECT_EQ(access(k2M, PageSize::k4K), RmpVerdict::kAllowed);
}

TEST_F(RmpTest, ASharedWriteNeedsAHypervisorPageAndAReadNothing) {
  ASSERT_EQ(assign(0, PageSize::k2M), RmpUpdateCode::kSuccess);
  EXPECT_EQ(rmp.check_shared(spa(k4K), true), RmpVerdict::kNotHypervisor);
  EXPECT_EQ(rmp.check_shared(spa(k4K), false), RmpVerdict::kAllowed);
  EXPECT_EQ(rmp.check_shared(spa(k2M), true), RmpVerdict::kAllowed);
  EXPECT_EQ(rmp.check_shared(PhysAddr{0}, true), RmpVerdict::kAllowed) << "not covered";
}

TEST_F(RmpTest, FaultBitsAreThoseOfTheProcessor) {
  EXPECT_EQ(fault_bits(RmpVerdict::kAllowed), 0U);
  EXPECT_EQ(fault_bits(RmpVerdict::kNotValidated), 0U);
  EXPECT_EQ(fault_bits(RmpVerdict::kNotAssigned), 1ULL << 31);
  EXPECT_EQ(fault_bits(RmpVerdict::kSizeMismatch), 1ULL << 31 | 1ULL << 35);
  EXPECT_EQ(fault_bits(RmpVerdict::kNoPermission), 1ULL << 31 | 1ULL << 36);
  EXPECT_EQ(name(RmpVerdict::kNotValidated), "not validated");
  EXPECT_EQ(name(static_cast<RmpVerdict>(77)), "unknown");
}

}  // namespace
}  // namespace accede::host
