// The exit loop: what the guest's processor could not do alone.
#pragma once

#include "accede/emulator/fault.hpp"
#include "accede/emulator/guest_memory.hpp"
#include "accede/emulator/guest_pages.hpp"
#include "accede/emulator/host_context.hpp"
#include "accede/emulator/tdx_module.hpp"
#include "accede/emulator/vcpu.hpp"

namespace accede::emulator {

/// Runs vCPUs until the guest breaks a rule that hardware would not let pass. Shared by all vCPUs,
/// holds no vCPU's state. Thread-safe as far as its parts are.
class Monitor {
 public:
  Monitor(TdxModule& module, GuestPages& pages, GuestMemory& memory, Reporter& reporter)
      : module_{module}, pages_{pages}, memory_{memory}, reporter_{reporter} {}

  /// Runs `vcpu` on this CPU for good. Precondition: the emulator's HostContext is current and GIF
  /// is clear.
  [[noreturn]] void run(Vcpu& vcpu);

  /// Says why the guest cannot go on, on the report port and the first serial port, and stops this
  /// CPU. The machine stands still, so that the host can read its memory.
  [[noreturn]] void stop(const Vcpu& vcpu, const Fault& fault);

  /// One exit of the guest. Public for tests.
  [[nodiscard]] Verdict handle_exit(Vcpu& vcpu);

 private:
  void enter(Vcpu& vcpu);
  void wait_for_interrupt(Vcpu& vcpu);
  void handle_cpuid(Vcpu& vcpu);
  void handle_msr(Vcpu& vcpu);
  void handle_io(Vcpu& vcpu);
  void handle_vmmcall(Vcpu& vcpu);
  void begin_phase(const Vcpu& vcpu, Phase phase);
  [[nodiscard]] Verdict handle_invalid_opcode(Vcpu& vcpu);

  TdxModule& module_;
  GuestPages& pages_;
  GuestMemory& memory_;
  Reporter& reporter_;
};

}  // namespace accede::emulator
