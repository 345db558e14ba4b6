// What a TD is: detection, the shared bit, metadata fields (reference 1.2, 4).
#pragma once

#include "accede/base/assert.hpp"
#include "accede/base/bit_field.hpp"

#include <cstdint>

namespace accede::abi::tdx {

/// CPUID leaf whose EBX, EDX, ECX spell "IntelTDX    ".
inline constexpr std::uint32_t kCpuidLeaf = 0x21;
inline constexpr std::uint32_t kCpuidEbx = 0x65746E49;
inline constexpr std::uint32_t kCpuidEdx = 0x5844546C;
inline constexpr std::uint32_t kCpuidEcx = 0x20202020;

/// The address bit that selects the shared view: 47 or 51. Precondition: `gpa_width` 48 or 52.
[[nodiscard]] constexpr std::uint64_t shared_bit(unsigned gpa_width) {
  ACCEDE_ASSERT(gpa_width == 48 || gpa_width == 52);
  return 1ULL << (gpa_width - 1);
}

/// A field id: what VM.RD, VM.WR and SYS.RD take in RDX.
struct FieldId {
  using NonArchitectural = BitField<std::uint64_t, 63>;
  using Class = BitField<std::uint64_t, 61, 56>;
  using Context = BitField<std::uint64_t, 54, 52>;
  using WriteMaskValid = BitField<std::uint64_t, 51>;
  using Increment = BitField<std::uint64_t, 50>;
  using LastField = BitField<std::uint64_t, 46, 38>;
  using LastElement = BitField<std::uint64_t, 37, 34>;
  using ElementSize = BitField<std::uint64_t, 33, 32>;  ///< log2 of the bytes
  using Code = BitField<std::uint64_t, 23, 0>;
  /// Bits that must be 0 for an access to one element.
  static constexpr std::uint64_t kSingleElementZeroMask =
      BitField<std::uint64_t, 31, 24>::kMask | LastField::kMask | LastElement::kMask |
      BitField<std::uint64_t, 49, 47>::kMask | BitField<std::uint64_t, 55>::kMask |
      BitField<std::uint64_t, 62>::kMask;
};

inline constexpr std::uint64_t kFieldAttributes = 0x1110'0003'0000'0000;
inline constexpr std::uint64_t kFieldXfam = 0x1110'0003'0000'0001;
inline constexpr std::uint64_t kFieldMaxVcpus = 0x1110'0002'0000'0002;
inline constexpr std::uint64_t kFieldNumVcpus = 0x9010'0002'0000'0001;
inline constexpr std::uint64_t kFieldGpaw = 0x1110'0000'0000'0003;
inline constexpr std::uint64_t kFieldTscFrequency = 0x1110'0001'0000'000C;
inline constexpr std::uint64_t kFieldConfigFlags = 0x1110'0003'0000'0016;
inline constexpr std::uint64_t kFieldTdCtls = 0x1110'0003'0000'0017;
/// The module's id; Linux writes kFieldNotifyEnablesLinux, which names the same field.
inline constexpr std::uint64_t kFieldNotifyEnables = 0x9110'0003'0000'0010;
inline constexpr std::uint64_t kFieldNotifyEnablesLinux = 0x9100'0000'0000'0010;
inline constexpr std::uint64_t kFieldTopologyEnumConfigured = 0x9100'0000'0000'0019;
inline constexpr std::uint64_t kFieldMrtd = 0x1310'0003'0000'0000;
inline constexpr std::uint64_t kFieldRtmr = 0x1310'0003'0000'0040;
inline constexpr std::uint64_t kFieldCpuidValues = 0x9410'0003'0000'0000;

/// The module compares class and field code only (M15).
[[nodiscard]] constexpr bool same_field(std::uint64_t a, std::uint64_t b) {
  return FieldId::Class::get(a) == FieldId::Class::get(b) &&
         FieldId::Code::get(a) == FieldId::Code::get(b);
}

/// Bits of ATTRIBUTES.
inline constexpr std::uint64_t kAttributeDebug = 1ULL << 0;
inline constexpr std::uint64_t kAttributeHgsPlus = 1ULL << 4;
inline constexpr std::uint64_t kAttributePerfProf = 1ULL << 5;
inline constexpr std::uint64_t kAttributePmtProf = 1ULL << 6;
inline constexpr std::uint64_t kAttributeIcssd = 1ULL << 16;
inline constexpr std::uint64_t kAttributeLass = 1ULL << 27;
inline constexpr std::uint64_t kAttributeSeptVeDisable = 1ULL << 28;
inline constexpr std::uint64_t kAttributeMigratable = 1ULL << 29;
inline constexpr std::uint64_t kAttributePks = 1ULL << 30;
inline constexpr std::uint64_t kAttributeKl = 1ULL << 31;
inline constexpr std::uint64_t kAttributeTpa = 1ULL << 62;
inline constexpr std::uint64_t kAttributePerfmon = 1ULL << 63;

/// Bits of CONFIG_FLAGS.
inline constexpr std::uint64_t kConfigFlagGpaw = 1ULL << 0;  ///< 1: GPA width 52
inline constexpr std::uint64_t kConfigFlagFlexiblePendingVe = 1ULL << 1;
inline constexpr std::uint64_t kConfigFlagNoRbpMod = 1ULL << 2;
inline constexpr std::uint64_t kConfigFlagMaxpaVirt = 1ULL << 3;
inline constexpr std::uint64_t kConfigFlagMaxgpaVirt = 1ULL << 4;
inline constexpr std::uint64_t kConfigFlagTdxConnect = 1ULL << 5;
inline constexpr std::uint64_t kConfigFlagPageRelease = 1ULL << 6;

/// Bits of TD_CTLS.
inline constexpr std::uint64_t kTdCtlsPendingVeDisable = 1ULL << 0;
inline constexpr std::uint64_t kTdCtlsEnumTopology = 1ULL << 1;
inline constexpr std::uint64_t kTdCtlsVirtCpuid2 = 1ULL << 2;
inline constexpr std::uint64_t kTdCtlsReduceVe = 1ULL << 3;
inline constexpr std::uint64_t kTdCtlsForceHwKeys = 1ULL << 4;
inline constexpr std::uint64_t kTdCtlsLock = 1ULL << 63;

}  // namespace accede::abi::tdx
