#include "accede/host/td_memory.hpp"

#include "tests/host/td_memory_fixture.hpp"

#include <gtest/gtest.h>

namespace accede::host {
namespace {

using abi::tdx::VmcallStatus;
using test::k2M;
using test::k4K;
using test::kSharedBit;
using test::range;
using test::rcx;
using test::Td;

constexpr std::uint64_t kBase = 16 * k2M;

std::vector<PhysRange> one_range() {
  return {range(kBase, kBase + 16 * k2M)};
}

// --- ACCEPT ---

TEST(TdMemoryAccept, FreeMemoryIsAugedAndAcceptedInTheSizeOfTheBacking) {
  Td td{one_range(), Backing::k2M};
  const AcceptOutcome outcome = td.accept(rcx(kBase, 1));
  EXPECT_EQ(outcome.kind, AcceptOutcomeKind::kCompleted);
  EXPECT_EQ(outcome.rax, 0U);
  EXPECT_EQ(outcome.bytes, 2_MiB);
  EXPECT_EQ(outcome.size, PageSize::k2M);
  EXPECT_EQ(outcome.gpa, PhysAddr{kBase});
  EXPECT_EQ(td.zeroed, 512U);
  EXPECT_EQ(td.mapped.size(), 512U);
  ASSERT_EQ(td.augmented.size(), 1U);
  EXPECT_EQ(td.augmented[0], (std::pair{kBase, PageSize::k2M}));
  EXPECT_EQ(td.check(), "");
}

TEST(TdMemoryAccept, With4KBackingA2MAcceptIsASizeMismatchAsInMainlineKvm) {
  Td td{one_range(), Backing::k4K};
  const AcceptOutcome large = td.accept(rcx(kBase, 1));
  EXPECT_EQ(large.rax, 0xC0000B0B00000001);
  EXPECT_EQ(large.bytes, 0_B);
  ASSERT_EQ(td.augmented.size(), 1U);
  EXPECT_EQ(td.augmented[0], (std::pair{kBase, PageSize::k4K}));
  for (std::uint64_t i = 0; i < 512; ++i) {
    ASSERT_EQ(td.accept(rcx(kBase + i * k4K, 0)).rax, 0U);
  }
  EXPECT_EQ(td.augmented.size(), 512U);
  EXPECT_EQ(td.zeroed, 512U);
  EXPECT_EQ(td.check(), "");
}

TEST(TdMemoryAccept, A4KAcceptOfFreeMemoryAugs4KOnly) {
  Td td{one_range(), Backing::k2M};
  EXPECT_EQ(td.accept(rcx(kBase + k4K, 0)).rax, 0U);
  EXPECT_EQ(td.augmented[0].second, PageSize::k4K);
  EXPECT_EQ(td.memory.state_of(PhysAddr{kBase}).entry.state, SeptState::kFree);
}

TEST(TdMemoryAccept, A4KAcceptInsideAPending2MPageDemotesIt) {
  Td td{one_range(), Backing::k2M};
  EXPECT_EQ(td.touch_private(kBase).kind, TouchKind::kPendingExit);
  EXPECT_EQ(td.memory.state_of(PhysAddr{kBase}).entry.level, SeptLevel::k2M);
  EXPECT_EQ(td.accept(rcx(kBase + 3 * k4K, 0)).rax, 0U);
  EXPECT_GE(td.kicks, 1U);
  EXPECT_EQ(td.memory.state_of(PhysAddr{kBase}).entry.state, SeptState::kPending);
  EXPECT_EQ(td.memory.state_of(PhysAddr{kBase}).entry.level, SeptLevel::k4K);
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0xC0000B0B00000001);
  EXPECT_EQ(td.check(), "");
}

TEST(TdMemoryAccept, ARegionThatIsNotAllPrivateRamIsBacked4K) {
  Td td{{range(kBase + k4K, kBase + 2 * k2M)}, Backing::k2M};
  EXPECT_EQ(td.accept(rcx(kBase, 1)).kind, AcceptOutcomeKind::kNotRam);
  EXPECT_EQ(td.touch_private(kBase + k4K).kind, TouchKind::kPendingExit);
  EXPECT_EQ(td.augmented[0].second, PageSize::k4K);
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0xC0000B0B00000001) << "a table is there by now";
  Td shared{one_range(), Backing::k2M};
  (void)shared.map_gpa((kBase + 5 * k4K) | kSharedBit, k4K);
  EXPECT_EQ(shared.accept(rcx(kBase, 1)).rax, 0xC0000B0B00000001);
  EXPECT_EQ(shared.accept(rcx(kBase + 4 * k4K, 0)).rax, 0U);
  EXPECT_EQ(shared.accept(rcx(kBase + 5 * k4K, 0)).kind, AcceptOutcomeKind::kSharedPage);
}

