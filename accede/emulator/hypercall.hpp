// What the launcher asks of the emulator: VMMCALL with a magic number. It exists until
// ExitBootServices; afterwards VMMCALL raises #UD as on a machine without a hypervisor. The
// emulator writes the lines on the report port itself, so that a guest program cannot forge others.
#pragma once

#include "accede/emulator/report_layout.hpp"

namespace accede::emulator {

inline constexpr std::uint64_t kHypercallMagic = 0x00'65646563'6361ULL;

enum class Hypercall : std::uint64_t {
  kPhase = 0,            ///< RDX = Phase: who runs from now on
  kKernelReturned = 1,   ///< RDX = status of the EFI program
  kFirmwareAccepts = 2,  ///< RDX = 1: until the same with 0, the firmware accepts
};

namespace detail {
inline void hypercall(Hypercall function, std::uint64_t argument) {
  asm volatile("vmmcall"
               :
               : "a"(kHypercallMagic), "c"(static_cast<std::uint64_t>(function)), "d"(argument)
               : "memory");
}
}  // namespace detail

/// Tells the emulator who runs from now on: accepted bytes are counted for the right one, and the
/// report line of the phase is written. Phases only go forward.
/// Precondition: runs under the emulator, before ExitBootServices has returned.
inline void announce_phase(Phase phase) {
  detail::hypercall(Hypercall::kPhase, static_cast<std::uint64_t>(phase));
}

/// From `begins` until the same call with false, accepted bytes are the firmware's, whatever the
/// phase: it accepts for a loader that runs. Precondition: as announce_phase().
inline void announce_firmware_accepts(bool begins) {
  detail::hypercall(Hypercall::kFirmwareAccepts, begins ? 1 : 0);
}

/// Reports that the EFI program came back. Precondition: as announce_phase().
inline void announce_return(std::uint64_t status) {
  detail::hypercall(Hypercall::kKernelReturned, status);
}

}  // namespace accede::emulator
