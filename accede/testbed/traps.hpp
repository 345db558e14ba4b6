// The signals by which this process plays a CPU: instructions that it lacks, memory out of reach.
#pragma once

#include "accede/testbed/cpu_state.hpp"

#include <csignal>

#include <cstdint>

namespace accede::testbed {

/// What stopped a thread.
struct Trap {
  int signal = 0;                 ///< SIGILL, SIGSEGV or SIGBUS
  bool is_instruction = false;    ///< it was the instruction; else it was memory:
  const void* address = nullptr;  ///< what was touched
};

/// Somebody who answers traps. There may be one of each kind.
class TrapClient {
 public:
  /// Answers `trap` and changes `cpu` accordingly, or leaves both alone and says false. Called on
  /// the thread that trapped, in a signal handler with every signal blocked; any number of threads
  /// at once. May leave by stop_guest().
  [[nodiscard]] virtual bool on_trap(const Trap& trap, CpuState& cpu) = 0;

 protected:
  ~TrapClient() = default;
};

enum class TrapSlot : std::uint8_t { kTdx, kSnp };

/// The client of a slot while the object lives. The first one installs the handlers and the last
/// one puts back what was there before, unless somebody else has replaced them since. What no
/// client answers goes on to the handler from before (a sanitizer's, for example).
///
/// Thread-safe. Precondition of the destructor: no thread is in guest code or will be.
class TrapAttachment {
 public:
  /// valid() is false when the slot is taken.
  TrapAttachment(TrapSlot slot, TrapClient& client);
  ~TrapAttachment();
  TrapAttachment(const TrapAttachment&) = delete;
  TrapAttachment& operator=(const TrapAttachment&) = delete;

  [[nodiscard]] bool valid() const { return valid_; }

 private:
  TrapSlot slot_;
  bool valid_;
};

}  // namespace accede::testbed