TEST(TdMemoryAccept, MemoryThatIsNotThereOrSharedStopsTheGuest) {
  Td td{one_range(), Backing::k2M};
  EXPECT_EQ(td.accept(rcx(0, 0)).kind, AcceptOutcomeKind::kNotRam);
  EXPECT_EQ(td.accept(rcx(kBase + 64 * k2M, 1)).kind, AcceptOutcomeKind::kNotRam);
  (void)td.map_gpa(kBase | kSharedBit, k2M);
  EXPECT_EQ(td.accept(rcx(kBase, 1)).kind, AcceptOutcomeKind::kSharedPage);
  EXPECT_EQ(td.accept(rcx(kBase, 0)).kind, AcceptOutcomeKind::kSharedPage);
}

TEST(TdMemoryAccept, RefusalsOfTheModulePassThrough) {
  Td td{one_range(), Backing::k2M};
  EXPECT_EQ(td.accept(rcx(1ULL << 30, 2)).rax, 0xC000010000000001);
  EXPECT_EQ(td.accept(rcx(1ULL << 30, 2)).size, PageSize::k1G);
  EXPECT_EQ(td.accept(rcx(kBase, 1) | kSharedBit).rax, 0xC000010000000001);
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0U);
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0x00000B0A00000001);
  EXPECT_EQ(td.accept(rcx(kBase + k4K, 0)).rax, 0x00000B0A00000001);
  EXPECT_EQ(td.zeroed, 512U) << "accepted memory is never zeroed again";
}

TEST(TdMemoryAccept, BusyAndTheHostPriorityTimeoutReachTheGuestAsTheModuleShowsThem) {
  Td td{one_range(), Backing::k2M};
  EXPECT_EQ(td.touch_private(kBase).kind, TouchKind::kPendingExit);
  td.sept.ept.inject_busy(1, BusyCause::kGuest);
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0x8000020000000001);
  td.sept.ept.inject_busy(1, BusyCause::kHostPriorityTimeout);
  EXPECT_EQ(td.accept(rcx(kBase, 1)).kind, AcceptOutcomeKind::kInterrupted);
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0U);
}

TEST(TdMemoryAccept, AnInterruptedAcceptGoesOnWhereItStopped) {
  Td td{one_range(), Backing::k2M};
  unsigned zeroed = 0;
  const auto nothing = [](auto...) {};
  const TdMemoryHooks hooks{.mapped = nothing,
                            .private_gone = nothing,
                            .shared_gone = nothing,
                            .augmented = nothing,
                            .kick_vcpus = nothing};
  unsigned calls = 0;
  for (;;) {
    ++calls;
    const AcceptOutcome outcome = td.memory.accept(
        rcx(kBase, 1), [&](PhysAddr) { ++zeroed; }, [&] { return zeroed % 100 == 0; }, hooks);
    if (outcome.kind == AcceptOutcomeKind::kCompleted) {
      EXPECT_EQ(outcome.rax, 0U);
      break;
    }
    ASSERT_EQ(outcome.kind, AcceptOutcomeKind::kInterrupted);
  }
  EXPECT_EQ(calls, 6U);
  EXPECT_EQ(zeroed, 512U);
}

// --- Touches ---

TEST(TdMemoryTouch, ReportsTheStateBeforeTheHostActed) {
  Td td{one_range(), Backing::k2M};
  const Touch first = td.touch_private(kBase + 0x1234);
  EXPECT_EQ(first.kind, TouchKind::kPendingExit);
  EXPECT_EQ(first.before.state, SeptState::kFree);
  const Touch second = td.touch_private(kBase + 0x1234);
  EXPECT_EQ(second.before.state, SeptState::kPending);
  EXPECT_EQ(td.augmented.size(), 1U);
  EXPECT_EQ(td.augmented[0], (std::pair{kBase, PageSize::k2M}));
}

