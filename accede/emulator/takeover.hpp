// The emulator's entry as the launcher sees it.
#pragma once

#include "accede/emulator/machine.hpp"

#include <cstdint>
#include <string_view>

namespace accede::emulator {

/// What emulator_entry (world_switch.S) pushed: the caller's registers.
struct LaunchFrame {
  std::uint64_t rflags, r15, r14, r13, r12, rbx, rbp, return_address;
};
static_assert(sizeof(LaunchFrame) == 64);

/// The emulator image's entry. Called in 64-bit mode at CPL 0, interrupts disabled, memory identity
/// mapped, with `info` describing the machine. The call returns 0 to a caller that is a guest from
/// then on; a negative number means that nothing has changed.
using EntryFn = std::int64_t (*)(const LaunchInfo* info);

enum class EntryError : std::int64_t {
  kNone = 0,
  kNoSvm = -1,
  kBadLaunchInfo = -2,
  kNoMemory = -3,
  kMemoryTooHigh = -4,
  kFiveLevels = -5,
};

[[nodiscard]] constexpr std::string_view describe_entry_error(std::int64_t error) {
  using namespace std::string_view_literals;
  switch (static_cast<EntryError>(error)) {
    case EntryError::kNone:
      return "no error"sv;
    case EntryError::kNoSvm:
      return "this processor has no AMD SVM with nested paging: use a TCG machine with -cpu max"sv;
    case EntryError::kBadLaunchInfo:
      return "the emulator does not understand the launcher's description of the machine"sv;
    case EntryError::kNoMemory:
      return "the memory reserved for the emulator is too small"sv;
    case EntryError::kMemoryTooHigh:
      return "the machine has RAM above 512 GiB: beyond what the emulator maps"sv;
    case EntryError::kFiveLevels:
      return "the firmware runs with five-level paging, in which the emulator sets no C-bit"sv;
  }
  return "the emulator failed to start for an unknown reason"sv;
}

}  // namespace accede::emulator
