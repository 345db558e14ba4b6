// What CPUID says to a guest of each platform.
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

/// The same for an SEV-SNP guest, with `real_max_extended`, the processor's CPUID(0x80000000).EAX:
/// the processor's vendor, leaf 0x8000001F with SEV, SEV-ES, SEV-SNP and the C-bit, no SVM. Leaves
/// above the processor's two maxima read as zero.
[[nodiscard]] cpu::CpuidResult snp_cpuid(std::uint32_t leaf, std::uint32_t subleaf,
                                         cpu::CpuidResult real, std::uint32_t real_max_basic,
                                         std::uint32_t real_max_extended, std::uint64_t guest_cr4);

/// The same of the processor that this runs on.
[[nodiscard]] cpu::CpuidResult tdx_cpuid(std::uint32_t leaf, std::uint32_t subleaf,
                                         std::uint64_t guest_cr4);
[[nodiscard]] cpu::CpuidResult snp_cpuid(std::uint32_t leaf, std::uint32_t subleaf,
                                         std::uint64_t guest_cr4);

}  // namespace accede::emulator