TEST(TdMemoryTouch, PendingIsAVeOrAnExitAsConfigured) {
  Td td{one_range(), Backing::k4K};
  td.sept.ept.set_pending_ve_disable(false);
  EXPECT_EQ(td.touch_private(kBase).kind, TouchKind::kPendingVe);
  td.sept.ept.set_pending_ve_disable(true);
  EXPECT_EQ(td.touch_private(kBase).kind, TouchKind::kPendingExit);
}

TEST(TdMemoryTouch, MapsAcceptedMemoryInTheSizeOfItsPage) {
  Td td{one_range(), Backing::k2M, Bytes{1 << 20}, {.page_release = true}, 1ULL << 33};
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0U);
  td.mapped.clear();
  EXPECT_EQ(td.touch_private(kBase + 77 * k4K).kind, TouchKind::kMapped);
  EXPECT_EQ(td.mapped.size(), 512U);
  EXPECT_EQ(td.memory.state_of(PhysAddr{kBase}).entry.hpa, PhysAddr{kBase + (1ULL << 33)});
}

TEST(TdMemoryTouch, PolarityMismatchesAndHolesAreTold) {
  Td td{one_range(), Backing::k2M};
  EXPECT_EQ(td.touch_private(0x1000).kind, TouchKind::kNotRam);
  EXPECT_EQ(td.touch_shared(0x1000).kind, TouchKind::kNotRam);
  EXPECT_EQ(td.touch_private(kSharedBit).kind, TouchKind::kNotRam);
  EXPECT_EQ(td.touch_shared(kBase).kind, TouchKind::kPrivatePage);
  (void)td.map_gpa(kBase | kSharedBit, k4K);
  EXPECT_EQ(td.touch_shared(kBase + 5).kind, TouchKind::kShared);
  EXPECT_EQ(td.shared, std::set{kBase});
  EXPECT_EQ(td.touch_private(kBase).kind, TouchKind::kSharedPage);
  EXPECT_TRUE(td.augmented.empty());
}

TEST(TdMemoryTouch, APageLeftBlockedIsUnblockedAndKeepsItsContent) {
  Td td{one_range(), Backing::k2M};
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0U);
  EXPECT_TRUE(td.sept.ept.range_block(PhysAddr{kBase}, SeptLevel::k2M)->ok());
  const Touch touch = td.touch_private(kBase);
  EXPECT_EQ(touch.kind, TouchKind::kMapped);
  EXPECT_EQ(touch.before.state, SeptState::kBlocked);
  EXPECT_TRUE(td.sept.ept.range_block(PhysAddr{0}, SeptLevel::k1G)->ok());
  EXPECT_EQ(td.accept(rcx(kBase + k2M, 1)).rax, 0U) << "a blocked table is unblocked too";
}

// --- MapGPA ---

TEST(TdMemoryMapGpa, ChecksItsOperandsInKvmsOrder) {
  Td td{one_range(), Backing::k2M};
  struct Case {
    std::uint64_t start;
    std::uint64_t size;
    VmcallStatus r10;
  };
  const std::uint64_t top = 1ULL << 48;
  for (const Case& c :
       std::vector<Case>{{kBase, 0, VmcallStatus::kInvalidOperand},
                         {kBase + 1, 0, VmcallStatus::kInvalidOperand},
                         {~std::uint64_t{0xFFF}, 0x2000, VmcallStatus::kInvalidOperand},
                         {~std::uint64_t{0xFFF}, 0x1000, VmcallStatus::kInvalidOperand},
                         {top, k4K, VmcallStatus::kInvalidOperand},
                         {top - k4K, 2 * k4K, VmcallStatus::kInvalidOperand},
                         {kSharedBit - k4K, 2 * k4K, VmcallStatus::kInvalidOperand},
                         {kSharedBit - 1, 2, VmcallStatus::kInvalidOperand},
                         {kBase + 1, k4K, VmcallStatus::kAlignError},
                         {kBase, k4K - 1, VmcallStatus::kAlignError},
                         {kBase | 0x800 | kSharedBit, k4K, VmcallStatus::kAlignError}}) {
    const MapGpaOutcome outcome = td.map_gpa(c.start, c.size);
    EXPECT_EQ(outcome.kind, MapGpaKind::kAnswered);
    EXPECT_EQ(outcome.r10, c.r10) << std::hex << c.start << " " << c.size;
    EXPECT_EQ(outcome.r11, c.start);
    EXPECT_EQ(outcome.to_shared + outcome.to_private, 0_B);
  }
  EXPECT_EQ(td.check(), "");
}

