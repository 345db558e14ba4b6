// How AMD SEV guests find out what they are (reference: SEV-SNP 3.1).
#pragma once

#include "accede/base/bit_field.hpp"

#include <cstdint>

namespace accede::abi::sev {

/// CPUID leaf of the memory encryption features.
inline constexpr std::uint32_t kCpuidLeaf = 0x8000'001F;
/// Bits of its EAX.
inline constexpr std::uint32_t kEaxSev = 1U << 1;
inline constexpr std::uint32_t kEaxSevEs = 1U << 3;
inline constexpr std::uint32_t kEaxSevSnp = 1U << 4;
inline constexpr std::uint32_t kEaxVmpl = 1U << 5;
inline constexpr std::uint32_t kEaxSmeCoherent = 1U << 10;
inline constexpr std::uint32_t kEaxSvsm = 1U << 28;
/// Fields of its EBX.
struct CpuidEbx {
  /// 1: the caches need no reads after a page was validated.
  using CoherencySfwNo = BitField<std::uint32_t, 31>;
  using PhysAddrReduction = BitField<std::uint32_t, 11, 6>;
  using CBitPosition = BitField<std::uint32_t, 5, 0>;
};

/// Read-only, never intercepted: what the hardware, not the host, says.
inline constexpr std::uint32_t kMsrSevStatus = 0xC001'0131;
inline constexpr std::uint64_t kStatusSev = 1ULL << 0;
inline constexpr std::uint64_t kStatusSevEs = 1ULL << 1;
inline constexpr std::uint64_t kStatusSevSnp = 1ULL << 2;

}  // namespace accede::abi::sev
