// Why the testbed's guest had to stop, and how a test hears of it.
#pragma once

#include "accede/base/function_ref.hpp"
#include "accede/base/units.hpp"

#include <cstdint>
#include <optional>
#include <string_view>

namespace accede::testbed {

enum class StopCause : std::uint8_t {
  kTouch,         ///< a touch of memory that is not accepted
  kSharedPage,    ///< an accept of a shared page
  kNotRam,        ///< an accept of what is no RAM
  kRefused,       ///< the RMP forbids it
  kBadGhcb,       ///< a GHCB that is not shared RAM
  kOutOfStorage,  ///< the models cannot describe the result; the guest is not to blame
};
[[nodiscard]] std::string_view name(StopCause cause);

/// What a host would write into its log as it ends the VM.
struct StopReport {
  StopCause cause = StopCause::kTouch;
  const void* address = nullptr;  ///< kTouch: the pointer that was used
  PhysAddr gpa;                   ///< its guest address; else the operand's
  std::string_view state;         ///< of the page, in the vendor's words: "PENDING", ...
  bool is_write = false;          ///< kTouch
  std::uint64_t rip = 0;          ///< the instruction
};

/// Runs `body` as guest code that may be stopped. Nothing: it ran to its end. A stop on this thread
/// leaves `body` at the instruction at fault, without running destructors: at that place it must
/// hold nothing that has one, and no lock. May not be nested.
[[nodiscard]] std::optional<StopReport> catch_stop(FunctionRef<void()> body);

/// Hands `report` to the thread's catch_stop(); without one prints a line and aborts. For the
/// testbed's signal handlers.
[[noreturn]] void stop_guest(const StopReport& report);

}  // namespace accede::testbed