TEST(TdMemoryMapGpa, MakingMemorySharedRemovesItFromTheSept) {
  Td td{one_range(), Backing::k2M};
  for (std::uint64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(td.accept(rcx(kBase + i * k2M, 1)).rax, 0U);
  }
  const MapGpaOutcome outcome = td.map_gpa((kBase + k2M) | kSharedBit, 2 * k2M);
  EXPECT_EQ(outcome.r10, VmcallStatus::kSuccess);
  EXPECT_EQ(outcome.to_shared, Bytes{2 * k2M});
  EXPECT_EQ(outcome.to_private, 0_B);
  EXPECT_EQ(td.private_gone, (std::vector{range(kBase + k2M, kBase + 2 * k2M),
                                          range(kBase + 2 * k2M, kBase + 3 * k2M)}));
  EXPECT_EQ(td.memory.state_of(PhysAddr{kBase + k2M}).entry.state, SeptState::kFree);
  EXPECT_EQ(td.memory.state_of(PhysAddr{kBase}).entry.state, SeptState::kMapped);
  EXPECT_EQ(td.check(), "");
}

TEST(TdMemoryMapGpa, BackToPrivateMeansAcceptAgain) {
  Td td{one_range(), Backing::k2M};
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0U);
  (void)td.map_gpa(kBase | kSharedBit, k2M);
  EXPECT_EQ(td.touch_shared(kBase).kind, TouchKind::kShared);
  const MapGpaOutcome back = td.map_gpa(kBase, k2M);
  EXPECT_EQ(back.to_private, 2_MiB);
  EXPECT_EQ(td.shared_gone, std::vector{range(kBase, kBase + k2M)});
  EXPECT_EQ(td.touch_private(kBase).kind, TouchKind::kPendingExit);
  td.zeroed = 0;
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0U);
  EXPECT_EQ(td.zeroed, 512U);
  EXPECT_EQ(td.check(), "");
}

TEST(TdMemoryMapGpa, APartOfA2MPageIsSplitOffAndTheRestKeepsItsState) {
  for (const bool accepted : {true, false}) {
    Td td{one_range(), Backing::k2M};
    EXPECT_EQ(td.touch_private(kBase).kind, TouchKind::kPendingExit);
    if (accepted) {
      EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0U);
    }
    const MapGpaOutcome outcome = td.map_gpa((kBase + 7 * k4K) | kSharedBit, 3 * k4K);
    EXPECT_EQ(outcome.to_shared, Bytes{3 * k4K});
    EXPECT_EQ(td.private_gone, std::vector{range(kBase + 7 * k4K, kBase + 10 * k4K)});
    for (std::uint64_t i = 0; i < 512; ++i) {
      const SeptState rest = accepted ? SeptState::kMapped : SeptState::kPending;
      ASSERT_EQ(td.memory.state_of(PhysAddr{kBase + i * k4K}).entry.state,
                7 <= i && i < 10 ? SeptState::kFree : rest);
    }
    EXPECT_EQ(td.check(), "");
  }
}

