// What CPUID says to a TDX guest.
#pragma once

#include "accede/emulator/cpu.hpp"

namespace accede::emulator {

/// The answer to CPUID(leaf, subleaf) for a TDX guest, made from `real`, the answer of the
/// processor below, `real_max_basic`, its CPUID(0).EAX, and the guest's CR4, which some bits
/// follow: vendor GenuineIntel, leaf 0x21 with the TDX signature, no SVM. Leaves between the
/// processor's maximum and 0x21 read as zero: a guest takes an invented leaf at its word (Linux
/// computes its CPU topology from one).
[[nodiscard]] cpu::CpuidResult tdx_cpuid(std::uint32_t leaf, std::uint32_t subleaf,
                                         cpu::CpuidResult real, std::uint32_t real_max_basic,
                                         std::uint64_t guest_cr4);

}  // namespace accede::emulator
