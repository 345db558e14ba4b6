// The reverse map table (RMP) of AMD SEV-SNP: entries, states, the codes of the instructions that
// change them (reference: SEV-SNP 1, 2).
#pragma once

#include "accede/base/bit_field.hpp"
#include "accede/base/units.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace accede::abi::rmp {

// Literals with their length: without it clang calls strlen, which a kernel need not have.
using namespace std::string_view_literals;

/// EAX of PVALIDATE. With kSuccess look at CF: set means that the page was so already.
enum class PvalidateCode : std::uint32_t {
  kSuccess = 0,
  kFailInput = 1,
  kFailSizeMismatch = 6,  ///< 2 MiB asked for, the entry is 4 KiB
};
/// What software reports for success with CF = 1 (Linux: PVALIDATE_FAIL_NOUPDATE). Never in EAX.
inline constexpr std::uint32_t kPvalidateNoUpdate = 255;

/// ECX of PVALIDATE and RMPADJUST.
inline constexpr std::uint32_t kSize4K = 0;
inline constexpr std::uint32_t kSize2M = 1;

/// EAX of RMPUPDATE.
enum class RmpUpdateCode : std::uint32_t {
  kSuccess = 0,
  kFailInput = 1,
  kFailPermission = 2,  ///< the entry is immutable
  kFailInUse = 3,
  kFailOverlap = 4,  ///< a 4 KiB entry inside a 2 MiB one, or the other way round
};

/// EAX of RMPADJUST and of RMPQUERY.
enum class RmpAdjustCode : std::uint32_t {
  kSuccess = 0,
  kFailInput = 1,
  kFailPermission = 2,    ///< own or a more privileged VMPL, or more than the caller has
  kFailInUse = 3,         ///< the VMSA bit of a page that a vCPU runs on. UNCONFIRMED
  kFailSizeMismatch = 6,  ///< 2 MiB asked for, the entry is 4 KiB
};

/// EAX of PSMASH. For an address without a 2 MiB entry documents also name 4 and 7 (UNCONFIRMED).
enum class PsmashCode : std::uint32_t {
  kSuccess = 0,
  kFailInput = 1,
  kFailPermission = 2,
  kFailInUse = 3,
};

[[nodiscard]] constexpr std::string_view name_of(PvalidateCode code) {
  switch (code) {
    case PvalidateCode::kSuccess:
      return "SUCCESS"sv;
    case PvalidateCode::kFailInput:
      return "FAIL_INPUT"sv;
    case PvalidateCode::kFailSizeMismatch:
      return "FAIL_SIZEMISMATCH"sv;
  }
  return "unknown"sv;
}
[[nodiscard]] constexpr std::string_view name_of(RmpUpdateCode code) {
  switch (code) {
    case RmpUpdateCode::kSuccess:
      return "SUCCESS"sv;
    case RmpUpdateCode::kFailInput:
      return "FAIL_INPUT"sv;
    case RmpUpdateCode::kFailPermission:
      return "FAIL_PERMISSION"sv;
    case RmpUpdateCode::kFailInUse:
      return "FAIL_INUSE"sv;
    case RmpUpdateCode::kFailOverlap:
      return "FAIL_OVERLAP"sv;
  }
  return "unknown"sv;
}
[[nodiscard]] constexpr std::string_view name_of(PsmashCode code) {
  return name_of(static_cast<RmpUpdateCode>(code));
}

[[nodiscard]] constexpr std::string_view name_of(RmpAdjustCode code) {
  return code == RmpAdjustCode::kFailSizeMismatch ? "FAIL_SIZEMISMATCH"sv
         : code <= RmpAdjustCode::kFailInUse      ? name_of(static_cast<RmpUpdateCode>(code))
                                                  : "unknown"sv;
}

/// The bits of RFLAGS that the five instructions write.
inline constexpr std::uint64_t kFlagsWritten =
    1U << 0 | 1U << 2 | 1U << 4 | 1U << 6 | 1U << 7 | 1U << 11;  // CF PF AF ZF SF OF
/// What they write there: the flags of EAX compared with 0; PVALIDATE alone sets CF, with success.
[[nodiscard]] constexpr std::uint64_t flags_of(std::uint32_t eax, bool carry = false) {
  bool even = true;
  for (unsigned bit = 0; bit < 8; ++bit) {
    even = even != ((eax >> bit & 1) != 0);
  }
  return (carry ? 1U << 0 : 0U) | (even ? 1U << 2 : 0U) | (eax == 0 ? 1U << 6 : 0U) |
         (eax >> 31 != 0 ? 1U << 7 : 0U);
}

