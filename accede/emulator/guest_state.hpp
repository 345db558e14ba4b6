// Filling VMCBs: the guest that continues the firmware, and the idle guest.
#pragma once

#include "accede/emulator/takeover.hpp"
#include "accede/emulator/vcpu.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace accede::emulator {

/// The permission maps that SVM consults for I/O and MSR intercepts.
struct alignas(4096) PermissionMaps {
  std::array<std::uint8_t, 3 * 4096> io;
  std::array<std::uint8_t, 2 * 4096> msr;

  /// Clears all intercepts, then intercepts `port`, the MSRs that would show SVM, and `msrs`
  /// (C0000000 to C0001FFF, C0010000 to C0011FFF).
  void build(std::uint16_t port, std::span<const std::uint32_t> msrs);
};

/// Fills the control area: what the guest may not do by itself.
void set_intercepts(VmcbControl& control, const PermissionMaps& maps, std::uint64_t nested_root);

/// Makes `vcpu` continue where emulator_entry was called, with the registers of `frame` and the
/// processor state of this CPU, as if the call had returned 0. Precondition: interrupts are off.
void capture_caller(Vcpu& vcpu, const LaunchFrame& frame);

/// Makes `idle` a guest that executes HLT in the emulator's address space until an interrupt is
/// pending. Precondition: the emulator's descriptor tables and address space are current.
void build_idle_guest(Vmcb& idle, const PermissionMaps& maps);

}  // namespace accede::emulator
