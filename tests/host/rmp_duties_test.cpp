// The host around the RMP: its duties when pages come and go, the assignment rule, and the alias
// attack that a guest must see by CF.
#include "accede/host/rmp_duties.hpp"
#include "accede/host/rmp_assignment.hpp"
#include "accede/host/snp_memory.hpp"
#include "tests/host/rmp_fixture.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

namespace accede::host {
namespace {

using abi::ghcb::PageOp;
using test::kRmp2M;
using test::kRmp4K;
using test::kRmpAsid;
using test::kRmpBase;
using test::kRmpGpa;

/// A host that keeps a direct map and notes what it was told, in order.
class DirectMap {
 public:
  explicit DirectMap(Rmp& rmp) : rmp_{rmp} {}

  template <class Call>
  auto with(Call call) {
    const auto leave = [&](PhysRange pages) { note("leave", pages); };
    const auto reclaim = [&](PhysAddr spa, PageSize size) {
      note("reclaim", PhysRange::page(spa, size));
      return may_reclaim && rmp_.reclaim(spa, size) == FirmwareCode::kSuccess;
    };
    const auto flush = [&](PhysRange pages) { note("flush", pages); };
    const auto enter = [&](PhysRange pages) { note("enter", pages); };
    const HostDuties duties{.leave_direct_map = leave,
                            .reclaim = reclaim,
                            .flush_caches = flush,
                            .enter_direct_map = enter};
    return call(&duties);
  }

  [[nodiscard]] bool mapped(PhysAddr page) const { return !left_.contains(page.value()); }
  std::vector<std::string> calls;
  bool may_reclaim = true;

 private:
  void note(const std::string& what, PhysRange pages) {
    calls.push_back(what + (pages.size() == 4_KiB ? "" : " 2M"));
    for (PhysAddr page = pages.begin(); page < pages.end(); page += 4_KiB) {
      if (what == "leave") {
        left_.insert(page.value());
      } else if (what == "enter") {
        left_.erase(page.value());
      }
      // The direct map never covers what somebody else owns.
      if (what != "reclaim") {
        EXPECT_EQ(rmp_.check_shared(page, true), RmpVerdict::kAllowed) << what;
      }
    }
  }