TEST(TdMemoryMapGpa, Regression_K02_ConversionsAreCoalescedAndCountedPerPage) {
  Td td{one_range(), Backing::k4K};
  for (std::uint64_t i = 0; i < 1024; ++i) {
    EXPECT_EQ(td.accept(rcx(kBase + i * k4K, 0)).rax, 0U);
  }
  const MapGpaOutcome outcome = td.map_gpa((kBase + 256 * k4K) | kSharedBit, 512 * k4K);
  EXPECT_EQ(outcome.to_shared, Bytes{512 * k4K});
  // Two regions, one call and one TRACK each; not one a page.
  EXPECT_EQ(td.private_gone.size(), 2U);
  EXPECT_EQ(td.kicks, 2U);
  const MapGpaOutcome again = td.map_gpa((kBase + 255 * k4K) | kSharedBit, 3 * k4K);
  EXPECT_EQ(again.to_shared, Bytes{k4K}) << "pages that are shared already do not count";
  EXPECT_EQ(td.check(), "");
}

TEST(TdMemoryMapGpa, SameStateAndHolesAreNoOps) {
  Td td{{range(kBase, kBase + k2M), range(kBase + 3 * k2M, kBase + 4 * k2M)}, Backing::k2M};
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0U);
  const MapGpaOutcome same = td.map_gpa(kBase, k2M);
  EXPECT_EQ(same.r10, VmcallStatus::kSuccess);
  EXPECT_EQ(same.to_private, 0_B);
  EXPECT_EQ(td.memory.state_of(PhysAddr{kBase}).entry.state, SeptState::kMapped);
  const MapGpaOutcome across = td.map_gpa(kSharedBit, 64 * k2M);
  EXPECT_EQ(across.r10, VmcallStatus::kSuccess);
  EXPECT_EQ(across.to_shared, Bytes{2 * k2M}) << "only what is RAM";
  EXPECT_EQ(td.map_gpa(0, kSharedBit).to_private, Bytes{2 * k2M});
  EXPECT_EQ(td.check(), "");
}

TEST(TdMemoryMapGpa, Regression_K03_AFailedConversionLeavesTheOldState) {
  // Root and two tables on the way: none left to split a page.
  Td td{one_range(), Backing::k2M, 12_KiB};
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0U);
  const MapGpaOutcome outcome = td.map_gpa((kBase + k4K) | kSharedBit, k4K);
  EXPECT_EQ(outcome.kind, MapGpaKind::kOutOfStorage);
  EXPECT_EQ(outcome.to_shared, 0_B);
  EXPECT_TRUE(td.private_gone.empty());
  EXPECT_EQ(td.memory.state_of(PhysAddr{kBase + k4K}).attribute, PageAttribute::kPrivate);
  EXPECT_EQ(td.touch_private(kBase + k4K).kind, TouchKind::kMapped);
  EXPECT_EQ(td.check(), "");
}

TEST(TdMemoryMapGpa, StorageThatEndsAfterProgressIsARetryWhereItStopped) {
  Td td{one_range(), Backing::k2M, 12_KiB};
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0U);
  EXPECT_EQ(td.accept(rcx(kBase + k2M, 1)).rax, 0U);
  const MapGpaOutcome outcome = td.map_gpa(kBase | kSharedBit, k2M + k4K);
  EXPECT_EQ(outcome.kind, MapGpaKind::kAnswered);
  EXPECT_EQ(outcome.r10, VmcallStatus::kRetry);
  EXPECT_EQ(outcome.r11, (kBase + k2M) | kSharedBit);
  EXPECT_EQ(outcome.to_shared, 2_MiB);
  EXPECT_EQ(td.check(), "");
}

TEST(TdMemoryMapGpa, AVcpuThatDoesNotLeaveMakesItARetryAndLaterItGoesOn) {
  Td td{one_range(), Backing::k2M};
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0U);
  const VcpuEpoch inside = td.sept.ept.vcpu_entered();
  const MapGpaOutcome outcome = td.map_gpa(kBase | kSharedBit, k2M);
  EXPECT_EQ(outcome.r10, VmcallStatus::kRetry);
  EXPECT_EQ(outcome.r11, kBase | kSharedBit);
  EXPECT_GE(td.kicks, 2U);
  EXPECT_EQ(td.memory.state_of(PhysAddr{kBase}).attribute, PageAttribute::kPrivate);
  EXPECT_EQ(td.check(), "");
  td.sept.ept.vcpu_left(inside);
  EXPECT_EQ(td.map_gpa(kBase | kSharedBit, k2M).to_shared, 2_MiB);
  EXPECT_EQ(td.check(), "");
}

