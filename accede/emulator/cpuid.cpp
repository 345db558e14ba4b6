#include "accede/emulator/cpuid.hpp"

#include "accede/abi/sev.hpp"
#include "accede/emulator/nested_page_table.hpp"

#include <algorithm>

namespace accede::emulator {
namespace {

constexpr std::uint32_t kTdxLeaf = 0x21;
constexpr std::uint32_t kExtendedBase = 0x8000'0000;
constexpr std::uint32_t kHypervisorBase = 0x4000'0000;
constexpr std::uint32_t kSvmLeaf = 0x8000'000A;
constexpr std::uint32_t kSvmFeature = 1U << 2;          // leaf 0x80000001 ECX
constexpr std::uint32_t kHypervisorPresent = 1U << 31;  // leaf 1 ECX

constexpr std::uint32_t kOsxsave = 1U << 27;  // leaf 1 ECX
constexpr std::uint32_t kOspke = 1U << 4;     // leaf 7 ECX
constexpr std::uint64_t kCr4Osxsave = 1ULL << 18;
constexpr std::uint64_t kCr4Pke = 1ULL << 22;

/// `word` with `bit` as `cr4_bit` is in the guest's CR4 (the processor shows the emulator's).
std::uint32_t follow(std::uint32_t word, std::uint32_t bit, std::uint64_t cr4,
                     std::uint64_t cr4_bit) {
  return (cr4 & cr4_bit) != 0 ? word | bit : word & ~bit;
}

/// What a guest sees on either platform: a hypervisor, its own CR4, no SVM.
cpu::CpuidResult guest_cpuid(std::uint32_t leaf, std::uint32_t subleaf, cpu::CpuidResult real,
                             std::uint64_t guest_cr4) {
  if (leaf == 1) {
    real.ecx |= kHypervisorPresent;
    real.ecx = follow(real.ecx, kOsxsave, guest_cr4, kCr4Osxsave);
  } else if (leaf == 7 && subleaf == 0) {
    real.ecx = follow(real.ecx, kOspke, guest_cr4, kCr4Pke);
  } else if (leaf == kExtendedBase + 1) {
    real.ecx &= ~kSvmFeature;
  } else if (leaf == kSvmLeaf) {
    return {};
  }
  return real;
}

/// Leaf 0x8000001F of an SNP guest. ECX and EDX are about guests of its own, and it can have none.
/// COHERENCY_SFW_NO saves it a read of every page that it validates.
cpu::CpuidResult memory_encryption() {
  using abi::sev::CpuidEbx;
  const std::uint32_t c_bit = CpuidEbx::CBitPosition::set(0, NestedPageTable::kViewBit);
  return {.eax = abi::sev::kEaxSev | abi::sev::kEaxSevEs | abi::sev::kEaxSevSnp,
          .ebx = CpuidEbx::CoherencySfwNo::set(CpuidEbx::PhysAddrReduction::set(c_bit, 1), 1),
          .ecx = 0,
          .edx = 0};
}

}  // namespace

cpu::CpuidResult tdx_cpuid(std::uint32_t leaf, std::uint32_t subleaf, cpu::CpuidResult real,
                           std::uint32_t real_max_basic, std::uint64_t guest_cr4) {
  if (leaf == 0) {
    // "GenuineIntel" in EBX, EDX, ECX: a guest with another vendor string takes itself for AMD's.
    return {std::max(real_max_basic, kTdxLeaf), 0x756E6547, 0x6C65746E, 0x49656E69};
  }
  if (leaf == kTdxLeaf) {
    return subleaf == 0 ? cpu::CpuidResult{0, 0x65746E49, 0x20202020, 0x5844546C}
                        : cpu::CpuidResult{};
  }
  const bool is_invented = leaf < kHypervisorBase && leaf > real_max_basic;
  if (is_invented || leaf == abi::sev::kCpuidLeaf) {
    return {};
  }
  return guest_cpuid(leaf, subleaf, real, guest_cr4);
}

cpu::CpuidResult snp_cpuid(std::uint32_t leaf, std::uint32_t subleaf, cpu::CpuidResult real,
                           std::uint32_t real_max_basic, std::uint32_t real_max_extended,
                           std::uint64_t guest_cr4) {
  if (leaf == kExtendedBase) {
    real.eax = std::max(real_max_extended, abi::sev::kCpuidLeaf);
    return real;
  }
  if (leaf == abi::sev::kCpuidLeaf) {
    return memory_encryption();
  }
  if ((leaf < kHypervisorBase && leaf > real_max_basic) ||
      (leaf > kExtendedBase && leaf > real_max_extended)) {
    return {};
  }
  return guest_cpuid(leaf, subleaf, real, guest_cr4);
}

cpu::CpuidResult tdx_cpuid(std::uint32_t leaf, std::uint32_t subleaf, std::uint64_t guest_cr4) {
  return tdx_cpuid(leaf, subleaf, cpu::cpuid(leaf, subleaf), cpu::cpuid(0, 0).eax, guest_cr4);
}

cpu::CpuidResult snp_cpuid(std::uint32_t leaf, std::uint32_t subleaf, std::uint64_t guest_cr4) {
  return snp_cpuid(leaf, subleaf, cpu::cpuid(leaf, subleaf), cpu::cpuid(0, 0).eax,
                   cpu::cpuid(kExtendedBase, 0).eax, guest_cr4);
}

}  // namespace accede::emulator