  Rmp& rmp_;
  std::set<std::uint64_t> left_;
};

using Calls = std::vector<std::string>;

class RmpDuties : public ::testing::Test, public test::RmpTable {
 protected:
  void TearDown() override { EXPECT_TRUE(rmp.invariants()); }
  RmpUpdateCode give(std::uint64_t offset, PageSize size) {
    return map.with([&](const HostDuties* duties) {
      return assign_page(rmp, test::spa_at(offset),
                         RmpUpdate::guest(test::gpa_at(offset), size, kRmpAsid), duties);
    });
  }
  RmpUpdateCode take(std::uint64_t offset, PageSize size) {
    return map.with([&](const HostDuties* duties) {
      return return_page(rmp, test::spa_at(offset), size, duties);
    });
  }
  DirectMap map{rmp};
};

TEST_F(RmpDuties, APageLeavesTheDirectMapFirstAndIsFlushedBeforeItEnters) {
  EXPECT_EQ(give(0, PageSize::k2M), RmpUpdateCode::kSuccess);
  EXPECT_EQ(map.calls, Calls{"leave 2M"});
  EXPECT_FALSE(map.mapped(test::spa_at(kRmp4K)));
  EXPECT_EQ(take(0, PageSize::k2M), RmpUpdateCode::kSuccess);
  EXPECT_EQ(map.calls, (Calls{"leave 2M", "flush 2M", "enter 2M"}));
}

TEST_F(RmpDuties, AnImmutablePageIsReclaimedFirst) {
  bring(kRmp4K, PageSize::k4K, RmpState::kPreGuest);
  EXPECT_EQ(return_page(rmp, test::spa_at(kRmp4K), PageSize::k4K, nullptr),
            RmpUpdateCode::kFailPermission);
  map.may_reclaim = false;
  EXPECT_EQ(take(kRmp4K, PageSize::k4K), RmpUpdateCode::kFailPermission);
  EXPECT_EQ(map.calls, Calls{"reclaim"}) << "the page is lost: it must not be mapped";
  map.may_reclaim = true;
  map.calls.clear();
  EXPECT_EQ(take(kRmp4K, PageSize::k4K), RmpUpdateCode::kSuccess);
  EXPECT_EQ(map.calls, (Calls{"reclaim", "flush", "enter"}));
}

TEST_F(RmpDuties, RefusedPagesEnterTheDirectMapAgainButForThoseThatOthersHold) {
  ASSERT_EQ(rmp.begin_use(test::spa_at(0)), true);
  EXPECT_EQ(give(0, PageSize::k4K), RmpUpdateCode::kFailInUse);
  EXPECT_EQ(map.calls, (Calls{"leave", "enter"}));
  rmp.end_use(test::spa_at(0));
}

TEST_F(RmpDuties, APageThatTheHostReusesWhileTheGuestOwnsItIsReported) {
  const PhysRange region = PhysRange::page(test::spa_at(0), PageSize::k2M);
  EXPECT_EQ(find_held(rmp, region), std::nullopt);
  bring(7 * kRmp4K, PageSize::k4K, RmpState::kGuestValid);
  EXPECT_EQ(find_held(rmp, region), (HeldPage{.spa = test::spa_at(7 * kRmp4K),
                                              .state = RmpState::kGuestValid,
                                              .asid = kRmpAsid,
                                              .gpa = test::gpa_at(7 * kRmp4K)}));
  EXPECT_EQ(find_held(rmp, PhysRange::page(test::spa_at(6 * kRmp4K), PageSize::k4K)), std::nullopt);
  // What the host would have met without asking.
  EXPECT_EQ(host_fault_of(rmp.check_shared(test::spa_at(7 * kRmp4K), true)).code, 0x8000'0003U);
  ASSERT_EQ(take(7 * kRmp4K, PageSize::k4K), RmpUpdateCode::kSuccess);
  EXPECT_EQ(find_held(rmp, region), std::nullopt);
}

TEST_F(RmpDuties, APageThatWaitsForTheHostAfterReclaimIsHeldTooAndSoIsOneInUse) {
  bring(0, PageSize::k2M, RmpState::kReclaim);
  EXPECT_EQ(find_held(rmp, PhysRange::page(test::spa_at(9 * kRmp4K), PageSize::k4K))->state,
            RmpState::kReclaim);
  ASSERT_TRUE(rmp.begin_use(test::spa_at(kRmp2M)));
  const HeldPage held = *find_held(rmp, PhysRange::page(test::spa_at(kRmp2M), PageSize::k2M));
  EXPECT_TRUE(held.in_use);
  EXPECT_EQ(held.state, RmpState::kHypervisor);
  rmp.end_use(test::spa_at(kRmp2M));
  bring(2 * kRmp2M, PageSize::k4K, RmpState::kHvFixed);
  EXPECT_EQ(find_held(rmp, PhysRange::page(test::spa_at(2 * kRmp2M), PageSize::k2M)), std::nullopt)
      << "for the host's use";
}

// --- the assignment rule ---

/// RAM of the four regions at kRmpGpa, with one page less at its end.
class RmpAssignmentTest : public RmpDuties {
 protected:
  static PhysAddr gpa(std::uint64_t offset) { return test::gpa_at(offset); }
  /// The table maps SPA to a higher GPA; the model's offset is the other way round, so here the
  /// guest's addresses are the host's.
  static PhysAddr at(std::uint64_t offset) { return test::spa_at(offset); }

  AssignOutcome use(std::uint64_t offset, Backing backing = Backing::k2M) {
    const RmpAssignment rule{rmp, attributes, ram, {.asid = kRmpAsid, .backing = backing}};
    return map.with([&](const HostDuties* duties) {
      return rule.first_use(at(offset), PhysRange::page(at(offset), PageSize::k2M),
                            RmpAssignment::Purpose::kUse, duties);
    });
  }
  void set(std::uint64_t offset, PageAttribute attribute) {
    attributes.set(PhysRange::page(at(offset), PageSize::k4K), attribute);
  }

  PhysRange all = *PhysRange::make(PhysAddr{kRmpBase}, Bytes{4 * kRmp2M});
  std::array<PhysRange, 1> ram{*PhysRange::make(PhysAddr{kRmpBase}, Bytes{4 * kRmp2M - kRmp4K})};
  std::vector<std::uint64_t> bits =
      std::vector<std::uint64_t>(PageAttributes::storage_bound(all).value() / 8);
  PageAttributes attributes{all, std::as_writable_bytes(std::span{bits})};
};

TEST_F(RmpAssignmentTest, TheFirstPrivateUseAssigns2MWhereAllAttributesAgree) {
  EXPECT_EQ(state(0), RmpState::kHypervisor) << "a private attribute alone assigns nothing";
  EXPECT_EQ(use(9 * kRmp4K), AssignOutcome::kAssigned2M);
  EXPECT_EQ(state(0), RmpState::kGuestInvalid);
  EXPECT_EQ(use(0), AssignOutcome::kAlreadyAssigned);
  EXPECT_EQ(map.calls, Calls{"leave 2M"});
}

TEST_F(RmpAssignmentTest, OneSharedPageMakesTheOthers4K) {
  set(511 * kRmp4K, PageAttribute::kShared);
  EXPECT_EQ(use(0), AssignOutcome::kAssigned4K);
  EXPECT_EQ(use(511 * kRmp4K), AssignOutcome::kNotPrivate);
  EXPECT_EQ(state(511 * kRmp4K), RmpState::kHypervisor);
}

TEST_F(RmpAssignmentTest, OneAssigned4KPageMakesTheOthers4K) {
  ASSERT_EQ(rmp.update(at(3 * kRmp4K), RmpUpdate::guest(at(3 * kRmp4K), PageSize::k4K, kRmpAsid)),
            RmpUpdateCode::kSuccess);
  EXPECT_EQ(use(0), AssignOutcome::kAssigned4K);
}

TEST_F(RmpAssignmentTest, TheBackingAndTheEndOfRamLimitTheSize) {
  EXPECT_EQ(use(0, Backing::k4K), AssignOutcome::kAssigned4K);
  EXPECT_EQ(use(3 * kRmp2M), AssignOutcome::kAssigned4K) << "the last page is no RAM";
  EXPECT_EQ(use(4 * kRmp2M - kRmp4K), AssignOutcome::kNotPrivate);
}

TEST_F(RmpAssignmentTest, WhatTheTableRefusesStaysMapped) {
  bring(5 * kRmp4K, PageSize::k4K, RmpState::kHvFixed);
  EXPECT_EQ(use(5 * kRmp4K), AssignOutcome::kRefused);
  EXPECT_TRUE(map.mapped(at(5 * kRmp4K)));
  EXPECT_TRUE(map.mapped(at(6 * kRmp4K)));
  EXPECT_EQ(use(6 * kRmp4K), AssignOutcome::kAssigned4K);
}

TEST_F(RmpAssignmentTest, EveryOutcomeHasItsWords) {
  EXPECT_EQ(name(AssignOutcome::kAssigned4K), "assigned in 4 KiB");
  EXPECT_EQ(name(AssignOutcome::kAssigned2M), "assigned in 2 MiB");
  EXPECT_EQ(name(AssignOutcome::kAlreadyAssigned), "already assigned");
  EXPECT_EQ(name(AssignOutcome::kNotPrivate), "not private");
  EXPECT_EQ(name(AssignOutcome::kRefused), "refused");
  EXPECT_EQ(name(static_cast<AssignOutcome>(9)), "unknown");
}

// --- the same duties below page state changes ---

class RmpHostMemory : public RmpAssignmentTest {
 protected:
  template <class Call>
  auto with_hooks(Call call) {
    const auto nothing = [](PhysAddr, PhysAddr, PageSize) {};
    const auto gone = [&](PhysRange) { ++told_gone; };
    return map.with([&](const HostDuties* duties) {
      return call(SnpMemoryHooks{
          .validated = nothing, .private_gone = gone, .shared_gone = gone, .duties = duties});
    });
  }
  SnpPvalidate validate(std::uint64_t offset, std::uint32_t ecx) {
    return with_hooks([&](const SnpMemoryHooks& hooks) {
      return memory.pvalidate(at(offset), ecx, true, hooks);
    });
  }
  std::uint64_t change(std::uint64_t offset, PageOp op) {
    return with_hooks([&](const SnpMemoryHooks& hooks) {
      return memory.msr_page_state(abi::ghcb::page_state_request(at(offset), op), hooks);
    });
  }
  unsigned told_gone = 0;
  SnpMemory memory{rmp, attributes, ram, {.asid = kRmpAsid, .backing = Backing::k2M}};
};

TEST_F(RmpHostMemory, APageStateChangeToSharedReturnsThePageToTheHost) {
  ASSERT_EQ(validate(0, 1).bytes, 2_MiB);
  EXPECT_EQ(map.calls, Calls{"leave 2M"});
  EXPECT_EQ(change(kRmp4K, PageOp::kShared), 0x15U);
  EXPECT_EQ(map.calls, (Calls{"leave 2M", "flush", "enter"}));
  EXPECT_TRUE(map.mapped(at(kRmp4K)));
  EXPECT_FALSE(map.mapped(at(0)));
  EXPECT_EQ(change(kRmp4K, PageOp::kPrivate), 0x15U);
  EXPECT_EQ(state(kRmp4K), RmpState::kHypervisor) << "assigned at first use only";
  EXPECT_EQ(validate(kRmp4K, 0).bytes, 4_KiB);
  EXPECT_FALSE(map.mapped(at(kRmp4K)));
}

TEST_F(RmpHostMemory, ThePageOfARunningVcpuCannotBecomeShared) {
  ASSERT_EQ(validate(0, 1).bytes, 2_MiB);
  const GuestPage first{.spa = at(0), .gpa = at(0), .asid = kRmpAsid};
  ASSERT_EQ(rmp.rmpadjust(first, 1, 0x10001), RmpAdjustOutcome{});
  const RunPages run{.vmcb = at(kRmp2M), .vmsa = RunPages::Vmsa{at(kRmp4K), at(kRmp4K), kRmpAsid}};
  ASSERT_EQ(rmp.vmrun(run), RunVerdict::kEntered);
  EXPECT_EQ(change(kRmp4K, PageOp::kShared), 0x8000000000000015U);
  EXPECT_EQ(change(9 * kRmp4K, PageOp::kShared), 0x8000000000000015U) << "needs PSMASH";
  EXPECT_EQ(state(9 * kRmp4K), RmpState::kGuestValid);
  const SnpTouch touch = with_hooks([&](const SnpMemoryHooks& hooks) {
    return memory.touch_shared(at(kRmp4K), [](PhysAddr, PhysAddr) {}, hooks);
  });
  EXPECT_EQ(touch.kind, SnpTouchKind::kRefused);
  EXPECT_EQ(touch.verdict, RmpVerdict::kNotHypervisor);
  EXPECT_FALSE(touch.converted);
  EXPECT_EQ(told_gone, 0U) << "the guest keeps its mappings";
  rmp.vmexit(run);
  EXPECT_EQ(change(9 * kRmp4K, PageOp::kShared), 0x15U);
  EXPECT_TRUE(memory.invariants());
}

TEST_F(RmpHostMemory, LaunchMemoryLeavesTheDirectMapToo) {
  EXPECT_EQ(map.with([&](const HostDuties* duties) {
    return memory.adopt(PhysRange::page(at(0), PageSize::k4K), duties);
  }),
            4_KiB);
  EXPECT_EQ(map.calls, Calls{"leave"});
}

TEST(RmpWorkedValues, PageStateChangesAnswerAndActAsTheReferenceSays) {
  const PhysRange block = PhysRange::page(PhysAddr{0x12200000}, PageSize::k2M);
  const std::array<PhysRange, 1> ram{block};
  std::vector<std::uint64_t> bits(PageAttributes::storage_bound(block).value() / 8);
  std::vector<RmpEntry> entries(Rmp::storage_bound(block).value() / sizeof(RmpEntry));
  PageAttributes attributes{block, std::as_writable_bytes(std::span{bits})};
  Rmp rmp{block, std::as_writable_bytes(std::span{entries})};
  SnpMemory memory{rmp, attributes, ram, {.backing = Backing::k4K}};
  const auto nothing = [](PhysAddr, PhysAddr, PageSize) {};
  const auto gone = [](PhysRange) {};
  const SnpMemoryHooks hooks{.validated = nothing, .private_gone = gone, .shared_gone = gone};
  const PhysAddr page{0x12345000};
  const auto state = [&] { return abi::rmp::state_of(rmp.lookup(page)); };

  EXPECT_EQ(memory.msr_page_state(0x0010000012345014, hooks), 0x0000000000000015U);
  ASSERT_EQ(memory.pvalidate(page, 0, true, hooks).bytes, 4_KiB);
  EXPECT_EQ(rmp.lookup(page), (RmpEntry{.low = 0x4008000012345001, .high = 0x1F}));
  EXPECT_EQ(memory.msr_page_state(0x0020000012345014, hooks), 0x0000000000000015U);
  EXPECT_EQ(state(), RmpState::kHypervisor);

  std::array<std::uint64_t, abi::ghcb::kPscWords> list{};
  list[0] = abi::ghcb::PscHeader::make(0, 0);
  list[1] = 0x0110000012200000;
  EXPECT_EQ(memory.page_state_list(list, hooks), abi::ghcb::PscResult::kOk);
  EXPECT_EQ(list[1], 0x0110000012200200U);
  EXPECT_EQ(state(), RmpState::kHypervisor) << "private by attribute only";
  ASSERT_EQ(memory.pvalidate(page, 0, true, hooks).bytes, 4_KiB);
  list[0] = abi::ghcb::PscHeader::make(0, 0);
  list[1] = 0x0020000012345000;
  EXPECT_EQ(memory.page_state_list(list, hooks), abi::ghcb::PscResult::kOk);
  EXPECT_EQ(list[1], 0x0020000012345001U);
  EXPECT_EQ(state(), RmpState::kHypervisor);

  ASSERT_EQ(rmp.update(page, RmpUpdate::firmware(PageSize::k4K)), RmpUpdateCode::kSuccess);
  EXPECT_EQ(memory.msr_page_state(0x0010000012345014, hooks), 0x15U);
  EXPECT_EQ(memory.msr_page_state(0x0020000012345014, hooks), 0x8000000000000015U);
}

// --- the alias attack (2.5) ---

TEST_F(RmpDuties, Regression_O01_AHostMayOfferASecondPageAndTheGuestSeesItByCarryOrNotAtAll) {
  // A valid page, then another one for the same GPA: the second PVALIDATE succeeds with CF = 0, and
  // both pages are valid. Only the guest's own record of what it validated can tell.
  bring(0, PageSize::k4K, RmpState::kGuestValid);
  const PhysAddr gpa = test::gpa_at(0);
  const PhysAddr second = test::spa_at(kRmp4K);
  ASSERT_EQ(rmp.update(second, RmpUpdate::guest(gpa, PageSize::k4K, kRmpAsid)),
            RmpUpdateCode::kSuccess);
  const RmpAccess access{.gpa = gpa, .asid = kRmpAsid};
  EXPECT_EQ(rmp.check_private(second, access), RmpVerdict::kNotValidated) << "#VC 0x404, no CF";
  EXPECT_EQ(rmp.pvalidate(second, gpa, kRmpAsid, 0, true), PvalidateOutcome{});
  EXPECT_EQ(rmp.check_private(test::spa_at(0), access), RmpVerdict::kAllowed);
  EXPECT_EQ(rmp.check_private(second, access), RmpVerdict::kAllowed);
  // Flipping back is seen by CF: a guest that validates what it rescinded, or never had, wants
  // CF = 0.
  EXPECT_EQ(rmp.pvalidate(second, gpa, kRmpAsid, 0, false), PvalidateOutcome{});
  EXPECT_EQ(rmp.pvalidate(test::spa_at(0), gpa, kRmpAsid, 0, true), PvalidateOutcome{.carry = true})
      << "the old page is still valid: the content would be old";
}

TEST_F(RmpDuties, APageTakenAwayAndOfferedAgainIsNotValid) {
  bring(0, PageSize::k4K, RmpState::kGuestValid);
  ASSERT_EQ(take(0, PageSize::k4K), RmpUpdateCode::kSuccess);
  ASSERT_EQ(give(0, PageSize::k4K), RmpUpdateCode::kSuccess);
  EXPECT_EQ(access(0, PageSize::k4K), RmpVerdict::kNotValidated);
  EXPECT_EQ(pvalidate(0, 0, false), PvalidateOutcome{.carry = true})
      << "rescinding tells that the validation was gone";
}

}  // namespace
}  // namespace accede::host
