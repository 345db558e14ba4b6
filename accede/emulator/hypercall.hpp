// The one call that the launcher makes to the emulator: VMMCALL with a magic number. It exists
// until ExitBootServices; afterwards VMMCALL raises #UD as on a machine without a hypervisor.
#pragma once

#include "accede/emulator/report_layout.hpp"

namespace accede::emulator {

inline constexpr std::uint64_t kHypercallMagic = 0x00'65646563'6361ULL;

/// Tells the emulator who runs from now on, so that accepted bytes are counted for the right one.
/// Precondition: runs under the emulator, before ExitBootServices has returned.
inline void announce_phase(Phase phase) {
  asm volatile("vmmcall"
               :
               : "a"(kHypercallMagic), "c"(static_cast<std::uint64_t>(phase))
               : "memory");
}

}  // namespace accede::emulator
