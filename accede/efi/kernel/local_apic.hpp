// The local APIC's registers, however the machine lets the kernel reach them.
#pragma once

#include "accede/efi/kernel/host_link.hpp"

#include <cstdint>
#include <optional>

namespace accede::efi::kernel {

/// Offsets of xAPIC registers; x2APIC's MSR is 0x800 + offset / 16.
enum class ApicRegister : std::uint16_t {
  kEndOfInterrupt = 0x0B0,
  kSpurious = 0x0F0,
  kLvtTimer = 0x320,
  kLvtThermal = 0x330,
  kLvtPerformance = 0x340,
  kLvtLint0 = 0x350,
  kLvtLint1 = 0x360,
  kLvtError = 0x370,
  kTimerInitial = 0x380,
  kTimerCurrent = 0x390,
  kTimerDivide = 0x3E0,
};

/// Reads and writes the APIC: MSRs in x2APIC mode, memory in xAPIC mode. What the host
/// emulates is asked of it: in a TD by TDVMCALL (memory always, most MSRs), in an SNP guest through
/// the GHCB (everything). A value type; stateless.
class LocalApic {
 public:
  /// By IA32_APIC_BASE; nothing when the APIC is off or the host does not tell.
  [[nodiscard]] static std::optional<LocalApic> find(HostLink host);

  /// False when the host refuses.
  bool write(ApicRegister reg, std::uint32_t value) const;
  /// Nothing when the host refuses.
  [[nodiscard]] std::optional<std::uint32_t> read(ApicRegister reg) const;
  void end_of_interrupt() const { write(ApicRegister::kEndOfInterrupt, 0); }

 private:
  LocalApic(std::uint64_t base, bool x2apic, HostLink host)
      : base_{base}, x2apic_{x2apic}, host_{host} {}
  [[nodiscard]] HostLink asked_for(ApicRegister reg) const;

  std::uint64_t base_;  ///< xAPIC, in a TD with the shared bit
  bool x2apic_;
  HostLink host_;
};

}  // namespace accede::efi::kernel