TEST(TdMemoryMapGpa, AVcpuThatDoesNotLeaveHoldsUpASplitForABoundedTimeOnly) {
  Td td{one_range(), Backing::k2M};
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0U);
  const VcpuEpoch inside = td.sept.ept.vcpu_entered();
  EXPECT_EQ(td.map_gpa(kBase | kSharedBit, k4K).r10, VmcallStatus::kRetry);
  EXPECT_LT(td.kicks, 10'000U);
  td.sept.ept.vcpu_left(inside);
  EXPECT_EQ(td.touch_private(kBase).kind, TouchKind::kMapped) << "unblocked, content kept";
  EXPECT_EQ(td.map_gpa(kBase | kSharedBit, k4K).to_shared, 4_KiB);
  EXPECT_EQ(td.check(), "");
}

TEST(TdMemoryMapGpa, ARetryNamesTheFirstPageThatWasNotConverted) {
  Td td{one_range(), Backing::k4K};
  EXPECT_EQ(td.accept(rcx(kBase + 4 * k4K, 0)).rax, 0U);
  EXPECT_EQ(td.map_gpa((kBase + 2 * k4K) | kSharedBit, k4K).to_shared, 4_KiB);
  const VcpuEpoch inside = td.sept.ept.vcpu_entered();
  // Pages 0 and 1 hold nothing, 2 is shared, 4 cannot be removed while the vCPU is inside.
  const MapGpaOutcome outcome = td.map_gpa(kBase | kSharedBit, 8 * k4K);
  EXPECT_EQ(outcome.r10, VmcallStatus::kRetry);
  EXPECT_EQ(outcome.r11, (kBase + 3 * k4K) | kSharedBit);
  EXPECT_EQ(outcome.to_shared, 8_KiB);
  td.sept.ept.vcpu_left(inside);
  EXPECT_EQ(td.map_gpa(outcome.r11, 5 * k4K).to_shared, Bytes{5 * k4K});
  EXPECT_EQ(td.check(), "");
}

// --- RELEASE, adopt, reports ---

TEST(TdMemoryRelease, Regression_O02_AReleasedPageIsUnmappedAndAcceptedAnewOnly) {
  Td td{one_range(), Backing::k2M};
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0U);
  const AcceptOutcome released = td.release(rcx(kBase, 1));
  EXPECT_EQ(released.rax, 0U);
  EXPECT_EQ(released.bytes, 2_MiB);
  EXPECT_EQ(released.rcx, kBase | 1 | (1ULL << 62));
  EXPECT_TRUE(td.mapped.empty());
  EXPECT_EQ(td.touch_private(kBase).kind, TouchKind::kPendingExit);
  EXPECT_EQ(td.release(rcx(kBase, 1)).rax, 0xC0000B0D00000001);
  EXPECT_EQ(td.private_gone.size(), 1U);
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0U);
  EXPECT_EQ(td.zeroed, 1024U);
}

TEST(TdMemoryAdopt, TakesLaunchMemoryWithoutTouchingIt) {
  for (const Backing backing : {Backing::k2M, Backing::k4K}) {
    Td td{one_range(), backing};
    const auto used = range(kBase + 3 * k4K, kBase + 4 * k2M + k4K);
    const auto adopted = td.memory.adopt(used);
    ASSERT_TRUE(adopted.has_value());
    EXPECT_EQ(*adopted, used.size());
    EXPECT_EQ(td.zeroed, 0U);
    for (std::uint64_t gpa = kBase; gpa < kBase + 5 * k2M; gpa += k4K) {
      const EntryView entry = td.memory.state_of(PhysAddr{gpa}).entry;
      ASSERT_EQ(entry.state, used.contains(PhysAddr{gpa}) ? SeptState::kMapped : SeptState::kFree);
    }
    const EntryView middle = td.memory.state_of(PhysAddr{kBase + 2 * k2M}).entry;
    EXPECT_EQ(middle.level, backing == Backing::k2M ? SeptLevel::k2M : SeptLevel::k4K);
    EXPECT_EQ(td.touch_private(kBase + 2 * k2M).kind, TouchKind::kMapped);
    EXPECT_EQ(td.check(), "");
  }
}