/// Status of a firmware command, as far as page states cause it (SNP firmware ABI: status codes).
enum class FirmwareCode : std::uint32_t {
  kSuccess = 0x00,
  kInvalidAddress = 0x09,
  kInvalidParam = 0x16,
  kInvalidPageSize = 0x19,
  kInvalidPageState = 0x1A,
  kInvalidPageOwner = 0x1C,
};
[[nodiscard]] constexpr std::string_view name_of(FirmwareCode code) {
  switch (code) {
    case FirmwareCode::kSuccess:
      return "SUCCESS"sv;
    case FirmwareCode::kInvalidAddress:
      return "INVALID_ADDRESS"sv;
    case FirmwareCode::kInvalidParam:
      return "INVALID_PARAM"sv;
    case FirmwareCode::kInvalidPageSize:
      return "INVALID_PAGE_SIZE"sv;
    case FirmwareCode::kInvalidPageState:
      return "INVALID_PAGE_STATE"sv;
    case FirmwareCode::kInvalidPageOwner:
      return "INVALID_PAGE_OWNER"sv;
  }
  return "unknown"sv;
}

/// What SNP_LAUNCH_UPDATE is told about a page (reference 6).
enum class LaunchPageType : std::uint8_t {
  kNormal = 1,  ///< measured
  kVmsa = 2,
  kZero = 3,
  kUnmeasured = 4,
  kSecrets = 5,
  kCpuid = 6,
};

/// RDX of RMPADJUST.
struct RmpAdjustOperand {
  using Vmsa = BitField<std::uint64_t, 16>;
  using Permissions = BitField<std::uint64_t, 15, 8>;
  using TargetVmpl = BitField<std::uint64_t, 7, 0>;

  [[nodiscard]] static constexpr std::uint64_t make(unsigned vmpl, std::uint8_t permissions,
                                                    bool vmsa = false) {
    return Vmsa::set(Permissions::set(TargetVmpl::set(0, vmpl), permissions), vmsa ? 1 : 0);
  }
};
inline constexpr unsigned kVmplCount = 4;

/// Bits of a VMPL's permission byte.
inline constexpr std::uint8_t kPermRead = 1U << 0;
inline constexpr std::uint8_t kPermWrite = 1U << 1;
inline constexpr std::uint8_t kPermUserExecute = 1U << 2;
inline constexpr std::uint8_t kPermSupervisorExecute = 1U << 3;
inline constexpr std::uint8_t kPermShadowStack = 1U << 4;
inline constexpr std::uint8_t kPermAll = 0x1F;

/// An entry in memory (Milan, Genoa). For a 2 MiB page only the entry of its first 4 KiB counts.
struct RmpEntry {
  std::uint64_t low = 0;
  std::uint64_t high = 0;

  using Lock = BitField<std::uint64_t, 63>;
  using Validated = BitField<std::uint64_t, 62>;
  using Vmsa = BitField<std::uint64_t, 61>;
  using Asid = BitField<std::uint64_t, 60, 51>;
  using Gfn = BitField<std::uint64_t, 50, 12>;
  using SubpageCount = BitField<std::uint64_t, 11, 3>;  ///< 2M-aligned entry: assigned 4K entries
  using Immutable = BitField<std::uint64_t, 2>;
  using Large = BitField<std::uint64_t, 1>;
  using Assigned = BitField<std::uint64_t, 0>;

  /// Fields of `high`. 48:33 are reserved.
  using PageMigration = BitField<std::uint64_t, 63, 62>;  ///< the firmware's
  using PcieIde = BitField<std::uint64_t, 61, 49>;        ///< the firmware's
  using ImplicitKey = BitField<std::uint64_t, 32>;        ///< the firmware's
  using Vmpl3 = BitField<std::uint64_t, 31, 24>;
  using Vmpl2 = BitField<std::uint64_t, 23, 16>;
  using Vmpl1 = BitField<std::uint64_t, 15, 8>;
  using Vmpl0 = BitField<std::uint64_t, 7, 0>;

  friend constexpr bool operator==(const RmpEntry&, const RmpEntry&) = default;
};
static_assert(sizeof(RmpEntry) == 16);
static_assert(offsetof(RmpEntry, low) == 0 && offsetof(RmpEntry, high) == 8);

/// The table's place: bits 51:13 of two MSRs, the last byte inclusive.
inline constexpr std::uint32_t kMsrRmpBase = 0xC0010132;
inline constexpr std::uint32_t kMsrRmpEnd = 0xC0010133;
/// Where the entries begin behind RMP_BASE; before that the processor keeps its books.
inline constexpr Bytes kEntriesOffset{0x4000};
/// Where the entry of `spa` is.
[[nodiscard]] constexpr PhysAddr entry_address(PhysAddr base, PhysAddr spa) {
  return base + kEntriesOffset + Bytes{(spa.value() >> 12) * sizeof(RmpEntry)};
}
/// The pages from address 0 on that a table at [base, last] describes.
[[nodiscard]] constexpr PageCount covered_pages(PhysAddr base, PhysAddr last) {
  const PhysAddr first_entry = base + kEntriesOffset;
  return PageCount{last < first_entry ? 0 : (last - first_entry + Bytes{1}) / Bytes{16}};
}

