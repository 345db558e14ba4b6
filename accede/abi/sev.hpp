// How AMD SEV guests find out what they are, and what an SNP guest finds in memory (reference:
// SEV-SNP 3.1, 5.1).
#pragma once

#include "accede/base/bit_field.hpp"

#include <array>
#include <cstddef>
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

/// Where the secrets page and the CPUID page lie: an EFI configuration table
/// (efi::kConfidentialComputingBlob) or what setup_data of type 7 points to.
struct CcBlob {
  static constexpr std::uint32_t kMagic = 0x4544'4D41;  ///< "AMDE"
  static constexpr std::uint16_t kVersion = 1;

  std::uint32_t magic;
  std::uint16_t version;
  std::uint16_t reserved_6;
  std::uint64_t secrets_address;
  std::uint32_t secrets_bytes;  ///< 4096
  std::uint32_t reserved_20;
  std::uint64_t cpuid_address;
  std::uint32_t cpuid_bytes;  ///< 4096
  std::uint32_t reserved_36;
};
static_assert(sizeof(CcBlob) == 40);
static_assert(offsetof(CcBlob, version) == 4 && offsetof(CcBlob, secrets_address) == 8);
static_assert(offsetof(CcBlob, secrets_bytes) == 16 && offsetof(CcBlob, cpuid_address) == 24);
static_assert(offsetof(CcBlob, cpuid_bytes) == 32);

/// What CPUID answers to one leaf and subleaf.
struct CpuidEntry {
  std::uint32_t eax_in;
  std::uint32_t ecx_in;
  std::uint64_t xcr0_in;  ///< leaf 0xD, subleaves 0 and 1: the XCR0 that EBX is the size for
  std::uint64_t xss_in;
  std::uint32_t eax;
  std::uint32_t ebx;
  std::uint32_t ecx;
  std::uint32_t edx;
  std::uint64_t reserved;
};
static_assert(sizeof(CpuidEntry) == 48);
static_assert(offsetof(CpuidEntry, xcr0_in) == 8 && offsetof(CpuidEntry, xss_in) == 16);
static_assert(offsetof(CpuidEntry, eax) == 24 && offsetof(CpuidEntry, edx) == 36);

/// The CPUID answers that the firmware of the processor has checked.
struct CpuidPage {
  static constexpr std::size_t kMostEntries = 64;

  std::uint32_t count;  ///< 1 to kMostEntries
  std::uint32_t reserved_4;
  std::uint64_t reserved_8;
  std::array<CpuidEntry, kMostEntries> entries;
  std::array<std::byte, 4096 - 16 - kMostEntries * sizeof(CpuidEntry)> reserved_end;
};
static_assert(sizeof(CpuidPage) == 4096);
static_assert(offsetof(CpuidPage, entries) == 16);

/// What the firmware of the processor tells the guest alone.
struct SecretsPage {
  static constexpr std::uint32_t kVersion = 3;

  std::uint32_t version;
  std::uint32_t flags;  ///< bit 0: started by a migration image
  std::uint32_t family_model_stepping;
  std::uint32_t reserved_0c;
  std::array<std::byte, 16> gosvw;
  /// Keys for messages to the firmware of the processor, one per VMPL; all zero: there is none.
  std::array<std::array<std::byte, 32>, 4> vmpck;
  std::array<std::byte, 96> os_area;  ///< the guest's own
  std::array<std::byte, 64> vmsa_tweak_bitmap;
  std::uint64_t svsm_base;  ///< svsm_size 0: no secure VM service module
  std::uint64_t svsm_size;
  std::uint64_t svsm_caa;
  std::uint32_t svsm_max_version;
  std::uint8_t svsm_guest_vmpl;
  std::array<std::byte, 3> reserved_15d;
  std::uint32_t tsc_factor;
  std::array<std::byte, 4096 - 0x164> reserved_164;
};
static_assert(sizeof(SecretsPage) == 4096);
static_assert(offsetof(SecretsPage, family_model_stepping) == 8);
static_assert(offsetof(SecretsPage, gosvw) == 0x10 && offsetof(SecretsPage, vmpck) == 0x20);
static_assert(offsetof(SecretsPage, os_area) == 0xA0);
static_assert(offsetof(SecretsPage, vmsa_tweak_bitmap) == 0x100);
static_assert(offsetof(SecretsPage, svsm_base) == 0x140);
static_assert(offsetof(SecretsPage, svsm_size) == 0x148);
static_assert(offsetof(SecretsPage, svsm_caa) == 0x150);
static_assert(offsetof(SecretsPage, svsm_max_version) == 0x158);
static_assert(offsetof(SecretsPage, svsm_guest_vmpl) == 0x15C);
static_assert(offsetof(SecretsPage, tsc_factor) == 0x160);

}  // namespace accede::abi::sev
