// Who accepts the memory that firmware left unaccepted: firmware and kernel agree on it at
// ExitBootServices.
#pragma once

#include "accede/firmware/acceptance_plan.hpp"

#include <cstdint>

namespace accede::firmware {

/// What firmware does about memory that is not accepted when the loader starts.
enum class FirmwareKind : std::uint8_t {
  kNever,      ///< leaves it to the kernel; one that cannot accept loses it
  kAcceptAll,  ///< leaves none
  kHandshake,  ///< leaves it, and accepts it on the way out when nobody promised to
};

/// Whether the host insists that the firmware accepts everything, whatever its kind. There is no
/// flag for the opposite: a host that could make firmware accept less could take memory away from a
/// kernel that cannot accept.
enum class HostWish : std::uint8_t { kNone, kForceAcceptAll };

/// What ExitBootServices has to do before anything else.
enum class ExitStep : std::uint8_t {
  kGoOn,             ///< nothing: look at the key
  kAcceptEverything  ///< accept, tell accepted_at_exit(), fail with a stale key
};

/// The firmware's side of the handshake (OVMF's AmdSevDxe).
///
/// | state     | AllowUnacceptedMemory | ExitBootServices                  | pending is shown as |
/// |-----------|-----------------------|-----------------------------------|---------------------|
/// | undecided | -> allowed            | accept all, fail once; -> at exit | unaccepted          |
/// | allowed   | stays                 | goes on                           | unaccepted          |
/// | at exit   | stays                 | goes on; older keys are stale     | usable              |
/// | at start  | stays                 | goes on                           | usable              |
/// | left      | stays                 | goes on                           | unaccepted          |
///
/// A promise cannot be taken back, and one after the first ExitBootServices comes too late. It does
/// not matter who calls: a loader that leaves boot services itself and says nothing for its kernel
/// gets everything accepted, too.
/// Thread-compatible: firmware runs on one processor.
class Negotiation {
 public:
  enum class State : std::uint8_t {
    kUndecided,
    kAllowed,
    kAcceptedAtExit,
    kAcceptedAtStart,
    kLeft,
  };

  /// `scope`: what the firmware accepts before a loader starts, if neither its kind nor the host
  /// says everything.
  explicit Negotiation(FirmwareKind kind, HostWish wish = HostWish::kNone,
                       AcceptanceScope scope = AcceptanceScope::kBelow4G);

  [[nodiscard]] State state() const { return state_; }
  /// Everything has to be accepted before a loader is started.
  [[nodiscard]] bool accepts_at_start() const { return state_ == State::kAcceptedAtStart; }
  /// The protocol exists. Calls of it are answered with success in every state.
  [[nodiscard]] bool has_handshake() const { return kind_ == FirmwareKind::kHandshake; }
  /// How the memory map shows what was pending.
  [[nodiscard]] bool shows_unaccepted() const {
    return state_ != State::kAcceptedAtExit && state_ != State::kAcceptedAtStart;
  }

  /// AllowUnacceptedMemory was called.
  void allow_unaccepted();
  /// ExitBootServices was called, with whatever key.
  [[nodiscard]] ExitStep exit_called() const;
  /// Everything is accepted. Precondition: exit_called() said kAcceptEverything.
  void accepted_at_exit();

  /// The key of a memory map as the loader sees it, from the key of the map below, and back: what
  /// was accepted at exit changes the map, so a key from before must not fit afterwards.
  [[nodiscard]] std::uint64_t translate_key(std::uint64_t key) const {
    return state_ == State::kAcceptedAtExit ? key ^ kChangedMap : key;
  }

 private:
  /// A bit that no count of allocations reaches.
  static constexpr std::uint64_t kChangedMap = 1ULL << 63;

  FirmwareKind kind_;
  State state_;
};

}  // namespace accede::firmware
