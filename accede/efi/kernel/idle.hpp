// Interrupts on, off, and waiting for one.
#pragma once

#include "accede/guest/platform.hpp"

namespace accede::efi::kernel {

inline void enable_interrupts() {
  asm volatile("sti" : : : "memory");
}
inline void disable_interrupts() {
  asm volatile("cli" : : : "memory");
}

/// Gives the CPU to the host until an interrupt has been taken. Called and returns with interrupts
/// off: a condition that a handler changes can be tested before it without losing a wake-up. May
/// return without an interrupt (a host may answer at once). In a TD this is
/// TDVMCALL<Instruction.HLT>; an SNP guest's HLT goes to the host without a #VC.
void wait_for_interrupt(guest::PlatformKind kind);

/// The end: no interrupt wakes this CPU. In a TD the instruction HLT would raise #VE.
[[noreturn]] void stop_cpu(guest::PlatformKind kind);

}  // namespace accede::efi::kernel
