// Interrupts on, off, and waiting for one.
#pragma once

namespace accede::efi::kernel {

inline void enable_interrupts() {
  asm volatile("sti" : : : "memory");
}
inline void disable_interrupts() {
  asm volatile("cli" : : : "memory");
}

/// Gives the CPU to the host until an interrupt has been taken. Called and returns with interrupts
/// off: a condition that a handler changes can be tested before it without losing a wake-up. May
/// return without an interrupt (a host may answer at once). `tdx`: TDVMCALL<Instruction.HLT>.
void wait_for_interrupt(bool tdx);

/// The end: no interrupt wakes this CPU. In a TD the instruction HLT would raise #VE.
[[noreturn]] void stop_cpu(bool tdx);

}  // namespace accede::efi::kernel
