// The VMM's face towards a TD: TDG.VP.VMCALL, as the GHCI describes it and KVM answers it.
#pragma once

#include "accede/emulator/device_access.hpp"
#include "accede/emulator/fault.hpp"
#include "accede/emulator/td_pages.hpp"
#include "accede/emulator/vcpu.hpp"

#include <array>

namespace accede::emulator {

/// Answers VMCALL sub-functions. The guest's registers arrive already masked: what it did not
/// expose reads as zero, and what it did not expose is not written back. Thread-safe.
class VmcallHandler {
 public:
  VmcallHandler(const MachineMap& machine, TdPages& pages, Reporter& reporter)
      : devices_{machine}, pages_{pages}, reporter_{reporter} {}

  using Registers = std::array<std::uint64_t, 16>;  ///< by Register

  /// Answers the call in `registers` (R10 = 0: standard sub-function in R11) in place.
  [[nodiscard]] Verdict answer(Vcpu& vcpu, Registers& registers);

 private:
  [[nodiscard]] Verdict standard(Vcpu& vcpu, Registers& registers);
  [[nodiscard]] Verdict map_gpa(Vcpu& vcpu, Registers& registers);
  [[nodiscard]] Verdict fatal_error(const Registers& registers);
  static void port_io(Registers& registers);
  void mmio(Registers& registers) const;
  void count(std::uint64_t function, Vcpu& vcpu);
  void count_unknown(std::uint64_t function, const Vcpu& vcpu);

  DeviceAccess devices_;
  TdPages& pages_;
  Reporter& reporter_;
  std::array<char, 65> last_words_{};  ///< text of ReportFatalError: the TD ends with it
};

}  // namespace accede::emulator
