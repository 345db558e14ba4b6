#include "accede/firmware/negotiation.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace accede::firmware {
namespace {

using State = Negotiation::State;

constexpr std::uint64_t kKey = 0x1234;

Negotiation undecided() {
  return Negotiation{FirmwareKind::kHandshake};
}

Negotiation allowed() {
  Negotiation it = undecided();
  it.allow_unaccepted();
  return it;
}

Negotiation accepted_at_exit() {
  Negotiation it = undecided();
  EXPECT_EQ(it.exit_called(), ExitStep::kAcceptEverything);
  it.accepted_at_exit();
  return it;
}

TEST(Negotiation, FirmwareThatNeverAcceptsHasNothingToNegotiate) {
  Negotiation it{FirmwareKind::kNever};
  EXPECT_EQ(it.state(), State::kLeft);
  EXPECT_FALSE(it.has_handshake());
  EXPECT_FALSE(it.accepts_at_start());
  EXPECT_TRUE(it.shows_unaccepted());
  EXPECT_EQ(it.exit_called(), ExitStep::kGoOn);
  it.allow_unaccepted();
  EXPECT_EQ(it.state(), State::kLeft);
}

TEST(Negotiation, FirmwareThatAcceptsAllLeavesNothingUnaccepted) {
  Negotiation it{FirmwareKind::kAcceptAll};
  EXPECT_EQ(it.state(), State::kAcceptedAtStart);
  EXPECT_FALSE(it.has_handshake());
  EXPECT_TRUE(it.accepts_at_start());
  EXPECT_FALSE(it.shows_unaccepted());
  EXPECT_EQ(it.exit_called(), ExitStep::kGoOn) << "the first call must not fail";
  it.allow_unaccepted();
  EXPECT_EQ(it.state(), State::kAcceptedAtStart);
}

TEST(Negotiation, FirmwareWithTheHandshakeWaitsForAPromise) {
  const Negotiation it = undecided();
  EXPECT_EQ(it.state(), State::kUndecided);
  EXPECT_TRUE(it.has_handshake());
  EXPECT_FALSE(it.accepts_at_start());
  EXPECT_TRUE(it.shows_unaccepted());
}

TEST(Negotiation, APromiseLeavesTheMemoryToTheKernel) {
  const Negotiation it = allowed();
  EXPECT_EQ(it.state(), State::kAllowed);
  EXPECT_TRUE(it.shows_unaccepted());
  EXPECT_EQ(it.exit_called(), ExitStep::kGoOn);
}

TEST(Negotiation, APromiseIsNotTakenBackByASecondOne) {
  Negotiation it = allowed();
  it.allow_unaccepted();
  EXPECT_EQ(it.state(), State::kAllowed);
}

TEST(Negotiation, WithoutAPromiseTheFirstExitAcceptsEverything) {
  Negotiation it = undecided();
  EXPECT_EQ(it.exit_called(), ExitStep::kAcceptEverything);
  EXPECT_TRUE(it.shows_unaccepted()) << "not before it is accepted";
  it.accepted_at_exit();
  EXPECT_EQ(it.state(), State::kAcceptedAtExit);
  EXPECT_FALSE(it.shows_unaccepted());
}

TEST(Negotiation, TheRetryAndEveryLaterExitGoOn) {
  const Negotiation it = accepted_at_exit();
  EXPECT_EQ(it.exit_called(), ExitStep::kGoOn);
  EXPECT_EQ(it.exit_called(), ExitStep::kGoOn);
}

TEST(Negotiation, APromiseAfterTheFirstExitComesTooLate) {
  Negotiation it = accepted_at_exit();
  it.allow_unaccepted();
  EXPECT_EQ(it.state(), State::kAcceptedAtExit);
  EXPECT_FALSE(it.shows_unaccepted());
}

TEST(Negotiation, KeysFromBeforeTheAcceptanceAreStale) {
  const std::uint64_t before = undecided().translate_key(kKey);
  const Negotiation it = accepted_at_exit();
  EXPECT_NE(it.translate_key(before), kKey) << "the old key must not open the new map";
  EXPECT_EQ(it.translate_key(it.translate_key(kKey)), kKey) << "a fresh one must";
}

TEST(Negotiation, KeysAreTheFirmwaresOwnWhileNothingIsAcceptedAtExit) {
  for (const Negotiation& it : {undecided(), allowed(), Negotiation{FirmwareKind::kNever},
                                Negotiation{FirmwareKind::kAcceptAll}}) {
    EXPECT_EQ(it.translate_key(kKey), kKey);
  }
}

TEST(Negotiation, AHostThatForcesAcceptanceGetsItFromEveryKind) {
  for (const FirmwareKind kind :
       {FirmwareKind::kNever, FirmwareKind::kAcceptAll, FirmwareKind::kHandshake}) {
    Negotiation it{kind, HostWish::kForceAcceptAll};
    EXPECT_TRUE(it.accepts_at_start());
    EXPECT_FALSE(it.shows_unaccepted());
    EXPECT_EQ(it.exit_called(), ExitStep::kGoOn);
    it.allow_unaccepted();
    EXPECT_TRUE(it.accepts_at_start()) << "a promise changes nothing";
    EXPECT_EQ(it.has_handshake(), kind == FirmwareKind::kHandshake)
        << "a loader finds what it found without the flag";
  }
}

TEST(Negotiation, TheHostsFlagNeverMakesFirmwareAcceptLess) {
  for (const FirmwareKind kind :
       {FirmwareKind::kNever, FirmwareKind::kAcceptAll, FirmwareKind::kHandshake}) {
    const Negotiation plain{kind};
    const Negotiation forced{kind, HostWish::kForceAcceptAll};
    EXPECT_LE(plain.accepts_at_start(), forced.accepts_at_start());
    EXPECT_GE(plain.shows_unaccepted(), forced.shows_unaccepted());
  }
}

TEST(Negotiation, FirmwareWhosePlanIsEverythingLeavesNothingWhateverItsKind) {
  for (const FirmwareKind kind :
       {FirmwareKind::kNever, FirmwareKind::kAcceptAll, FirmwareKind::kHandshake}) {
    const Negotiation it{kind, HostWish::kNone, AcceptanceScope::kEverything};
    EXPECT_EQ(it.state(), State::kAcceptedAtStart);
    EXPECT_EQ(it.has_handshake(), kind == FirmwareKind::kHandshake);
    EXPECT_EQ(it.exit_called(), ExitStep::kGoOn);
  }
}

TEST(Negotiation, APlanThatLeavesMemoryChangesNothing) {
  for (const FirmwareKind kind : {FirmwareKind::kNever, FirmwareKind::kHandshake}) {
    for (const AcceptanceScope scope : {AcceptanceScope::kBelow4G, AcceptanceScope::kAtLeast}) {
      EXPECT_EQ((Negotiation{kind, HostWish::kNone, scope}.state()), Negotiation{kind}.state());
    }
    const Negotiation forced{kind, HostWish::kForceAcceptAll, AcceptanceScope::kAtLeast};
    EXPECT_TRUE(forced.accepts_at_start()) << "the host asks for more than the plan";
  }
}

TEST(NegotiationDeathTest, NobodyAcceptsAtExitWhoWasNotAskedTo) {
  EXPECT_DEATH(allowed().accepted_at_exit(), "");
  EXPECT_DEATH(accepted_at_exit().accepted_at_exit(), "");
  EXPECT_DEATH(Negotiation{FirmwareKind::kNever}.accepted_at_exit(), "");
}

}  // namespace
}  // namespace accede::firmware