/// The 16 bytes that RMPUPDATE reads and RMPREAD writes.
struct RmpStateWords {
  std::uint64_t gpa = 0;
  std::uint8_t assigned = 0;
  std::uint8_t page_size = 0;  ///< bit 0: 0 = 4 KiB, 1 = 2 MiB; RMPREAD: kRegionStatus too
  std::uint8_t immutable = 0;
  std::uint8_t reserved = 0;
  std::uint32_t asid = 0;

  friend constexpr bool operator==(const RmpStateWords&, const RmpStateWords&) = default;
};
/// In RmpStateWords::page_size.
inline constexpr std::uint8_t kRegionStatus = 1U << 1;
static_assert(sizeof(RmpStateWords) == 16);
static_assert(offsetof(RmpStateWords, gpa) == 0 && offsetof(RmpStateWords, assigned) == 8);
static_assert(offsetof(RmpStateWords, page_size) == 9 && offsetof(RmpStateWords, immutable) == 10);
static_assert(offsetof(RmpStateWords, reserved) == 11 && offsetof(RmpStateWords, asid) == 12);

/// The page states of the manual (reference 2.2).
enum class RmpState : std::uint8_t {
  kHypervisor,
  kHvFixed,
  kFirmware,
  kReclaim,
  kContext,
  kMetadata,
  kPreGuest,
  kPreSwap,
  kGuestInvalid,
  kGuestValid,
};

/// The state that an entry is in. Bits that no state has (Validated without an ASID) count as the
/// state without them.
[[nodiscard]] constexpr RmpState state_of(const RmpEntry& entry) {
  const bool immutable = RmpEntry::Immutable::get(entry.low) != 0;
  const bool validated = RmpEntry::Validated::get(entry.low) != 0;
  if (RmpEntry::Assigned::get(entry.low) == 0) {
    return immutable ? RmpState::kHvFixed : RmpState::kHypervisor;
  }
  if (RmpEntry::Asid::get(entry.low) != 0) {
    if (immutable) {
      return validated ? RmpState::kPreSwap : RmpState::kPreGuest;
    }
    return validated ? RmpState::kGuestValid : RmpState::kGuestInvalid;
  }
  if (!immutable) {
    return RmpState::kReclaim;
  }
  if (RmpEntry::Gfn::get(entry.low) != 0) {
    return RmpState::kMetadata;
  }
  return RmpEntry::Vmsa::get(entry.low) != 0 ? RmpState::kContext : RmpState::kFirmware;
}

[[nodiscard]] constexpr std::string_view name_of(RmpState state) {
  constexpr auto kNames = std::to_array<std::string_view>(
      {"Hypervisor"sv, "HV-Fixed"sv, "Firmware"sv, "Reclaim"sv, "Context"sv, "Metadata"sv,
       "Pre-Guest"sv, "Pre-Swap"sv, "Guest-Invalid"sv, "Guest-Valid"sv});
  const auto index = static_cast<std::size_t>(state);
  return index < kNames.size() ? kNames[index] : "unknown"sv;
}

/// EXITINFO1 of a nested page fault (reference 2.4).
inline constexpr std::uint64_t kNpfPresent = 1ULL << 0;
inline constexpr std::uint64_t kNpfWrite = 1ULL << 1;
inline constexpr std::uint64_t kNpfUser = 1ULL << 2;
inline constexpr std::uint64_t kNpfFetch = 1ULL << 4;
inline constexpr std::uint64_t kNpfShadowStack = 1ULL << 6;
inline constexpr std::uint64_t kNpfRmp = 1ULL << 31;
inline constexpr std::uint64_t kNpfFinal = 1ULL << 32;      ///< on the way to the final address
inline constexpr std::uint64_t kNpfPageTable = 1ULL << 33;  ///< while the guest's tables were read
inline constexpr std::uint64_t kNpfEncrypted = 1ULL << 34;  ///< the effective C-bit was set
inline constexpr std::uint64_t kNpfSizeMismatch = 1ULL << 35;
inline constexpr std::uint64_t kNpfVmpl = 1ULL << 36;
inline constexpr std::uint64_t kNpfVmplShadowStack = 1ULL << 37;
/// Error code of a host's page fault.
inline constexpr std::uint64_t kPfPresent = 1ULL << 0;
inline constexpr std::uint64_t kPfWrite = 1ULL << 1;
inline constexpr std::uint64_t kPfRmp = 1ULL << 31;
/// #VC error code of a private access to a page that is not validated.
inline constexpr std::uint64_t kVcNotValidated = 0x404;

}  // namespace accede::abi::rmp
