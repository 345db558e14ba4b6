#include "accede/host/secure_ept.hpp"

#include "tests/host/sept_fixture.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>
#include <vector>

namespace accede::host {
namespace {

using abi::tdx::Operand;
using abi::tdx::Status;
using abi::tdx::status;
using test::range;
using test::rcx;
using test::Sept;

constexpr std::uint64_t k4K = 4096;
constexpr std::uint64_t k2M = 2ULL << 20;
constexpr std::uint64_t k1G = 1ULL << 30;
constexpr std::uint64_t kGpa = 512 * k1G;  // aligned at every level

constexpr std::uint64_t kInvalidRcx = 0xC000010000000001;
constexpr std::uint64_t kBusyRcx = 0x8000020000000001;
constexpr std::uint64_t kWalkFailed = 0xC0000B0000000001;
constexpr std::uint64_t kStateIncorrect = 0xC0000B0D00000001;

const std::vector<SeptState> kLeafStates{
    SeptState::kBlocked,
    SeptState::kPending,
    SeptState::kPendingBlocked,
    SeptState::kMapped,
    SeptState::kBlockedW,
    SeptState::kExportedBlockedW,
    SeptState::kExportedDirty,
    SeptState::kExportedDirtyBlockedW,
    SeptState::kPendingBlockedW,
    SeptState::kPendingExportedBlockedW,
    SeptState::kPendingExportedDirty,
    SeptState::kPendingExportedDirtyBlockedW,
};

bool usable(SeptState state) {
  return std::set{SeptState::kMapped, SeptState::kBlockedW, SeptState::kExportedBlockedW,
                  SeptState::kExportedDirty, SeptState::kExportedDirtyBlockedW}
      .contains(state);
}

bool is_non_leaf(SeptState state) {
  return state == SeptState::kNonLeafMapped || state == SeptState::kNonLeafBlocked;
}

/// A tree whose entry of `level` at kGpa is in `state`; everything around it is FREE.
std::unique_ptr<Sept> place(SeptLevel level, SeptState state) {
  auto sept = std::make_unique<Sept>();
  (void)sept->ept.finalize();
  SecureEpt& ept = sept->ept;
  const PhysAddr gpa{kGpa};
  if (is_non_leaf(state)) {
    sept->add_tables(kGpa, level);
    (void)ept.sept_add(gpa, level);
    if (state == SeptState::kNonLeafBlocked) {
      (void)ept.range_block(gpa, level);
    }
  } else if (level == SeptLevel::k1G) {
    for (std::uint64_t at = kGpa; at < kGpa + k1G; at += k2M) {
      sept->augment(at, SeptLevel::k2M);
    }
    (void)ept.range_block(gpa, level);
    (void)ept.track();
    EXPECT_EQ(ept.page_promote(gpa, level)->status, 0U);
    EXPECT_TRUE(ept.force_state(gpa, level, state));
  } else {
    sept->augment(kGpa, level);
    EXPECT_TRUE(ept.force_state(gpa, level, state));
  }
  EXPECT_TRUE(ept.invariants());
  return sept;
}

GuestCallResult accept(SecureEpt& ept, std::uint64_t operand) {
  return ept.accept(operand, [](PhysAddr) {}, [] { return false; });
}

void expect_exit(const GuestCallResult& result, SeptLevel requested, SeptLevel level,
                 SeptState state) {
  ASSERT_EQ(result.kind, GuestCallKind::kExit);
  EXPECT_EQ(result.exit.rax, 48U);
  EXPECT_EQ(result.exit.gpa, PhysAddr{kGpa});
  EXPECT_EQ(result.exit.requested_level, requested);
  EXPECT_EQ(result.exit.error_level, level);
  EXPECT_EQ(result.exit.error_state, state);
  const bool leaf =
      state != SeptState::kFree && state != SeptState::kRemoved && !is_non_leaf(state);
  EXPECT_EQ(result.exit.is_leaf, leaf);
  EXPECT_EQ(result.exit.extended_qualification(),
            1ULL | (static_cast<std::uint64_t>(requested) << 32) |
                (static_cast<std::uint64_t>(level) << 35) |
                (static_cast<std::uint64_t>(state) << 38) | (std::uint64_t{leaf} << 46));
}

// --- The ACCEPT decision table (reference 2.1), every state x level x request ---

TEST(SecureEptAccept, Row1And5ALeafThatTheGuestCanUseIsAlreadyAcceptedAtItsOwnLevel) {
  for (const SeptState state : kLeafStates) {
    for (const SeptLevel level : {SeptLevel::k4K, SeptLevel::k2M, SeptLevel::k1G}) {
      for (const SeptLevel request : {SeptLevel::k4K, SeptLevel::k2M}) {
        if (!usable(state) || request > level) {
          continue;
        }
        const auto sept = place(level, state);
        const auto result = accept(sept->ept, rcx(kGpa, static_cast<std::uint64_t>(request)));
        EXPECT_EQ(result.kind, GuestCallKind::kCompleted);
        EXPECT_EQ(result.rax, 0x00000B0A00000000 + static_cast<std::uint64_t>(level))
            << testing::PrintToString(state);
        EXPECT_EQ(sept->state(kGpa), state);
      }
    }
  }
}

TEST(SecureEptAccept, Row2ALargerLeafThatIsPendingOrBlockedEndsInAnExit) {
  for (const SeptState state : kLeafStates) {
    for (const SeptLevel level : {SeptLevel::k2M, SeptLevel::k1G}) {
      for (const SeptLevel request : {SeptLevel::k4K, SeptLevel::k2M}) {
        if (usable(state) || request >= level) {
          continue;
        }
        const auto sept = place(level, state);
        expect_exit(accept(sept->ept, rcx(kGpa, static_cast<std::uint64_t>(request))), request,
                    level, state);
        EXPECT_EQ(sept->state(kGpa), state);
      }
    }
  }
}

TEST(SecureEptAccept, Row2AMissingOrBlockedTableEndsInAnExit) {
  const Sept empty;
  for (const SeptLevel request : {SeptLevel::k4K, SeptLevel::k2M}) {
    expect_exit(
        accept(const_cast<SecureEpt&>(empty.ept), rcx(kGpa, static_cast<std::uint64_t>(request))),
        request, SeptLevel::k512G, SeptState::kFree);
    for (const SeptLevel level : {SeptLevel::k2M, SeptLevel::k1G, SeptLevel::k512G}) {
      if (level <= request) {
        continue;
      }
      const auto blocked = place(level, SeptState::kNonLeafBlocked);
      expect_exit(accept(blocked->ept, rcx(kGpa, static_cast<std::uint64_t>(request))), request,
                  level, SeptState::kNonLeafBlocked);
      const auto mapped = place(level, SeptState::kNonLeafMapped);
      expect_exit(accept(mapped->ept, rcx(kGpa, static_cast<std::uint64_t>(request))), request,
                  static_cast<SeptLevel>(static_cast<int>(level) - 1), SeptState::kFree);
    }
  }
}

TEST(SecureEptAccept, Row4ATableAtTheRequestedLevelIsASizeMismatch) {
  for (const SeptState state : {SeptState::kNonLeafMapped, SeptState::kNonLeafBlocked}) {
    const auto sept = place(SeptLevel::k2M, state);
    EXPECT_EQ(accept(sept->ept, rcx(kGpa, 1)).rax, 0xC0000B0B00000001);
  }
  for (const SeptState state : kLeafStates) {
    const auto sept = place(SeptLevel::k4K, state);
    EXPECT_EQ(accept(sept->ept, rcx(kGpa, 1)).rax, 0xC0000B0B00000001);
    EXPECT_EQ(sept->state(kGpa), state);
  }
}

TEST(SecureEptAccept, Row6FreeRemovedAndBlockedPagesEndInAnExit) {
  std::vector<SeptState> states{SeptState::kFree, SeptState::kRemoved};
  states.insert(states.end(), kLeafStates.begin(), kLeafStates.end());
  for (const SeptState state : states) {
    if (usable(state) || state == SeptState::kPending ||
        state == SeptState::kPendingExportedDirty) {
      continue;
    }
    for (const SeptLevel level : {SeptLevel::k4K, SeptLevel::k2M}) {
      const auto sept = place(level, state);
      expect_exit(accept(sept->ept, rcx(kGpa, static_cast<std::uint64_t>(level))), level, level,
                  state);
      EXPECT_EQ(sept->state(kGpa), state);
    }
  }
}

TEST(SecureEptAccept, Row7PendingPagesAreZeroedAndMapped) {
  for (const SeptLevel level : {SeptLevel::k4K, SeptLevel::k2M}) {
    for (const auto& [before, after] :
         {std::pair{SeptState::kPending, SeptState::kMapped},
          std::pair{SeptState::kPendingExportedDirty, SeptState::kExportedDirty}}) {
      const auto sept = place(level, before);
      std::vector<PhysAddr> zeroed;
      const auto result = sept->ept.accept(
          rcx(kGpa, static_cast<std::uint64_t>(level)),
          [&](PhysAddr hpa) { zeroed.push_back(hpa); }, [] { return false; });
      EXPECT_EQ(result.kind, GuestCallKind::kCompleted);
      EXPECT_EQ(result.rax, 0U);
      EXPECT_EQ(sept->state(kGpa), after);
      ASSERT_EQ(zeroed.size(), level == SeptLevel::k4K ? 1U : 512U);
      for (std::size_t i = 0; i < zeroed.size(); ++i) {
        EXPECT_EQ(zeroed[i], PhysAddr{kGpa + Sept::kHpaOffset + i * k4K});
      }
      EXPECT_TRUE(sept->ept.invariants());
    }
  }
}

TEST(SecureEptAccept, A1GRequestIsAlwaysRefused) {
  std::vector<SeptState> states = kLeafStates;
  for (const SeptState state : states) {
    const auto sept = place(SeptLevel::k1G, state);
    EXPECT_EQ(accept(sept->ept, rcx(kGpa, 2)).rax, kInvalidRcx);
    EXPECT_EQ(sept->state(kGpa), state);
  }
  Sept empty;
  EXPECT_EQ(accept(empty.ept, rcx(kGpa, 2)).rax, kInvalidRcx);
}

TEST(SecureEptAccept, BadOperandsAreRefused) {
  for (const unsigned width : {48U, 52U}) {
    Sept sept{{.gpa_width = width}};
    const std::uint64_t shared = 1ULL << (width - 1);
    for (std::uint64_t level = 2; level < 8; ++level) {
      EXPECT_EQ(accept(sept.ept, rcx(kGpa, level)).rax, kInvalidRcx) << level;
    }
    for (unsigned bit = 3; bit < 12; ++bit) {
      EXPECT_EQ(accept(sept.ept, kGpa | (1ULL << bit)).rax, kInvalidRcx) << bit;
    }
    for (unsigned bit = 52; bit < 64; ++bit) {
      EXPECT_EQ(accept(sept.ept, kGpa | (1ULL << bit)).rax, kInvalidRcx) << bit;
    }
    for (unsigned bit = 12; bit < 21; ++bit) {
      EXPECT_EQ(accept(sept.ept, rcx(kGpa | (1ULL << bit), 1)).rax, kInvalidRcx) << bit;
    }
    EXPECT_EQ(accept(sept.ept, kGpa | shared).rax, kInvalidRcx);
    if (width < 52) {
      EXPECT_EQ(accept(sept.ept, 1ULL << width).rax, kInvalidRcx);
    }
    // The last private page is fine as an operand: it exits because nothing is there.
    EXPECT_EQ(accept(sept.ept, shared - k4K).kind, GuestCallKind::kExit);
    EXPECT_EQ(accept(sept.ept, rcx(shared - k2M, 1)).kind, GuestCallKind::kExit);
  }
}

TEST(SecureEptAccept, Gpaw52HasAFifthLevelAndReachesItsLastPage) {
  Sept sept{{.gpa_width = 52}};
  const std::uint64_t last = (1ULL << 51) - k4K;
  EXPECT_EQ(sept.ept.lookup(PhysAddr{last})->level, SeptLevel::k256T);
  sept.augment(last, SeptLevel::k4K);
  EXPECT_EQ(sept.accept(last, 0), 0U);
  EXPECT_EQ(sept.ept.access(PhysAddr{last}).kind, AccessKind::kMapped);
  EXPECT_EQ(sept.ept.access(PhysAddr{1ULL << 51}).kind, AccessKind::kNotPrivate);
  EXPECT_TRUE(sept.ept.invariants());
}

// --- Interruption and BUSY ---

TEST(SecureEptAccept, IsInterruptibleAtEvery4KStepAndGoesOnThere) {
  for (unsigned stop = 1; stop < 512; ++stop) {
    const auto sept = place(SeptLevel::k2M, SeptState::kPending);
    std::vector<PhysAddr> zeroed;
    const auto zero = [&](PhysAddr hpa) { zeroed.push_back(hpa); };
    const auto first = sept->ept.accept(rcx(kGpa, 1), zero, [&] { return zeroed.size() == stop; });
    ASSERT_EQ(first.kind, GuestCallKind::kInterrupted);
    ASSERT_EQ(zeroed.size(), stop);
    const std::uint64_t raw = *sept->ept.raw_entry(PhysAddr{kGpa}, SeptLevel::k2M);
    ASSERT_EQ(abi::tdx::SeptEntry::AcceptCounter::get(raw), stop);
    ASSERT_EQ(abi::tdx::SeptEntry::Tdel::get(raw), 0U);
    ASSERT_EQ(sept->state(kGpa), SeptState::kPending);
    ASSERT_TRUE(sept->ept.invariants());
    const auto second = sept->ept.accept(rcx(kGpa, 1), zero, [] { return false; });
    ASSERT_EQ(second.rax, 0U);
    ASSERT_EQ(zeroed.size(), 512U);
    for (std::size_t i = 0; i < 512; ++i) {
      ASSERT_EQ(zeroed[i], PhysAddr{kGpa + Sept::kHpaOffset + i * k4K});
    }
    const std::uint64_t done = *sept->ept.raw_entry(PhysAddr{kGpa}, SeptLevel::k2M);
    ASSERT_EQ(abi::tdx::SeptEntry::AcceptCounter::get(done), 0U);
  }
}

TEST(SecureEptAccept, Regression_L03_TheLongestStepBetweenPollsIsOne4KPage) {
  const auto sept = place(SeptLevel::k2M, SeptState::kPending);
  unsigned since_poll = 0;
  unsigned longest = 0;
  const auto result = sept->ept.accept(
      rcx(kGpa, 1), [&](PhysAddr) { longest = std::max(longest, ++since_poll); },
      [&] {
        since_poll = 0;
        return false;
      });
  EXPECT_EQ(result.rax, 0U);
  EXPECT_EQ(longest, 1U);
}

TEST(SecureEptAccept, A4KAcceptIsNotInterruptible) {
  const auto sept = place(SeptLevel::k4K, SeptState::kPending);
  const auto result = sept->ept.accept(rcx(kGpa, 0), [](PhysAddr) {}, [] { return true; });
  EXPECT_EQ(result.kind, GuestCallKind::kCompleted);
  EXPECT_EQ(result.rax, 0U);
}

TEST(SecureEptAccept, BlockAndUnblockKeepTheProgressAndDemoteDropsIt) {
  for (const bool demote : {false, true}) {
    const auto sept = place(SeptLevel::k2M, SeptState::kPending);
    unsigned zeroed = 0;
    const auto zero = [&](PhysAddr) { ++zeroed; };
    (void)sept->ept.accept(rcx(kGpa, 1), zero, [&] { return zeroed == 100; });
    ASSERT_TRUE(sept->ept.range_block(PhysAddr{kGpa}, SeptLevel::k2M)->ok());
    ASSERT_EQ(sept->ept.track(), 0U);
    ASSERT_TRUE(sept->ept.invariants());
    if (demote) {
      ASSERT_EQ(sept->ept.page_demote(PhysAddr{kGpa}, SeptLevel::k2M)->status, 0U);
      EXPECT_EQ(sept->ept.lookup(PhysAddr{kGpa})->hpa, PhysAddr{kGpa + Sept::kHpaOffset});
      EXPECT_EQ(sept->accept(kGpa, 0), 0U);
    } else {
      ASSERT_EQ(sept->ept.range_unblock(PhysAddr{kGpa}, SeptLevel::k2M)->status, 0U);
      EXPECT_EQ(sept->ept.accept(rcx(kGpa, 1), zero, [] { return false; }).rax, 0U);
      EXPECT_EQ(zeroed, 512U);
    }
    ASSERT_TRUE(sept->ept.invariants());
  }
}

TEST(SecureEptAccept, RemoveOfAHalfAcceptedPageReturnsItsPlainHostAddress) {
  const auto sept = place(SeptLevel::k2M, SeptState::kPending);
  unsigned zeroed = 0;
  (void)sept->ept.accept(rcx(kGpa, 1), [&](PhysAddr) { ++zeroed; }, [&] { return zeroed == 7; });
  (void)sept->ept.range_block(PhysAddr{kGpa}, SeptLevel::k2M);
  (void)sept->ept.track();
  const HostCall call = sept->ept.page_remove(PhysAddr{kGpa}, SeptLevel::k2M);
  EXPECT_EQ(call->status, 0U);
  EXPECT_EQ(call->hpa, PhysAddr{kGpa + Sept::kHpaOffset});
  EXPECT_EQ(call->state, SeptState::kFree);
}

TEST(SecureEptAccept, AnEntryUnderAcceptIsBusyForEverybodyElse) {
  for (const SeptLevel level : {SeptLevel::k4K, SeptLevel::k2M}) {
    const auto sept = place(level, SeptState::kPending);
    const auto l = static_cast<std::uint64_t>(level);
    bool checked = false;
    // The callback stands for another CPU here; no lock is held, so the calls may be made.
    const auto other = [&](PhysAddr) {
      if (std::exchange(checked, true)) {
        return;
      }
      EXPECT_EQ(sept->accept(kGpa, l), kBusyRcx);
      EXPECT_EQ(sept->ept.range_block(PhysAddr{kGpa}, level)->status, kBusyRcx);
      EXPECT_EQ(sept->ept.page_remove(PhysAddr{kGpa}, level)->status, kBusyRcx);
      EXPECT_EQ(sept->ept.access(PhysAddr{kGpa}).kind, AccessKind::kPendingExit);
      if (level == SeptLevel::k4K) {
        (void)sept->ept.range_block(PhysAddr{kGpa}, SeptLevel::k2M);
        (void)sept->ept.track();
        EXPECT_EQ(sept->ept.page_promote(PhysAddr{kGpa}, SeptLevel::k2M)->status, kBusyRcx);
        EXPECT_EQ(sept->ept.range_unblock(PhysAddr{kGpa}, SeptLevel::k2M)->status, 0U);
      } else {
        EXPECT_EQ(sept->ept.page_demote(PhysAddr{kGpa}, level)->status, kBusyRcx);
        // A 4K accept inside meets a larger pending leaf: the host would demote, and be told BUSY.
        EXPECT_EQ(accept(sept->ept, rcx(kGpa, 0)).kind, GuestCallKind::kExit);
      }
    };
    EXPECT_EQ(sept->ept.accept(rcx(kGpa, l), other, [] { return false; }).rax, 0U);
    EXPECT_TRUE(checked);
    EXPECT_EQ(sept->state(kGpa), SeptState::kMapped);
    EXPECT_TRUE(sept->ept.invariants());
  }
}

TEST(SecureEptAccept, ATableBlockedDuringItsLastAcceptStaysBlocked) {
  Sept sept;
  for (std::uint64_t i = 0; i < 512; ++i) {
    sept.augment(kGpa + i * k4K, SeptLevel::k4K);
    if (i != 77) {
      EXPECT_EQ(sept.accept(kGpa + i * k4K, 0), 0U);
    }
  }
  const auto block = [&](PhysAddr) {
    EXPECT_EQ(sept.ept.range_block(PhysAddr{kGpa}, SeptLevel::k2M)->status, 0U);
  };
  EXPECT_EQ(sept.ept.accept(rcx(kGpa + 77 * k4K, 0), block, [] { return false; }).rax, 0U);
  EXPECT_EQ(sept.state(kGpa), SeptState::kNonLeafBlocked);
  EXPECT_TRUE(sept.ept.invariants());
  EXPECT_EQ(sept.ept.range_unblock(PhysAddr{kGpa}, SeptLevel::k2M)->status, 0xC0000B0800000001);
  EXPECT_EQ(sept.ept.track(), 0U);
  EXPECT_EQ(sept.ept.range_unblock(PhysAddr{kGpa}, SeptLevel::k2M)->status, 0U);
  EXPECT_EQ(sept.state(kGpa + 77 * k4K), SeptState::kMapped);
}

TEST(SecureEptAccept, InjectedBusyIsSeenExactlyAsOftenAsAsked) {
  for (const BusyCause cause : {BusyCause::kGuest, BusyCause::kHostPriority}) {
    const auto sept = place(SeptLevel::k2M, SeptState::kPending);
    sept->ept.inject_busy(3, cause);
    EXPECT_EQ(accept(sept->ept, rcx(kGpa, 2)).rax, kInvalidRcx) << "does not reach an entry";
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(accept(sept->ept, rcx(kGpa, 1)).rax, kBusyRcx);
    }
    EXPECT_EQ(accept(sept->ept, rcx(kGpa, 1)).rax, 0U);
  }
}

TEST(SecureEptAccept, HostPriorityThatLastsEndsInTheTimeoutExit) {
  const auto sept = place(SeptLevel::k4K, SeptState::kPending);
  sept->ept.inject_busy(1, BusyCause::kHostPriorityTimeout);
  const auto result = accept(sept->ept, rcx(kGpa, 0));
  EXPECT_EQ(result.kind, GuestCallKind::kExit);
  EXPECT_EQ(result.exit.rax, 0x9000020500000000);
  EXPECT_EQ(accept(sept->ept, rcx(kGpa, 0)).rax, 0U);
}

TEST(SecureEptAccept, Regression_T01_EveryStatusIsAnOutcomeWithAName) {
  // Every word an accept of this model can give; a guest must have an answer to each.
  const std::set<std::uint64_t> words{0,
                                      kInvalidRcx,
                                      kBusyRcx,
                                      0x00000B0A00000000,
                                      0x00000B0A00000001,
                                      0x00000B0A00000002,
                                      0xC0000B0B00000001};
  std::set<std::uint64_t> seen;
  const auto note = [&](Sept& sept) {
    for (std::uint64_t level = 0; level < 8; ++level) {
      const auto result = accept(sept.ept, rcx(kGpa, level));
      if (result.kind == GuestCallKind::kCompleted) {
        seen.insert(result.rax);
      }
    }
  };
  for (const SeptLevel level : {SeptLevel::k4K, SeptLevel::k2M, SeptLevel::k1G}) {
    for (const SeptState state : kLeafStates) {
      note(*place(level, state));
    }
  }
  const auto busy = place(SeptLevel::k4K, SeptState::kPending);
  busy->ept.inject_busy(1, BusyCause::kGuest);
  note(*busy);
  EXPECT_EQ(seen, words);
  for (const std::uint64_t word : seen) {
    EXPECT_NE(abi::tdx::name_of(word), "unknown");
  }
}

// --- Access ---

TEST(SecureEptAccess, FollowsTheStateAtEveryLevel) {
  for (const SeptLevel level : {SeptLevel::k4K, SeptLevel::k2M, SeptLevel::k1G}) {
    for (const SeptState state : kLeafStates) {
      const auto sept = place(level, state);
      for (const bool disable : {true, false}) {
        sept->ept.set_pending_ve_disable(disable);
        EXPECT_EQ(sept->ept.pending_ve_disable(), disable);
        const Access access = sept->ept.access(PhysAddr{kGpa + 0x123});
        AccessKind expected = disable ? AccessKind::kPendingExit : AccessKind::kPendingVe;
        if (usable(state)) {
          expected = AccessKind::kMapped;
        } else if (state == SeptState::kBlocked || state == SeptState::kPendingBlocked) {
          expected = AccessKind::kViolationExit;
        }
        EXPECT_EQ(access.kind, expected) << testing::PrintToString(state);
        EXPECT_EQ(access.entry.state, state);
        EXPECT_EQ(access.entry.level, level);
        EXPECT_EQ(access.entry.hpa, PhysAddr{kGpa + Sept::kHpaOffset});
      }
    }
  }
}

TEST(SecureEptAccess, OfNothingIsAViolation) {
  for (const SeptState state : {SeptState::kFree, SeptState::kRemoved}) {
    const auto sept = place(SeptLevel::k4K, state);
    EXPECT_EQ(sept->ept.access(PhysAddr{kGpa}).kind, AccessKind::kViolationExit);
  }
  for (const SeptLevel level : {SeptLevel::k2M, SeptLevel::k1G, SeptLevel::k512G}) {
    const auto sept = place(level, SeptState::kNonLeafBlocked);
    EXPECT_EQ(sept->ept.access(PhysAddr{kGpa}).kind, AccessKind::kViolationExit);
  }
  const Sept empty;
  EXPECT_EQ(empty.ept.access(PhysAddr{0}).kind, AccessKind::kViolationExit);
  EXPECT_EQ(empty.ept.access(PhysAddr{1ULL << 47}).kind, AccessKind::kNotPrivate);
  EXPECT_EQ(empty.ept.access(PhysAddr{~std::uint64_t{0}}).kind, AccessKind::kNotPrivate);
}

TEST(SecureEptAccess, GivesTheHostPageInsideLargePages) {
  Sept sept;
  sept.augment(kGpa, SeptLevel::k2M);
  EXPECT_EQ(sept.accept(kGpa, 1), 0U);
  const Access access = sept.ept.access(PhysAddr{kGpa + 0x12345});
  EXPECT_EQ(access.entry.level, SeptLevel::k2M);
  EXPECT_EQ(access.entry.hpa, PhysAddr{kGpa + Sept::kHpaOffset + 0x12000});
}

TEST(SecureEptAccess, RawEntriesHaveTheModulesLayout) {
  Sept sept;
  sept.augment(kGpa, SeptLevel::k4K);
  const std::uint64_t hpa = kGpa + Sept::kHpaOffset;
  const auto raw = [&](std::uint64_t gpa, SeptLevel level) {
    return sept.ept.raw_entry(PhysAddr{gpa}, level);
  };
  // #VE suppressed, state, write back, host page; permissions once accepted.
  EXPECT_EQ(raw(kGpa, SeptLevel::k4K), 0x81000000000000F0 | hpa);
  EXPECT_EQ(raw(kGpa + k4K, SeptLevel::k4K), 0x80E0000000000000);
  EXPECT_EQ(sept.accept(kGpa, 0), 0U);
  EXPECT_EQ(raw(kGpa, SeptLevel::k4K), 0x80000000000000F7 | hpa);
  EXPECT_EQ(raw(kGpa, SeptLevel::k2M), 0x8000000000000007);
  (void)sept.ept.range_block(PhysAddr{kGpa}, SeptLevel::k4K);
  EXPECT_EQ(raw(kGpa, SeptLevel::k4K), 0x80800000000000F0 | hpa);
  (void)sept.ept.range_block(PhysAddr{kGpa}, SeptLevel::k2M);
  EXPECT_EQ(raw(kGpa, SeptLevel::k2M), 0x8080000000000000);
  EXPECT_EQ(raw(kGpa, SeptLevel::k4K), std::nullopt);
  EXPECT_EQ(raw(kGpa, SeptLevel::k256T), std::nullopt);
}

// --- Host calls: legal and illegal source states ---

std::vector<SeptState> all_states(SeptLevel level) {
  std::vector<SeptState> states = kLeafStates;
  if (level != SeptLevel::k1G) {
    states.push_back(SeptState::kFree);
    states.push_back(SeptState::kRemoved);
  }
  if (level != SeptLevel::k4K) {
    states.push_back(SeptState::kNonLeafMapped);
    states.push_back(SeptState::kNonLeafBlocked);
  }
  return states;
}

TEST(SecureEptHost, AugTakesFreeAndRemovedOnly) {
  for (const SeptLevel level : {SeptLevel::k4K, SeptLevel::k2M}) {
    for (const SeptState state : all_states(level)) {
      const auto sept = place(level, state);
      const HostCall call = sept->ept.page_aug(PhysAddr{kGpa}, level, PhysAddr{k2M});
      const bool legal = state == SeptState::kFree || state == SeptState::kRemoved;
      EXPECT_EQ(call->status, legal ? 0 : kStateIncorrect) << testing::PrintToString(state);
      EXPECT_EQ(call->state, legal ? SeptState::kPending : state);
      EXPECT_EQ(call->level, level);
      EXPECT_TRUE(sept->ept.invariants());
    }
  }
}

TEST(SecureEptHost, AddTakesFree4KPagesBeforeFinalizeOnly) {
  Sept sept;
  sept.add_tables(kGpa, SeptLevel::k4K);
  EXPECT_EQ(sept.ept.page_add(PhysAddr{kGpa}, PhysAddr{0x3000})->status, 0U);
  EXPECT_EQ(sept.state(kGpa), SeptState::kMapped);
  EXPECT_EQ(sept.ept.page_add(PhysAddr{kGpa}, PhysAddr{0x3000})->status, kStateIncorrect);
  ASSERT_TRUE(sept.ept.force_state(PhysAddr{kGpa}, SeptLevel::k4K, SeptState::kRemoved));
  EXPECT_EQ(sept.ept.page_add(PhysAddr{kGpa}, PhysAddr{0x3000})->status, kStateIncorrect);
  EXPECT_EQ(sept.ept.page_aug(PhysAddr{kGpa + k4K}, SeptLevel::k4K, PhysAddr{0})->status >> 32,
            0xC0000608U);
  EXPECT_FALSE(sept.ept.finalized());
  EXPECT_EQ(sept.ept.finalize(), 0U);
  EXPECT_EQ(sept.ept.finalize() >> 32, 0xC0000608U);
  EXPECT_EQ(sept.ept.page_add(PhysAddr{kGpa + k4K}, PhysAddr{0x3000})->status >> 32, 0xC0000608U);
  EXPECT_EQ(sept.accept(kGpa + 2 * k4K, 0), ~std::uint64_t{0});
}

TEST(SecureEptHost, SeptAddTakesFreeOnly) {
  for (const SeptLevel level : {SeptLevel::k2M, SeptLevel::k1G}) {
    for (const SeptState state : all_states(level)) {
      const auto sept = place(level, state);
      const HostCall call = sept->ept.sept_add(PhysAddr{kGpa}, level);
      const bool legal = state == SeptState::kFree;
      EXPECT_EQ(call->status, legal ? 0 : kStateIncorrect);
      EXPECT_EQ(call->state, legal ? SeptState::kNonLeafMapped : state);
      EXPECT_TRUE(sept->ept.invariants());
    }
  }
  Sept sept;
  EXPECT_EQ(sept.ept.sept_add(PhysAddr{kGpa}, SeptLevel::k4K)->status, kInvalidRcx);
  EXPECT_EQ(sept.ept.sept_add(PhysAddr{0}, SeptLevel::k256T)->status, kInvalidRcx);
  EXPECT_EQ(sept.ept.sept_add(PhysAddr{0}, SeptLevel::k1G)->status, kWalkFailed);
}

TEST(SecureEptHost, BlockTakesMappedAndPendingKindsAndTables) {
  const std::vector<std::pair<SeptState, SeptState>> legal{
      {SeptState::kMapped, SeptState::kBlocked},
      {SeptState::kBlockedW, SeptState::kBlocked},
      {SeptState::kPending, SeptState::kPendingBlocked},
      {SeptState::kPendingBlockedW, SeptState::kPendingBlocked},
      {SeptState::kNonLeafMapped, SeptState::kNonLeafBlocked}};
  for (const SeptLevel level : {SeptLevel::k4K, SeptLevel::k2M, SeptLevel::k1G}) {
    for (const SeptState state : all_states(level)) {
      const auto sept = place(level, state);
      const HostCall call = sept->ept.range_block(PhysAddr{kGpa}, level);
      const auto found = std::find_if(legal.begin(), legal.end(),
                                      [&](const auto& pair) { return pair.first == state; });
      const bool blocked = state == SeptState::kBlocked || state == SeptState::kPendingBlocked ||
                           state == SeptState::kNonLeafBlocked;
      if (found != legal.end()) {
        EXPECT_EQ(call->status, 0U);
        EXPECT_EQ(call->state, found->second);
      } else {
        EXPECT_EQ(call->status, blocked ? 0x00000B0700000001 : kStateIncorrect);
        EXPECT_EQ(call->ok(), blocked) << "ALREADY_BLOCKED is a warning";
        EXPECT_EQ(call->state, state);
      }
      EXPECT_TRUE(sept->ept.invariants());
    }
  }
}

TEST(SecureEptHost, UnblockGoesBackOnceTracked) {
  for (const SeptLevel level : {SeptLevel::k4K, SeptLevel::k2M, SeptLevel::k1G}) {
    for (const SeptState state : all_states(level)) {
      const auto sept = place(level, state);
      const bool was_blocked = sept->ept.range_block(PhysAddr{kGpa}, level)->ok();
      const HostCall early = sept->ept.range_unblock(PhysAddr{kGpa}, level);
      EXPECT_EQ(early->status, was_blocked ? 0xC0000B0800000001 : kStateIncorrect);
      EXPECT_EQ(sept->ept.track(), 0U);
      const HostCall call = sept->ept.range_unblock(PhysAddr{kGpa}, level);
      EXPECT_EQ(call->status, was_blocked ? 0 : kStateIncorrect);
      EXPECT_EQ(call->ok() ? call->state : state, sept->ept.lookup(PhysAddr{kGpa})->level < level
                                                      ? SeptState::kNonLeafMapped
                                                      : sept->state(kGpa));
      EXPECT_TRUE(sept->ept.invariants());
    }
  }
}

TEST(SecureEptHost, RemoveNeedsBlockAndTrackWhenTheTdRuns) {
  for (const SeptLevel level : {SeptLevel::k4K, SeptLevel::k2M, SeptLevel::k1G}) {
    for (const SeptState state : {SeptState::kMapped, SeptState::kPending}) {
      const auto sept = place(level, state);
      EXPECT_EQ(sept->ept.page_remove(PhysAddr{kGpa}, level)->status, 0xC0000B0600000001);
      EXPECT_TRUE(sept->ept.range_block(PhysAddr{kGpa}, level)->ok());
      EXPECT_EQ(sept->ept.page_remove(PhysAddr{kGpa}, level)->status, 0xC0000B0800000001);
      EXPECT_EQ(sept->ept.track(), 0U);
      const HostCall call = sept->ept.page_remove(PhysAddr{kGpa}, level);
      EXPECT_EQ(call->status, 0U);
      EXPECT_EQ(call->hpa, PhysAddr{kGpa + Sept::kHpaOffset});
      EXPECT_EQ(sept->state(kGpa), SeptState::kFree);
      EXPECT_EQ(sept->ept.page_remove(PhysAddr{kGpa}, level)->status, kStateIncorrect);
      EXPECT_TRUE(sept->ept.invariants());
    }
  }
  const auto table = place(SeptLevel::k2M, SeptState::kNonLeafBlocked);
  EXPECT_EQ(table->ept.page_remove(PhysAddr{kGpa}, SeptLevel::k2M)->status, kStateIncorrect);
}

TEST(SecureEptHost, RemoveNeedsNothingBeforeFinalize) {
  Sept sept;
  sept.add_tables(kGpa, SeptLevel::k4K);
  (void)sept.ept.page_add(PhysAddr{kGpa}, PhysAddr{0x3000});
  const HostCall call = sept.ept.page_remove(PhysAddr{kGpa}, SeptLevel::k4K);
  EXPECT_EQ(call->status, 0U);
  EXPECT_EQ(call->hpa, PhysAddr{0x3000});
}

TEST(SecureEptHost, DemoteMakes512UnblockedChildrenInTheSameState) {
  for (const SeptLevel level : {SeptLevel::k2M, SeptLevel::k1G}) {
    for (const SeptState state : all_states(level)) {
      const auto sept = place(level, state);
      const bool demotable = state == SeptState::kMapped || state == SeptState::kPending ||
                             state == SeptState::kBlocked || state == SeptState::kPendingBlocked;
      const HostCall first = sept->ept.page_demote(PhysAddr{kGpa}, level);
      if (!demotable) {
        EXPECT_EQ(first->status, kStateIncorrect);
        continue;
      }
      const bool blocked = state == SeptState::kBlocked || state == SeptState::kPendingBlocked;
      EXPECT_EQ(first->status, blocked ? 0xC0000B0800000001 : 0xC0000B0600000001);
      (void)sept->ept.range_block(PhysAddr{kGpa}, level);
      (void)sept->ept.track();
      const HostCall call = sept->ept.page_demote(PhysAddr{kGpa}, level);
      EXPECT_EQ(call->status, 0U);
      EXPECT_EQ(call->state, SeptState::kNonLeafMapped);
      const bool pending = state == SeptState::kPending || state == SeptState::kPendingBlocked;
      const std::uint64_t step = level == SeptLevel::k2M ? k4K : k2M;
      for (std::uint64_t i = 0; i < 512; ++i) {
        const EntryView view = *sept->ept.lookup(PhysAddr{kGpa + i * step});
        ASSERT_EQ(view.state, pending ? SeptState::kPending : SeptState::kMapped);
        ASSERT_EQ(static_cast<int>(view.level), static_cast<int>(level) - 1);
        ASSERT_EQ(view.hpa, PhysAddr{kGpa + Sept::kHpaOffset + i * step});
      }
      EXPECT_TRUE(sept->ept.invariants());
    }
  }
  Sept sept;
  EXPECT_EQ(sept.ept.page_demote(PhysAddr{kGpa}, SeptLevel::k4K)->status, kInvalidRcx);
}

TEST(SecureEptHost, PromoteNeedsABlockedTableOfUniformContiguousAlignedLeaves) {
  for (const SeptState state : {SeptState::kMapped, SeptState::kPending}) {
    const auto sept = place(SeptLevel::k2M, state);
    SecureEpt& ept = sept->ept;
    const PhysAddr gpa{kGpa};
    EXPECT_EQ(ept.page_promote(gpa, SeptLevel::k2M)->status, kStateIncorrect);
    (void)ept.range_block(gpa, SeptLevel::k2M);
    (void)ept.track();
    (void)ept.page_demote(gpa, SeptLevel::k2M);
    EXPECT_EQ(ept.page_promote(gpa, SeptLevel::k2M)->status, 0xC0000B0600000001);
    (void)ept.range_block(gpa, SeptLevel::k2M);
    EXPECT_EQ(ept.page_promote(gpa, SeptLevel::k2M)->status, 0xC0000B0800000001);
    (void)ept.track();
    const HostCall call = ept.page_promote(gpa, SeptLevel::k2M);
    EXPECT_EQ(call->status, 0U);
    EXPECT_EQ(call->state, state);
    EXPECT_EQ(call->level, SeptLevel::k2M);
    EXPECT_EQ(call->hpa, PhysAddr{kGpa + Sept::kHpaOffset});
    EXPECT_TRUE(ept.invariants());
  }
}

TEST(SecureEptHost, PromoteRefusesWhatIsNotUniform) {
  const auto promote = [](Sept& sept) {
    (void)sept.ept.range_block(PhysAddr{kGpa}, SeptLevel::k2M);
    (void)sept.ept.track();
    return sept.ept.page_promote(PhysAddr{kGpa}, SeptLevel::k2M)->status;
  };
  Sept empty;
  empty.add_tables(kGpa, SeptLevel::k4K);
  EXPECT_EQ(promote(empty), 0xC0000B0900000001) << "children are free";
  Sept mixed;
  for (std::uint64_t i = 0; i < 512; ++i) {
    mixed.augment(kGpa + i * k4K, SeptLevel::k4K);
  }
  EXPECT_EQ(mixed.accept(kGpa + 511 * k4K, 0), 0U);
  EXPECT_EQ(promote(mixed), 0xC0000B0900000001) << "one is accepted";
  Sept misaligned;
  misaligned.add_tables(kGpa, SeptLevel::k4K);
  (void)misaligned.ept.finalize();
  for (std::uint64_t i = 0; i < 512; ++i) {
    (void)misaligned.ept.page_aug(PhysAddr{kGpa + i * k4K}, SeptLevel::k4K,
                                  PhysAddr{k4K + i * k4K});
  }
  EXPECT_EQ(promote(misaligned), 0xC0000B0900000001) << "host pages are not 2M aligned";
  EXPECT_TRUE(misaligned.ept.invariants());
}

TEST(SecureEptHost, A1GPageCanBePromotedUsedAndDemotedAgain) {
  const auto sept = place(SeptLevel::k1G, SeptState::kPending);
  SecureEpt& ept = sept->ept;
  const Bytes used = ept.storage_used();
  EXPECT_EQ(sept->accept(kGpa, 1), ~std::uint64_t{0}) << "larger pending leaf: exit";
  (void)ept.range_block(PhysAddr{kGpa}, SeptLevel::k1G);
  (void)ept.track();
  EXPECT_EQ(ept.page_demote(PhysAddr{kGpa}, SeptLevel::k1G)->status, 0U);
  EXPECT_EQ(ept.storage_used(), used) << "the table was kept";
  for (std::uint64_t i = 0; i < 512; ++i) {
    ASSERT_EQ(sept->accept(kGpa + i * k2M, 1), 0U);
  }
  (void)ept.range_block(PhysAddr{kGpa}, SeptLevel::k1G);
  (void)ept.track();
  EXPECT_EQ(ept.page_promote(PhysAddr{kGpa}, SeptLevel::k1G)->status, 0U);
  const Access access = ept.access(PhysAddr{kGpa + 77 * k2M + 0x3456});
  EXPECT_EQ(access.kind, AccessKind::kMapped);
  EXPECT_EQ(access.entry.level, SeptLevel::k1G);
  EXPECT_EQ(access.entry.hpa, PhysAddr{kGpa + Sept::kHpaOffset + 77 * k2M + 0x3000});
  EXPECT_EQ(sept->accept(kGpa + 3 * k4K, 0), 0x00000B0A00000002U);
  (void)ept.range_block(PhysAddr{kGpa}, SeptLevel::k1G);
  (void)ept.track();
  EXPECT_EQ(ept.page_remove(PhysAddr{kGpa}, SeptLevel::k1G)->hpa,
            PhysAddr{kGpa + Sept::kHpaOffset});
  EXPECT_TRUE(ept.invariants());
  // A new table for the same place.
  EXPECT_EQ(ept.sept_add(PhysAddr{kGpa}, SeptLevel::k1G)->status, 0U);
  EXPECT_EQ(ept.storage_used(), used);
  EXPECT_EQ(sept->state(kGpa + 77 * k2M), SeptState::kFree);
  EXPECT_TRUE(ept.invariants());
}

TEST(SecureEptHost, BadAddressesAndMissingTablesAreRefusedByEveryCall) {
  Sept sept;
  (void)sept.ept.finalize();
  SecureEpt& ept = sept.ept;
  const auto each = [&](PhysAddr gpa, SeptLevel level, std::uint64_t expected) {
    EXPECT_EQ(ept.page_aug(gpa, level, PhysAddr{0})->status, expected);
    EXPECT_EQ(ept.range_block(gpa, level)->status, expected);
    EXPECT_EQ(ept.range_unblock(gpa, level)->status, expected);
    EXPECT_EQ(ept.page_remove(gpa, level)->status, expected);
    if (level == SeptLevel::k2M) {
      EXPECT_EQ(ept.page_demote(gpa, level)->status, expected);
      EXPECT_EQ(ept.page_promote(gpa, level)->status, expected);
      EXPECT_EQ(ept.sept_add(gpa, level)->status, expected);
    }
  };
  each(PhysAddr{kGpa}, SeptLevel::k4K, kWalkFailed);
  each(PhysAddr{kGpa}, SeptLevel::k2M, kWalkFailed);
  each(PhysAddr{kGpa + k4K}, SeptLevel::k2M, kInvalidRcx);
  each(PhysAddr{1ULL << 47}, SeptLevel::k4K, kInvalidRcx);
  each(PhysAddr{1ULL << 47}, SeptLevel::k2M, kInvalidRcx);
  const HostCall failed = ept.range_block(PhysAddr{kGpa}, SeptLevel::k4K);
  EXPECT_EQ(failed->state, SeptState::kFree);
  EXPECT_EQ(failed->level, SeptLevel::k512G);
  for (const SeptLevel level : {SeptLevel::k1G, SeptLevel::k512G}) {
    EXPECT_EQ(ept.page_aug(PhysAddr{0}, level, PhysAddr{0})->status, kInvalidRcx);
  }
  EXPECT_EQ(ept.page_remove(PhysAddr{0}, SeptLevel::k512G)->status, kInvalidRcx);
  EXPECT_EQ(ept.range_block(PhysAddr{0}, SeptLevel::k256T)->status, kInvalidRcx);
  EXPECT_EQ(ept.range_unblock(PhysAddr{0}, SeptLevel::k256T)->status, kInvalidRcx);
  EXPECT_EQ(ept.page_promote(PhysAddr{0}, SeptLevel::k512G)->status, kInvalidRcx);
}

TEST(SecureEptHost, MisalignedHostPagesAreBlamedOnR8) {
  Sept sept;
  sept.add_tables(kGpa, SeptLevel::k4K);
  EXPECT_EQ(sept.ept.page_add(PhysAddr{kGpa}, PhysAddr{0x123})->status, 0xC000010000000008);
  (void)sept.ept.finalize();
  sept.add_tables(kGpa + k2M, SeptLevel::k2M);
  EXPECT_EQ(sept.ept.page_aug(PhysAddr{kGpa + k2M}, SeptLevel::k2M, PhysAddr{k4K})->status,
            0xC000010000000008);
  EXPECT_EQ(sept.ept.page_aug(PhysAddr{kGpa}, SeptLevel::k4K, PhysAddr{1ULL << 52})->status,
            0xC000010000000008);
}

TEST(SecureEptHost, ABlockedTableHidesItsPagesFromEveryCall) {
  Sept sept;
  sept.augment(kGpa, SeptLevel::k4K);
  (void)sept.ept.range_block(PhysAddr{kGpa}, SeptLevel::k2M);
  const HostCall call = sept.ept.range_block(PhysAddr{kGpa}, SeptLevel::k4K);
  EXPECT_EQ(call->status, kWalkFailed);
  EXPECT_EQ(call->state, SeptState::kNonLeafBlocked);
  EXPECT_EQ(call->level, SeptLevel::k2M);
}

// --- RELEASE ---

TEST(SecureEptRelease, Regression_O02_ReleaseIsAStateAndReacceptZeroesAgain) {
  for (const SeptLevel level : {SeptLevel::k4K, SeptLevel::k2M}) {
    Sept sept{{.page_release = true}};
    const auto l = static_cast<std::uint64_t>(level);
    sept.augment(kGpa, level);
    EXPECT_EQ(sept.ept.release(rcx(kGpa, l)).rax, kStateIncorrect) << "not accepted yet";
    EXPECT_EQ(sept.accept(kGpa, l), 0U);
    EXPECT_NE(sept.accept(kGpa, l), 0U) << "a second accept is refused without a release";
    const GuestCallResult released = sept.ept.release(rcx(kGpa, l));
    EXPECT_EQ(released.rax, 0U);
    EXPECT_EQ(released.rcx, kGpa | l | (1ULL << 62));
    EXPECT_EQ(sept.state(kGpa), SeptState::kPending);
    EXPECT_EQ(sept.ept.access(PhysAddr{kGpa}).kind, AccessKind::kPendingExit);
    unsigned zeroed = 0;
    EXPECT_EQ(
        sept.ept.accept(rcx(kGpa, l), [&](PhysAddr) { ++zeroed; }, [] { return false; }).rax, 0U);
    EXPECT_EQ(zeroed, level == SeptLevel::k4K ? 1U : 512U);
    EXPECT_TRUE(sept.ept.invariants());
  }
}

TEST(SecureEptRelease, RefusesEverythingElse) {
  Sept without;
  EXPECT_EQ(without.ept.release(rcx(kGpa, 0)).rax, 0xC000010000000000);
  Sept sept{{.page_release = true}};
  EXPECT_EQ(sept.ept.release(rcx(kGpa, 2)).rax, kInvalidRcx);
  EXPECT_EQ(sept.ept.release(kGpa | (1ULL << 47)).rax, kInvalidRcx);
  EXPECT_EQ(sept.ept.release(rcx(kGpa, 0)).rax, 0xC0000B0100000001) << "no table";
  sept.augment(kGpa, SeptLevel::k2M);
  EXPECT_EQ(sept.accept(kGpa, 1), 0U);
  EXPECT_EQ(sept.ept.release(rcx(kGpa, 0)).rax, 0xC0000B0B00000001) << "mapped as 2M";
  sept.augment(kGpa + k2M, SeptLevel::k4K);
  EXPECT_EQ(sept.ept.release(rcx(kGpa + k2M, 1)).rax, 0xC0000B0B00000001) << "mapped as 4K";
  EXPECT_EQ(sept.ept.release(rcx(kGpa + k2M + k4K, 0)).rax, 0xC0000B0100000001) << "free";
  bool busy_seen = false;
  (void)sept.ept.accept(
      rcx(kGpa + k2M, 0),
      [&](PhysAddr) { busy_seen = sept.ept.release(rcx(kGpa + k2M, 0)).rax == kBusyRcx; },
      [] { return false; });
  EXPECT_TRUE(busy_seen);
}

// --- TRACK ---

TEST(SecureEptTrack, IsBusyWhileAVcpuRunsInThePreviousEpoch) {
  Sept sept;
  const VcpuEpoch old = sept.ept.vcpu_entered();
  EXPECT_EQ(sept.ept.track(), 0U) << "the vCPU is in the current epoch";
  EXPECT_EQ(sept.ept.track(), 0x80000201000000A9) << "now in the previous one";
  const VcpuEpoch young = sept.ept.vcpu_entered();
  EXPECT_NE(old, young);
  EXPECT_EQ(sept.ept.track(), 0x80000201000000A9);
  sept.ept.vcpu_left(old);
  EXPECT_EQ(sept.ept.track(), 0U);
  sept.ept.vcpu_left(young);
  EXPECT_EQ(sept.ept.track(), 0U);
}

TEST(SecureEptTrack, BlockedPagesWaitForVcpusThatEnteredBefore) {
  Sept sept;
  sept.augment(kGpa, SeptLevel::k4K);
  const VcpuEpoch inside = sept.ept.vcpu_entered();
  (void)sept.ept.range_block(PhysAddr{kGpa}, SeptLevel::k4K);
  EXPECT_EQ(sept.ept.track(), 0U);
  EXPECT_EQ(sept.ept.page_remove(PhysAddr{kGpa}, SeptLevel::k4K)->status, 0xC0000B0800000001);
  const VcpuEpoch later = sept.ept.vcpu_entered();
  sept.ept.vcpu_left(inside);
  EXPECT_EQ(sept.ept.page_remove(PhysAddr{kGpa}, SeptLevel::k4K)->status, 0U);
  sept.ept.vcpu_left(later);
}

TEST(SecureEptTrack, APageLeftBlockedForManyEpochsIsTracked) {
  Sept sept;
  sept.augment(kGpa, SeptLevel::k4K);
  (void)sept.ept.range_block(PhysAddr{kGpa}, SeptLevel::k4K);
  for (unsigned epochs = 1; epochs <= 1024; ++epochs) {
    (void)sept.ept.track();
    const auto raw = sept.ept.range_block(PhysAddr{kGpa}, SeptLevel::k4K);
    ASSERT_EQ(raw->status, 0x00000B0700000001) << "a second BLOCK does not move the epoch";
  }
  // Documented: exactly 1024 tracks later the epoch reads as the current one, once.
  EXPECT_EQ(sept.ept.page_remove(PhysAddr{kGpa}, SeptLevel::k4K)->status, 0xC0000B0800000001);
  (void)sept.ept.track();
  EXPECT_EQ(sept.ept.page_remove(PhysAddr{kGpa}, SeptLevel::k4K)->status, 0U);
}

// --- Storage ---

TEST(SecureEptStorage, SixtyFourGiBUniform2MStaysInItsBound) {
  const auto memory = range(4 * k1G, 68 * k1G);
  const Bytes bound = SecureEpt::storage_bound(std::span{&memory, 1}, 48, 0);
  EXPECT_LE(bound.value() * 1000, memory.size().value()) << "0.1 %";
  EXPECT_EQ(bound, Bytes{(1 + 1 + 64) * 4096});
  Sept sept{{}, bound};
  for (std::uint64_t gpa = memory.begin().value(); gpa < memory.end().value(); gpa += k2M) {
    sept.augment(gpa, SeptLevel::k2M);
    ASSERT_EQ(sept.ept.accept_keeping_content(rcx(gpa, 1)).rax, 0U);
  }
  EXPECT_EQ(sept.ept.storage_used(), bound);
  unsigned runs = 0;
  sept.ept.visit(memory, [&](const StateRun& run) {
    ++runs;
    EXPECT_EQ(run.range, memory);
    EXPECT_EQ(run.state, SeptState::kMapped);
    EXPECT_EQ(run.level, SeptLevel::k2M);
  });
  EXPECT_EQ(runs, 1U);
  EXPECT_TRUE(sept.ept.invariants());
}

TEST(SecureEptStorage, SixtyFourGiBUniform4KStaysInItsBound) {
  // Every page is AUGed and accepted one by one; one region at a time is mixed.
  const auto memory = range(4 * k1G, 68 * k1G);
  const Bytes bound = SecureEpt::storage_bound(std::span{&memory, 1}, 48, 1);
  EXPECT_LE(bound.value() * 1000, memory.size().value()) << "0.1 %";
  Sept sept{{}, bound};
  // Every 97th region page by page, the rest by DEMOTE (the states are the same, the test shorter).
  std::uint64_t number = 0;
  for (std::uint64_t gpa = memory.begin().value(); gpa < memory.end().value(); gpa += k2M) {
    if (++number % 97 == 0) {
      for (std::uint64_t page = gpa; page < gpa + k2M; page += k4K) {
        sept.augment(page, SeptLevel::k4K);
        ASSERT_EQ(sept.accept(page, 0), 0U);
      }
    } else {
      sept.augment(gpa, SeptLevel::k2M);
      ASSERT_EQ(sept.ept.accept_keeping_content(rcx(gpa, 1)).rax, 0U);
      (void)sept.ept.range_block(PhysAddr{gpa}, SeptLevel::k2M);
      (void)sept.ept.track();
      ASSERT_EQ(sept.ept.page_demote(PhysAddr{gpa}, SeptLevel::k2M)->status, 0U);
    }
  }
  EXPECT_EQ(sept.ept.storage_used(), bound - 4_KiB) << "no region is mixed at the end";
  unsigned runs = 0;
  sept.ept.visit(memory, [&](const StateRun& run) {
    ++runs;
    EXPECT_EQ(run.range, memory);
    EXPECT_EQ(run.state, SeptState::kMapped);
    EXPECT_EQ(run.level, SeptLevel::k4K);
  });
  EXPECT_EQ(runs, 1U);
  EXPECT_TRUE(sept.ept.invariants());
}

TEST(SecureEptStorage, TablesAppearWhenChildrenDifferAndGoWhenTheyAgree) {
  Sept sept;
  sept.add_tables(kGpa, SeptLevel::k4K);
  (void)sept.ept.finalize();
  const Bytes before = sept.ept.storage_used();
  // Descending, so that collapsing does not depend on the order.
  for (std::uint64_t i = 512; i-- > 0;) {
    sept.augment(kGpa + i * k4K, SeptLevel::k4K);
    ASSERT_EQ(sept.ept.storage_used(), i == 0 ? before : before + 4_KiB) << i;
    ASSERT_TRUE(sept.ept.invariants());
  }
  for (std::uint64_t i = 0; i < 512; ++i) {
    // A stride that visits all: every second, then the others.
    const std::uint64_t page = (i * 2) % 512 + (i >= 256 ? 1 : 0);
    ASSERT_EQ(sept.accept(kGpa + page * k4K, 0), 0U);
    ASSERT_EQ(sept.ept.storage_used(), i == 511 ? before : before + 4_KiB) << i;
  }
  EXPECT_TRUE(sept.ept.invariants());
}

TEST(SecureEptStorage, ChildrenOnScatteredHostPagesKeepTheirTable) {
  Sept sept;
  sept.add_tables(kGpa, SeptLevel::k4K);
  (void)sept.ept.finalize();
  const Bytes before = sept.ept.storage_used();
  for (std::uint64_t i = 0; i < 512; ++i) {
    (void)sept.ept.page_aug(PhysAddr{kGpa + i * k4K}, SeptLevel::k4K, PhysAddr{(512 - i) * k4K});
  }
  EXPECT_EQ(sept.ept.storage_used(), before + 4_KiB);
  EXPECT_EQ(sept.ept.lookup(PhysAddr{kGpa + 5 * k4K})->hpa, PhysAddr{507 * k4K});
  EXPECT_TRUE(sept.ept.invariants());
}

TEST(SecureEptStorage, ExhaustionIsATypedErrorThatChangesNothing) {
  // Root, 1G table, 2M table: no page is left for a table of 4K entries.
  Sept sept{{}, 12_KiB};
  sept.augment(kGpa, SeptLevel::k2M);
  (void)sept.ept.range_block(PhysAddr{kGpa}, SeptLevel::k2M);
  (void)sept.ept.track();
  ASSERT_EQ(sept.ept.page_demote(PhysAddr{kGpa}, SeptLevel::k2M)->status, 0U);
  EXPECT_EQ(accept(sept.ept, rcx(kGpa, 0)).kind, GuestCallKind::kOutOfStorage);
  EXPECT_EQ(sept.ept.range_block(PhysAddr{kGpa}, SeptLevel::k4K).error(), SeptError::kOutOfStorage);
  EXPECT_EQ(sept.ept.sept_add(PhysAddr{kGpa + 8 * k1G}, SeptLevel::k1G).error(),
            SeptError::kOutOfStorage);
  EXPECT_EQ(sept.state(kGpa), SeptState::kPending);
  EXPECT_TRUE(sept.ept.invariants());
  sept.add_tables(kGpa + k2M, SeptLevel::k4K);
  EXPECT_EQ(sept.ept.page_aug(PhysAddr{kGpa + k2M}, SeptLevel::k4K, PhysAddr{0}).error(),
            SeptError::kOutOfStorage);
  EXPECT_EQ(name(SeptError::kOutOfStorage), "page-state storage exhausted");
}

TEST(SecureEptStorage, BoundCoversDisjointAndStraddlingRangesAtBothWidths) {
  for (const unsigned width : {48U, 52U}) {
    const std::vector<PhysRange> ranges{range(0, 0), range(k1G - k4K, k1G + k4K),
                                        range((512 * k1G) - k2M, (512 * k1G) + k2M)};
    const Bytes bound = SecureEpt::storage_bound(ranges, width, 4);
    Sept sept{{.gpa_width = width}, bound};
    for (const std::uint64_t page : {k1G - k4K, k1G, 512 * k1G - k4K, 512 * k1G}) {
      sept.augment(page, SeptLevel::k4K);
      EXPECT_EQ(sept.accept(page, 0), 0U);
    }
    EXPECT_LE(sept.ept.storage_used(), bound);
    EXPECT_TRUE(sept.ept.invariants());
  }
}

TEST(SecureEptVisit, ListsMaximalRunsInOrder) {
  Sept sept;
  sept.augment(kGpa, SeptLevel::k2M);
  sept.augment(kGpa + k2M, SeptLevel::k4K);
  sept.augment(kGpa + k2M + k4K, SeptLevel::k4K);
  EXPECT_EQ(sept.accept(kGpa, 1), 0U);
  std::vector<StateRun> runs;
  sept.ept.visit(range(0, 1ULL << 47), [&](const StateRun& run) { runs.push_back(run); });
  ASSERT_FALSE(runs.empty());
  PhysAddr at{0};
  for (const StateRun& run : runs) {
    EXPECT_EQ(run.range.begin(), at);
    at = run.range.end();
  }
  EXPECT_EQ(at, PhysAddr{1ULL << 47});
  const auto is = [](const StateRun& run, PhysRange r, SeptState state, SeptLevel level) {
    return run.range == r && run.state == state && run.level == level;
  };
  EXPECT_TRUE(std::any_of(runs.begin(), runs.end(), [&](const StateRun& run) {
    return is(run, range(kGpa, kGpa + k2M), SeptState::kMapped, SeptLevel::k2M);
  }));
  EXPECT_TRUE(std::any_of(runs.begin(), runs.end(), [&](const StateRun& run) {
    return is(run, range(kGpa + k2M, kGpa + k2M + 2 * k4K), SeptState::kPending, SeptLevel::k4K);
  }));
}

TEST(SecureEptNames, AreTextForEveryValue) {
  for (int i = 0; i < 4; ++i) {
    EXPECT_NE(name(static_cast<GuestCallKind>(i)), "unknown");
  }
  for (int i = 0; i < 5; ++i) {
    EXPECT_NE(name(static_cast<AccessKind>(i)), "unknown");
  }
  EXPECT_EQ(name(static_cast<AccessKind>(99)), "unknown");
  EXPECT_EQ(name(static_cast<GuestCallKind>(99)), "unknown");
  EXPECT_EQ(name(static_cast<SeptError>(99)), "unknown");
}

}  // namespace
}  // namespace accede::host
