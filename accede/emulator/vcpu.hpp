// The state of one virtual CPU, and putting events into it.
#pragma once

#include "accede/emulator/vmcb.hpp"

#include <array>
#include <cstdint>

namespace accede::emulator {

/// Register numbers as instructions and TDX register masks count them.
enum Register : std::uint8_t {
  kRax,
  kRcx,
  kRdx,
  kRbx,
  kRsp,
  kRbp,
  kRsi,
  kRdi,
  kR8,
  kR9,
  kR10,
  kR11,
  kR12,
  kR13,
  kR14,
  kR15
};

/// What TDG.VP.VEINFO.GET tells about the last #VE.
struct VeInfo {
  std::uint32_t exit_reason;
  std::uint32_t instruction_length;
  std::uint64_t qualification;
  std::uint64_t linear_address;
  std::uint64_t gpa;
};

/// One virtual CPU. Owned and touched by the physical CPU that runs it, and by no other.
struct Vcpu {
  std::uint64_t stack_top;            ///< first: world_switch.S loads it
  std::array<std::uint64_t, 16> gpr;  ///< by Register; valid between exits
  Vmcb* vmcb;
  std::uint64_t vmcb_pa;
  std::uint64_t idle_vmcb_pa;
  std::uint16_t index;

  bool ve_pending;  ///< `ve` was not read yet: a second #VE becomes a double fault
  VeInfo ve;
  std::uint8_t cpuid_ve;  ///< VP.CPUIDVE.SET: bit 0 supervisor, bit 1 user
  bool wants_idle;        ///< wait for an interrupt before the guest goes on
  bool halted_masked;     ///< ... with interrupts masked: none can ever come

  std::uint64_t seen_flush;  ///< nested-table generation that this CPU's TLB knows

  // Longest step: accepts that follow each other with no other exit between.
  std::uint64_t step_end;
  std::uint64_t step_bytes;

  [[nodiscard]] VmcbSave& save() const { return vmcb->save; }

  /// True in 64-bit mode (not compatibility mode).
  [[nodiscard]] bool in_64bit_mode() const {
    return (save().efer & kEferLma) != 0 && (save().cs.attributes & 0x200) != 0;
  }

  /// Steps over the instruction that was emulated.
  void advance(std::uint64_t bytes) {
    save().rip += bytes;
    vmcb->control.interrupt_shadow = 0;
  }

  /// Whether the exit came while the guest was being given #DF, or an exception that makes #DF of a
  /// second one (page faults and what is like them). Valid until something else is injected.
  [[nodiscard]] bool delivers_double_fault() const { return delivers(1U << kDoubleFault); }
  [[nodiscard]] bool delivers_contributory() const {
    constexpr std::uint32_t kVectors = 1U << 0 | 1U << 10 | 1U << 11 | 1U << 12 |
                                       1U << kGeneralProtection | 1U << kPageFault |
                                       1U << kVirtualizationException | 1U << kVmmCommunication;
    return delivers(kVectors);
  }

  /// Raises exception `vector` in the guest at its current RIP.
  void inject(std::uint8_t vector) {
    vmcb->control.event_injection = svm::kEventValid | svm::kEventTypeException | vector;
  }
  void inject_with_error(std::uint8_t vector, std::uint32_t error) {
    vmcb->control.event_injection = svm::kEventValid | svm::kEventTypeException |
                                    svm::kEventHasError | vector | (std::uint64_t{error} << 32);
  }

  /// Raises #VE with `info`; #DF when the guest has not read the last one (TDX module rule).
  void inject_ve(const VeInfo& info) {
    if (ve_pending) {
      inject_with_error(kDoubleFault, 0);
      return;
    }
    ve = info;
    ve_pending = true;
    inject(kVirtualizationException);
  }

  /// Raises #PF for the linear address.
  void inject_page_fault(std::uint64_t linear, std::uint32_t error) {
    save().cr2 = linear;
    inject_with_error(kPageFault, error);
  }

  static constexpr std::uint8_t kInvalidOpcode = 6;
  static constexpr std::uint8_t kDoubleFault = 8;
  static constexpr std::uint8_t kGeneralProtection = 13;
  static constexpr std::uint8_t kPageFault = 14;
  static constexpr std::uint8_t kVirtualizationException = 20;
  static constexpr std::uint8_t kVmmCommunication = 29;

 private:
  [[nodiscard]] bool delivers(std::uint32_t vectors) const {
    const std::uint64_t event = vmcb->control.event_injection;
    constexpr std::uint64_t kException = svm::kEventValid | svm::kEventTypeException;
    return (event & (svm::kEventValid | svm::kEventType)) == kException && (event & 0xFF) < 32 &&
           (vectors >> (event & 0xFF) & 1) != 0;
  }
};

}  // namespace accede::emulator
