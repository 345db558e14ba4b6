#include "accede/host/rmp.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

namespace accede::host {
namespace {

constexpr std::uint64_t k4K = 4096;
constexpr std::uint64_t k2M = 2ULL << 20;
constexpr std::uint64_t kBase = 8 * k2M;
constexpr std::uint64_t kGpa = 1ULL << 33;  ///< a page's GPA is its SPA + this
constexpr std::uint32_t kAsid = 5;

class RmpTest : public ::testing::Test {
 protected:
  static PhysAddr spa(std::uint64_t offset) { return PhysAddr{kBase + offset}; }
  static PhysAddr gpa(std::uint64_t offset) { return PhysAddr{kBase + kGpa + offset}; }

  RmpUpdateCode assign(std::uint64_t offset, PageSize size) {
    return rmp.update(spa(offset), RmpUpdate::guest(gpa(offset), size, kAsid));
  }
  RmpUpdateCode release(std::uint64_t offset, PageSize size) {
    return rmp.update(spa(offset), RmpUpdate::hypervisor(size));
  }
  PvalidateOutcome pvalidate(std::uint64_t offset, std::uint32_t ecx, bool validate = true) {
    return rmp.pvalidate(spa(offset), gpa(offset), kAsid, ecx, validate);
  }
  RmpState state(std::uint64_t offset) const { return abi::rmp::state_of(rmp.lookup(spa(offset))); }
  RmpVerdict access(std::uint64_t offset, PageSize nested, unsigned vmpl = 0,
                    bool write = false) const {
    return rmp.check_private(
        spa(offset),
        {.gpa = gpa(offset), .asid = kAsid, .nested_size = nested, .write = write, .vmpl = vmpl});
  }
  void TearDown() override { EXPECT_TRUE(rmp.invariants()); }

  PhysRange covered_ = *PhysRange::make(PhysAddr{kBase}, Bytes{4 * k2M + 3 * k4K});
  std::vector<RmpEntry> storage_ = std::vector<RmpEntry>(
      Rmp::storage_bound(covered_).value() / sizeof(RmpEntry), {~0ULL, ~0ULL});
  Rmp rmp{covered_, std::as_writable_bytes(std::span{storage_})};
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
  EXPECT_EQ(rmp.pvalidate(covered_.end(), gpa(0), kAsid, 0, true).fault, RmpVerdict::kNotCovered);
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

TEST_F(RmpTest, Regression_S01_LaunchPagesAreValidatedByTheFirmware) {
  EXPECT_FALSE(rmp.launch_update(spa(0), false));
  ASSERT_EQ(rmp.update(spa(k4K), RmpUpdate::pre_guest(gpa(k4K), PageSize::k4K, kAsid)),
            RmpUpdateCode::kSuccess);
  EXPECT_TRUE(rmp.launch_update(spa(k4K), true));
  EXPECT_EQ(state(k4K), RmpState::kGuestValid);
  EXPECT_EQ(RmpEntry::Vmsa::get(rmp.lookup(spa(k4K)).low), 1U);
  EXPECT_FALSE(rmp.launch_update(spa(k4K), false));
  EXPECT_FALSE(rmp.launch_update(PhysAddr{0}, false));
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

// --- concurrency ---

TEST_F(RmpTest, OfManyValidationsOfOnePageExactlyOneChangesIt) {
  for (std::uint64_t page = 0; page < k2M; page += k4K) {
    ASSERT_EQ(assign(page, PageSize::k4K), RmpUpdateCode::kSuccess);
  }
  std::atomic<unsigned> changed = 0;
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random{t};
      for (unsigned i = 0; i < 4096; ++i) {
        const std::uint64_t page = (random() % 512) * k4K;
        changed += pvalidate(page, 0) == kDone ? 1 : 0;
        EXPECT_EQ(access(page, PageSize::k4K), RmpVerdict::kAllowed);
      }
    });
  }
  threads.clear();
  unsigned valid = 0;
  for (std::uint64_t page = 0; page < k2M; page += k4K) {
    valid += state(page) == RmpState::kGuestValid ? 1 : 0;
  }
  EXPECT_EQ(changed, valid);
}

TEST_F(RmpTest, APsmashBesideReadersNeverHidesAValidPage) {
  ASSERT_EQ(assign(0, PageSize::k2M), RmpUpdateCode::kSuccess);
  ASSERT_EQ(pvalidate(0, 1), kDone);
  std::atomic<bool> stop = false;
  std::jthread reader{[&] {
    while (!stop) {
      for (std::uint64_t page = 0; page < k2M; page += 37 * k4K) {
        EXPECT_EQ(state(page), RmpState::kGuestValid);
      }
    }
  }};
  EXPECT_EQ(rmp.psmash(spa(0)), PsmashCode::kSuccess);
  stop = true;
}

}  // namespace
}  // namespace accede::host