TEST(TdMemoryAdopt, Regression_S01_LaunchPagesAreTrackedSoASecondAcceptIsRefused) {
  Td td{one_range(), Backing::k2M};
  ASSERT_TRUE(td.memory.adopt(range(kBase, kBase + k2M)).has_value());
  EXPECT_EQ(td.accept(rcx(kBase, 1)).rax, 0x00000B0A00000001);
  EXPECT_EQ(td.zeroed, 0U);
}

TEST(TdMemoryAdopt, RefusesWhatIsNotFreeRam) {
  Td td{one_range(), Backing::k2M};
  EXPECT_EQ(td.memory.adopt(range(kBase + 1, kBase + k4K)).error(), AdoptError::kUnaligned);
  EXPECT_EQ(td.memory.adopt(range(kBase - k4K, kBase + k4K)).error(), AdoptError::kNotRam);
  ASSERT_TRUE(td.memory.adopt(range(kBase, kBase + k4K)).has_value());
  EXPECT_EQ(td.memory.adopt(range(kBase, kBase + k4K)).error(), AdoptError::kNotFree);
  (void)td.map_gpa((kBase + k4K) | kSharedBit, k4K);
  EXPECT_EQ(td.memory.adopt(range(kBase + k4K, kBase + 2 * k4K)).error(), AdoptError::kNotFree);
  Td small{one_range(), Backing::k2M, 8_KiB};
  EXPECT_EQ(small.memory.adopt(range(kBase, kBase + k2M)).error(), AdoptError::kOutOfStorage);
  EXPECT_EQ(small.accept(rcx(kBase, 1)).kind, AcceptOutcomeKind::kOutOfStorage);
  EXPECT_EQ(small.touch_private(kBase).kind, TouchKind::kOutOfStorage);
}

TEST(TdMemoryAdopt, FillsUpARegionThatHasATable) {
  Td td{one_range(), Backing::k2M};
  EXPECT_EQ(td.accept(rcx(kBase, 0)).rax, 0U);
  EXPECT_EQ(td.memory.adopt(range(kBase + k4K, kBase + k2M)).value(), Bytes{511 * k4K});
  EXPECT_EQ(td.check(), "");
}

TEST(TdMemoryReports, TellRamAttributeAndEntry) {
  Td td{{range(kBase, kBase + k4K), range(kBase + k4K, kBase + 2 * k4K)}, Backing::k2M};
  EXPECT_TRUE(td.memory.is_ram(range(kBase, kBase + 2 * k4K))) << "adjacent ranges are one RAM";
  EXPECT_FALSE(td.memory.is_ram(range(kBase, kBase + 3 * k4K)));
  (void)td.map_gpa(kBase | kSharedBit, k4K);
  const PageReport report = td.memory.state_of(PhysAddr{kBase});
  EXPECT_TRUE(report.ram);
  EXPECT_EQ(report.attribute, PageAttribute::kShared);
  EXPECT_EQ(report.entry.state, SeptState::kFree);
  EXPECT_FALSE(td.memory.state_of(PhysAddr{1ULL << 46}).ram);
  EXPECT_FALSE(td.memory.state_of(PhysAddr{1ULL << 50}).ram);
}

TEST(TdMemoryReports, EveryValueHasAName) {
  for (int i = 0; i < 5; ++i) {
    EXPECT_NE(name(static_cast<AcceptOutcomeKind>(i)), "unknown");
  }
  for (int i = 0; i < 9; ++i) {
    EXPECT_NE(name(static_cast<TouchKind>(i)), "unknown");
  }
  for (int i = 0; i < 4; ++i) {
    EXPECT_NE(name(static_cast<AdoptError>(i)), "unknown");
  }
  EXPECT_EQ(name(static_cast<TouchKind>(99)), "unknown");
  EXPECT_EQ(name(static_cast<AcceptOutcomeKind>(99)), "unknown");
  EXPECT_EQ(name(static_cast<AdoptError>(99)), "unknown");
  EXPECT_EQ(name(Backing::k2M), "2M");
  EXPECT_EQ(name(Backing::k4K), "4K");
  EXPECT_EQ(name(MapGpaKind::kAnswered), "answered");
}

}  // namespace
}  // namespace accede::host
