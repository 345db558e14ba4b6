// A broken rule that ends the guest.
#pragma once

#include "accede/emulator/report_layout.hpp"

#include <cstdint>
#include <expected>
#include <string_view>

namespace accede::emulator {

/// What the report says beside the vCPU's own state.
struct Fault {
  EventKind kind;
  std::uint64_t gpa = 0;     ///< kPolarityMismatch: with the view bit as the guest used it
  std::string_view state;    ///< state of the page on both sides, in words
  std::string_view message;  ///< what happened and what to look at
  std::uint32_t detail = 0;  ///< as Violation::detail
};

/// Nothing to report, or the reason to stop the guest.
using Verdict = std::expected<void, Fault>;

}  // namespace accede::emulator
