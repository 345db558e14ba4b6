#include "accede/firmware/negotiation.hpp"

#include "accede/base/assert.hpp"

namespace accede::firmware {
namespace {

using State = Negotiation::State;

State first_state(FirmwareKind kind, HostWish wish, AcceptanceScope scope) {
  if (wish == HostWish::kForceAcceptAll || scope == AcceptanceScope::kEverything) {
    return State::kAcceptedAtStart;
  }
  switch (kind) {
    case FirmwareKind::kNever:
      return State::kLeft;
    case FirmwareKind::kAcceptAll:
      return State::kAcceptedAtStart;
    case FirmwareKind::kHandshake:
      return State::kUndecided;
  }
  return State::kAcceptedAtStart;
}

}  // namespace

Negotiation::Negotiation(FirmwareKind kind, HostWish wish, AcceptanceScope scope)
    : kind_{kind}, state_{first_state(kind, wish, scope)} {}

void Negotiation::allow_unaccepted() {
  if (state_ == State::kUndecided) {
    state_ = State::kAllowed;
  }
}

ExitStep Negotiation::exit_called() const {
  return state_ == State::kUndecided ? ExitStep::kAcceptEverything : ExitStep::kGoOn;
}

void Negotiation::accepted_at_exit() {
  ACCEDE_ASSERT(state_ == State::kUndecided);
  state_ = State::kAcceptedAtExit;
}

}  // namespace accede::firmware
