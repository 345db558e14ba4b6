#include "accede/efi/kernel/idle.hpp"

#include "accede/efi/kernel/vmcall.hpp"

namespace accede::efi::kernel {

void wait_for_interrupt(guest::PlatformKind kind) {
  if (kind != guest::PlatformKind::kTdx) {
    // Nothing gets in between: interrupts are recognised only after the instruction behind STI.
    asm volatile("sti; hlt; cli" : : : "memory");
    return;
  }
  // The host is told that interrupts are not masked, so that it returns for one that arrived after
  // the caller looked; it is taken between STI and CLI.
  constexpr std::uint64_t kInterruptsNotMasked = 0;
  static_cast<void>(vmcall(abi::tdx::Vmcall::kHlt, {.r12 = kInterruptsNotMasked}));
  asm volatile("sti; nop; cli" : : : "memory");
}

void stop_cpu(guest::PlatformKind kind) {
  constexpr std::uint64_t kInterruptsMasked = 1;
  for (;;) {
    asm volatile("cli" : : : "memory");
    if (kind == guest::PlatformKind::kTdx) {
      static_cast<void>(vmcall(abi::tdx::Vmcall::kHlt, {.r12 = kInterruptsMasked}));
    } else {
      asm volatile("hlt" : : : "memory");
    }
  }
}

}  // namespace accede::efi::kernel
