// Intel TDX wire formats: what crosses TDCALL and SEAMCALL, and how the module lays out its tables.
//
// Source of every number: reference: TDX fact sheet (TDX module 1.5 and GHCI 1.0); the section is
// named at each group. No behaviour lives here.
#pragma once

#include "accede/base/bit_field.hpp"
#include "accede/base/units.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace accede::abi::tdx {

// Literals with their length: without it clang calls strlen, which a kernel need not have.
using namespace std::string_view_literals;

// ---------------------------------------------------------------------------------------------
// TDCALL (1.1)

/// TDCALL leaf numbers: RAX bits 15:0 of the instruction 66 0F 01 CC.
enum class TdcallLeaf : std::uint16_t {
  kVpVmcall = 0,
  kVpInfo = 1,
  kMrRtmrExtend = 2,
  kVpVeInfoGet = 3,
  kMrReport = 4,
  kVpCpuidVeSet = 5,
  kMemPageAccept = 6,
  kVmRd = 7,
  kVmWr = 8,
  kVpRd = 9,
  kVpWr = 10,
  kSysRd = 11,
  kSysRdAll = 12,
  kServtdRd = 18,
  kServtdWr = 20,
  kMrVerifyReport = 22,
  kMemPageAttrRd = 23,
  kMemPageAttrWr = 24,
  kVpEnter = 25,
  kVpInvept = 26,
  kVpInvvpid = 27,
  kMrAssignSvns = 28,
  kMrKeyGet = 29,
  kMemPageRelease = 30,
  kDmarAccept = 70,
  kMmioAccept = 71,
};

/// The vendor's name of a leaf, e.g. "MEM.PAGE.ACCEPT"; "unknown" for a number without one.
[[nodiscard]] constexpr std::string_view name_of(TdcallLeaf leaf) {
  switch (leaf) {
    case TdcallLeaf::kVpVmcall:
      return "VP.VMCALL"sv;
    case TdcallLeaf::kVpInfo:
      return "VP.INFO"sv;
    case TdcallLeaf::kMrRtmrExtend:
      return "MR.RTMR.EXTEND"sv;
    case TdcallLeaf::kVpVeInfoGet:
      return "VP.VEINFO.GET"sv;
    case TdcallLeaf::kMrReport:
      return "MR.REPORT"sv;
    case TdcallLeaf::kVpCpuidVeSet:
      return "VP.CPUIDVE.SET"sv;
    case TdcallLeaf::kMemPageAccept:
      return "MEM.PAGE.ACCEPT"sv;
    case TdcallLeaf::kVmRd:
      return "VM.RD"sv;
    case TdcallLeaf::kVmWr:
      return "VM.WR"sv;
    case TdcallLeaf::kVpRd:
      return "VP.RD"sv;
    case TdcallLeaf::kVpWr:
      return "VP.WR"sv;
    case TdcallLeaf::kSysRd:
      return "SYS.RD"sv;
    case TdcallLeaf::kSysRdAll:
      return "SYS.RDALL"sv;
    case TdcallLeaf::kServtdRd:
      return "SERVTD.RD"sv;
    case TdcallLeaf::kServtdWr:
      return "SERVTD.WR"sv;
    case TdcallLeaf::kMrVerifyReport:
      return "MR.VERIFYREPORT"sv;
    case TdcallLeaf::kMemPageAttrRd:
      return "MEM.PAGE.ATTR.RD"sv;
    case TdcallLeaf::kMemPageAttrWr:
      return "MEM.PAGE.ATTR.WR"sv;
    case TdcallLeaf::kVpEnter:
      return "VP.ENTER"sv;
    case TdcallLeaf::kVpInvept:
      return "VP.INVEPT"sv;
    case TdcallLeaf::kVpInvvpid:
      return "VP.INVVPID"sv;
    case TdcallLeaf::kMrAssignSvns:
      return "MR.ASSIGNSVNS"sv;
    case TdcallLeaf::kMrKeyGet:
      return "MR.KEY.GET"sv;
    case TdcallLeaf::kMemPageRelease:
      return "MEM.PAGE.RELEASE"sv;
    case TdcallLeaf::kDmarAccept:
      return "DMAR.ACCEPT"sv;
    case TdcallLeaf::kMmioAccept:
      return "MMIO.ACCEPT"sv;
  }
  return "unknown"sv;
}

/// RAX at TDCALL: leaf 15:0, version 23:16; everything above must be 0 (else OPERAND_INVALID|RAX).
using TdcallVersionField = BitField<std::uint64_t, 23, 16>;
using TdcallLeafField = BitField<std::uint64_t, 15, 0>;
inline constexpr std::uint64_t kTdcallReservedMask = ~std::uint64_t{0xFF'FFFF};

// ---------------------------------------------------------------------------------------------
// Status word (2.2)

/// Bits 63:32 of a completion status, the part that software compares. Bit 63: error, 62:
/// non-recoverable, 61: fatal, 60: host recoverability hint, 47:40 class, 39:32 details.
enum class Status : std::uint32_t {
  kSuccess = 0x0000'0000,
  kNonRecoverableVcpu = 0x4000'0001,
  kNonRecoverableTd = 0x6000'0002,
  kInterruptedResumable = 0x8000'0003,
  kInterruptedRestartable = 0x8000'0004,
  kNonRecoverableTdNonAccessible = 0x6000'0005,
  kWrongApicMode = 0xE000'0007,
  kCrossTdFault = 0x8000'0008,
  kCrossTdTrap = 0x9000'0009,
  kCorruptedMd = 0x6000'000A,
  kOperandInvalid = 0xC000'0100,
  kOperandAddrRangeError = 0xC000'0101,
  kOperandBusy = 0x8000'0200,
  kPreviousTlbEpochBusy = 0x8000'0201,
  kSysBusy = 0x8000'0202,
  kRndNoEntropy = 0x8000'0203,
  kBusyHostPriority = 0x8000'0204,
  kHostPriorityBusyTimeout = 0x9000'0205,
  kPageMetadataIncorrect = 0xC000'0300,
  kPageAlreadyFree = 0x0000'0301,
  kPageNotOwnedByTd = 0xC000'0302,
  kPageNotFree = 0xC000'0303,
  kHpaRangeNotFree = 0xC000'0304,
  kNoPamtPagePair = 0xC000'0305,
  kPamtPageNotEmpty = 0xC000'0306,
  kInterruptedPamt = 0x8000'0307,
  kMissingPamtPagePair = 0x8000'0308,
  kSysNotReady = 0xC000'0505,
  kSysConfigNotPending = 0xC000'050C,
  kTdFatal = 0xE000'0604,
  kLifecycleStateIncorrect = 0xC000'0607,
  kOpStateIncorrect = 0xC000'0608,
  kNoVcpus = 0xC000'0609,
  kVcpuStateIncorrect = 0xC000'0700,
  kNoValidVeInfo = 0xC000'0704,
  kMaxVcpusExceeded = 0xC000'0705,
  kInvalidTdmr = 0xC000'0A00,
  kNonOrderedTdmr = 0xC000'0A01,
  kTdmrOutsideCmrs = 0xC000'0A02,
  kTdmrAlreadyInitialized = 0x0000'0A03,
  kInvalidPamt = 0xC000'0A10,
  kPamtOutsideCmrs = 0xC000'0A11,
  kPamtOverlap = 0xC000'0A12,
  kInvalidReservedInTdmr = 0xC000'0A20,
  kNonOrderedReservedInTdmr = 0xC000'0A21,
  kCmrListInvalid = 0xC000'0A22,
  kEptWalkFailed = 0xC000'0B00,
  kEptEntryFree = 0xC000'0B01,
  kEptEntryNotFree = 0xC000'0B02,
  kEptEntryNotPresent = 0xC000'0B03,
  kEptEntryNotLeaf = 0xC000'0B04,
  kEptEntryLeaf = 0xC000'0B05,
  kGpaRangeNotBlocked = 0xC000'0B06,
  kGpaRangeAlreadyBlocked = 0x0000'0B07,
  kTlbTrackingNotDone = 0xC000'0B08,
  kEptInvalidPromoteConditions = 0xC000'0B09,
  kPageAlreadyAccepted = 0x0000'0B0A,
  kPageSizeMismatch = 0xC000'0B0B,
  kGpaRangeBlocked = 0xC000'0B0C,
  kEptEntryStateIncorrect = 0xC000'0B0D,
  kEptPageNotFree = 0xC000'0B0E,
  kL2SeptWalkFailed = 0xC000'0B0F,
  kL2SeptEntryNotFree = 0xC000'0B10,
  kPageAttrInvalid = 0xC000'0B11,
  kL2SeptPageNotProvided = 0xC000'0B12,
  kMetadataFieldIdIncorrect = 0xC000'0C00,
  kMetadataFieldNotWritable = 0xC000'0C01,
  kMetadataFieldNotReadable = 0xC000'0C02,
  kMetadataFieldValueNotValid = 0xC000'0C03,
  kMetadataFirstFieldIdInContext = 0x0000'0C0B,
};

/// A code and the vendor's name of it.
struct StatusName {
  Status code;
  std::string_view name;
};

/// Every code that has a name, in ascending order of its class.
inline constexpr auto kStatusNames = std::to_array<StatusName>({
    {Status::kSuccess, "SUCCESS"},
    {Status::kNonRecoverableVcpu, "NON_RECOVERABLE_VCPU"},
    {Status::kNonRecoverableTd, "NON_RECOVERABLE_TD"},
    {Status::kInterruptedResumable, "INTERRUPTED_RESUMABLE"},
    {Status::kInterruptedRestartable, "INTERRUPTED_RESTARTABLE"},
    {Status::kNonRecoverableTdNonAccessible, "NON_RECOVERABLE_TD_NON_ACCESSIBLE"},
    {Status::kWrongApicMode, "WRONG_APIC_MODE"},
    {Status::kCrossTdFault, "CROSS_TD_FAULT"},
    {Status::kCrossTdTrap, "CROSS_TD_TRAP"},
    {Status::kCorruptedMd, "CORRUPTED_MD"},
    {Status::kOperandInvalid, "OPERAND_INVALID"},
    {Status::kOperandAddrRangeError, "OPERAND_ADDR_RANGE_ERROR"},
    {Status::kOperandBusy, "OPERAND_BUSY"},
    {Status::kPreviousTlbEpochBusy, "PREVIOUS_TLB_EPOCH_BUSY"},
    {Status::kSysBusy, "SYS_BUSY"},
    {Status::kRndNoEntropy, "RND_NO_ENTROPY"},
    {Status::kBusyHostPriority, "BUSY_HOST_PRIORITY"},
    {Status::kHostPriorityBusyTimeout, "HOST_PRIORITY_BUSY_TIMEOUT"},
    {Status::kPageMetadataIncorrect, "PAGE_METADATA_INCORRECT"},
    {Status::kPageAlreadyFree, "PAGE_ALREADY_FREE"},
    {Status::kPageNotOwnedByTd, "PAGE_NOT_OWNED_BY_TD"},
    {Status::kPageNotFree, "PAGE_NOT_FREE"},
    {Status::kHpaRangeNotFree, "HPA_RANGE_NOT_FREE"},
    {Status::kNoPamtPagePair, "NO_PAMT_PAGE_PAIR"},
    {Status::kPamtPageNotEmpty, "PAMT_PAGE_NOT_EMPTY"},
    {Status::kInterruptedPamt, "INTERRUPTED_PAMT"},
    {Status::kMissingPamtPagePair, "MISSING_PAMT_PAGE_PAIR"},
    {Status::kSysNotReady, "SYS_NOT_READY"},
    {Status::kSysConfigNotPending, "SYS_CONFIG_NOT_PENDING"},
    {Status::kTdFatal, "TD_FATAL"},
    {Status::kLifecycleStateIncorrect, "LIFECYCLE_STATE_INCORRECT"},
    {Status::kOpStateIncorrect, "OP_STATE_INCORRECT"},
    {Status::kNoVcpus, "NO_VCPUS"},
    {Status::kVcpuStateIncorrect, "VCPU_STATE_INCORRECT"},
    {Status::kNoValidVeInfo, "NO_VALID_VE_INFO"},
    {Status::kMaxVcpusExceeded, "MAX_VCPUS_EXCEEDED"},
    {Status::kInvalidTdmr, "INVALID_TDMR"},
    {Status::kNonOrderedTdmr, "NON_ORDERED_TDMR"},
    {Status::kTdmrOutsideCmrs, "TDMR_OUTSIDE_CMRS"},
    {Status::kTdmrAlreadyInitialized, "TDMR_ALREADY_INITIALIZED"},
    {Status::kInvalidPamt, "INVALID_PAMT"},
    {Status::kPamtOutsideCmrs, "PAMT_OUTSIDE_CMRS"},
    {Status::kPamtOverlap, "PAMT_OVERLAP"},
    {Status::kInvalidReservedInTdmr, "INVALID_RESERVED_IN_TDMR"},
    {Status::kNonOrderedReservedInTdmr, "NON_ORDERED_RESERVED_IN_TDMR"},
    {Status::kCmrListInvalid, "CMR_LIST_INVALID"},
    {Status::kEptWalkFailed, "EPT_WALK_FAILED"},
    {Status::kEptEntryFree, "EPT_ENTRY_FREE"},
    {Status::kEptEntryNotFree, "EPT_ENTRY_NOT_FREE"},
    {Status::kEptEntryNotPresent, "EPT_ENTRY_NOT_PRESENT"},
    {Status::kEptEntryNotLeaf, "EPT_ENTRY_NOT_LEAF"},
    {Status::kEptEntryLeaf, "EPT_ENTRY_LEAF"},
    {Status::kGpaRangeNotBlocked, "GPA_RANGE_NOT_BLOCKED"},
    {Status::kGpaRangeAlreadyBlocked, "GPA_RANGE_ALREADY_BLOCKED"},
    {Status::kTlbTrackingNotDone, "TLB_TRACKING_NOT_DONE"},
    {Status::kEptInvalidPromoteConditions, "EPT_INVALID_PROMOTE_CONDITIONS"},
    {Status::kPageAlreadyAccepted, "PAGE_ALREADY_ACCEPTED"},
    {Status::kPageSizeMismatch, "PAGE_SIZE_MISMATCH"},
    {Status::kGpaRangeBlocked, "GPA_RANGE_BLOCKED"},
    {Status::kEptEntryStateIncorrect, "EPT_ENTRY_STATE_INCORRECT"},
    {Status::kEptPageNotFree, "EPT_PAGE_NOT_FREE"},
    {Status::kL2SeptWalkFailed, "L2_SEPT_WALK_FAILED"},
    {Status::kL2SeptEntryNotFree, "L2_SEPT_ENTRY_NOT_FREE"},
    {Status::kPageAttrInvalid, "PAGE_ATTR_INVALID"},
    {Status::kL2SeptPageNotProvided, "L2_SEPT_PAGE_NOT_PROVIDED"},
    {Status::kMetadataFieldIdIncorrect, "METADATA_FIELD_ID_INCORRECT"},
    {Status::kMetadataFieldNotWritable, "METADATA_FIELD_NOT_WRITABLE"},
    {Status::kMetadataFieldNotReadable, "METADATA_FIELD_NOT_READABLE"},
    {Status::kMetadataFieldValueNotValid, "METADATA_FIELD_VALUE_NOT_VALID"},
    {Status::kMetadataFirstFieldIdInContext, "METADATA_FIRST_FIELD_ID_IN_CONTEXT"},
});

/// Operand ids: bits 31:0 of most errors name the operand at fault.
enum class Operand : std::uint32_t {
  kRax = 0,
  kRcx = 1,
  kRdx = 2,
  kRbx = 3,
  kRbp = 5,
  kRsi = 6,
  kRdi = 7,
  kR8 = 8,
  kR9 = 9,
  kR10 = 10,
  kR11 = 11,
  kR12 = 12,
  kR13 = 13,
  kR14 = 14,
  kR15 = 15,
  kAttributes = 64,
  kXfam = 65,
  kPage = 95,
  kTdmrInfoPa = 96,
  kTdr = 128,
  kTdcx = 129,
  kTdvpr = 130,
  kTdcs = 144,
  kTdvps = 145,
  kSeptTree = 146,
  kSeptEntry = 147,
  kRtmr = 168,
  kTdEpoch = 169,
  kOpState = 172,
  kMetadataField = 176,
  kSys = 184,
  kTdmr = 185,
  kKot = 186,
  kKet = 187,
  kWbcache = 188,
};

/// The 64-bit status word with `details` in bits 31:0.
[[nodiscard]] constexpr std::uint64_t status(Status code, std::uint32_t details = 0) {
  return (std::uint64_t{static_cast<std::uint32_t>(code)} << 32) | details;
}
/// The 64-bit status word that blames `operand`.
[[nodiscard]] constexpr std::uint64_t status(Status code, Operand operand) {
  return status(code, static_cast<std::uint32_t>(operand));
}
/// The 64-bit status word that names a page level (PAGE_ALREADY_ACCEPTED, PAGE_SIZE_MISMATCH).
[[nodiscard]] constexpr std::uint64_t status(Status code, PageSize level) {
  return status(code, static_cast<std::uint32_t>(level));
}

/// Bits 63:32, whether or not the code is one of ours.
[[nodiscard]] constexpr Status code_of(std::uint64_t word) {
  return static_cast<Status>(static_cast<std::uint32_t>(word >> 32));
}
[[nodiscard]] constexpr std::uint32_t details_of(std::uint64_t word) {
  return static_cast<std::uint32_t>(word);
}
/// Bit 63. A nonzero word with bit 63 clear is a warning: the call did what was asked.
[[nodiscard]] constexpr bool is_error(std::uint64_t word) {
  return (word >> 63) != 0;
}

/// The vendor's name of a code; "unknown" for a code without one.
[[nodiscard]] constexpr std::string_view name_of(Status code) {
  for (const StatusName& entry : kStatusNames) {
    if (entry.code == code) {
      return entry.name;
    }
  }
  return "unknown"sv;
}
/// The vendor's name of the code in a 64-bit status word.
[[nodiscard]] constexpr std::string_view name_of(std::uint64_t word) {
  return name_of(code_of(word));
}

// ---------------------------------------------------------------------------------------------
// MEM.PAGE.ACCEPT / RELEASE operand (2.1)

/// RCX of MEM.PAGE.ACCEPT and MEM.PAGE.RELEASE.
struct PageOperand {
  using ReservedHigh = BitField<std::uint64_t, 63, 52>;  ///< must be 0
  using Gpa = BitField<std::uint64_t, 51, 12>;
  using ReservedLow = BitField<std::uint64_t, 11, 3>;  ///< must be 0
  using Level = BitField<std::uint64_t, 2, 0>;

  /// Output flags of MEM.PAGE.RELEASE and MEM.PAGE.ATTR.RD.
  using PendingFlag = BitField<std::uint64_t, 62>;
  using MmioFlag = BitField<std::uint64_t, 61>;

  /// The operand for a page. Precondition: `gpa` is a multiple of 4 KiB below 2^52.
  [[nodiscard]] static constexpr std::uint64_t make(PhysAddr gpa, PageSize level) {
    return Gpa::set(Level::set(0, static_cast<std::uint64_t>(level)), gpa.value() >> 12);
  }
  [[nodiscard]] static constexpr PhysAddr gpa(std::uint64_t rcx) {
    return PhysAddr{Gpa::get(rcx) << 12};
  }
};

// ---------------------------------------------------------------------------------------------
// Metadata fields (1.2)

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

// ---------------------------------------------------------------------------------------------
// TDG.VP.VMCALL (3)

/// Numbers of the general registers in the RCX mask of VP.VMCALL.
enum class Gpr : std::uint8_t {
  kRax = 0,
  kRcx = 1,
  kRdx = 2,
  kRbx = 3,
  kRsp = 4,
  kRbp = 5,
  kRsi = 6,
  kRdi = 7,
  kR8 = 8,
  kR9 = 9,
  kR10 = 10,
  kR11 = 11,
  kR12 = 12,
  kR13 = 13,
  kR14 = 14,
  kR15 = 15,
};

/// RCX of VP.VMCALL: which registers the VMM sees and may write.
struct VmcallMask {
  using Reserved = BitField<std::uint64_t, 63, 32>;  ///< must be 0
  using Xmm = BitField<std::uint64_t, 31, 16>;       ///< bit n = XMMn
  using General = BitField<std::uint64_t, 15, 0>;    ///< bit n = Gpr n
  /// RAX, RCX and RSP are never exposed; RBP neither with CONFIG_FLAGS.NO_RBP_MOD.
  static constexpr std::uint64_t kForbidden = 0b1'0011;
  static constexpr std::uint64_t kForbiddenRbp = 1ULL << 5;
  /// What Linux and EDK II use: RDX, RBX, RSI, RDI, R8..R15.
  static constexpr std::uint64_t kUsual = 0xFFCC;

  [[nodiscard]] static constexpr bool exposes(std::uint64_t mask, Gpr gpr) {
    return ((mask >> static_cast<unsigned>(gpr)) & 1) != 0;
  }
};

/// Sub-functions of VP.VMCALL: R11 when R10 is 0.
enum class Vmcall : std::uint64_t {
  kCpuid = 10,
  kHlt = 12,
  kIo = 30,
  kRdmsr = 31,
  kWrmsr = 32,
  kRequestMmio = 48,
  kWbinvd = 54,
  kPconfig = 65,
  kGetTdVmCallInfo = 0x10000,
  kMapGpa = 0x10001,
  kGetQuote = 0x10002,
  kReportFatalError = 0x10003,
  kSetupEventNotifyInterrupt = 0x10004,
  kService = 0x10005,
  kMigTd = 0x10006,
};

/// The GHCI name of a sub-function; "unknown" for a number without one.
[[nodiscard]] constexpr std::string_view name_of(Vmcall function) {
  switch (function) {
    case Vmcall::kCpuid:
      return "Instruction.CPUID"sv;
    case Vmcall::kHlt:
      return "Instruction.HLT"sv;
    case Vmcall::kIo:
      return "Instruction.IO"sv;
    case Vmcall::kRdmsr:
      return "Instruction.RDMSR"sv;
    case Vmcall::kWrmsr:
      return "Instruction.WRMSR"sv;
    case Vmcall::kRequestMmio:
      return "RequestMMIO"sv;
    case Vmcall::kWbinvd:
      return "Instruction.WBINVD"sv;
    case Vmcall::kPconfig:
      return "Instruction.PCONFIG"sv;
    case Vmcall::kGetTdVmCallInfo:
      return "GetTdVmCallInfo"sv;
    case Vmcall::kMapGpa:
      return "MapGPA"sv;
    case Vmcall::kGetQuote:
      return "GetQuote"sv;
    case Vmcall::kReportFatalError:
      return "ReportFatalError"sv;
    case Vmcall::kSetupEventNotifyInterrupt:
      return "SetupEventNotifyInterrupt"sv;
    case Vmcall::kService:
      return "Service"sv;
    case Vmcall::kMigTd:
      return "MigTD"sv;
  }
  return "unknown"sv;
}

/// R10 after VP.VMCALL.
enum class VmcallStatus : std::uint64_t {
  kSuccess = 0,
  kRetry = 1,
  kInvalidOperand = 0x8000'0000'0000'0000,
  kGpaInUse = 0x8000'0000'0000'0001,
  kAlignError = 0x8000'0000'0000'0002,
  kSubfuncUnsupported = 0x8000'0000'0000'0003,
};

/// The GHCI name of an R10 status; "unknown" for a number without one.
[[nodiscard]] constexpr std::string_view name_of(VmcallStatus value) {
  switch (value) {
    case VmcallStatus::kSuccess:
      return "SUCCESS"sv;
    case VmcallStatus::kRetry:
      return "RETRY"sv;
    case VmcallStatus::kInvalidOperand:
      return "INVALID_OPERAND"sv;
    case VmcallStatus::kGpaInUse:
      return "GPA_INUSE"sv;
    case VmcallStatus::kAlignError:
      return "ALIGN_ERROR"sv;
    case VmcallStatus::kSubfuncUnsupported:
      return "SUBFUNC_UNSUPPORTED"sv;
  }
  return "unknown"sv;
}

// ---------------------------------------------------------------------------------------------
// #VE (1.1, 5.3) and detection (4)

inline constexpr unsigned kVeVector = 20;

/// Exit reasons: RCX of VP.VEINFO.GET, and RAX of an asynchronous TDH.VP.ENTER return.
enum class ExitReason : std::uint32_t {
  kCpuid = 10,
  kHlt = 12,
  kIo = 30,
  kRdmsr = 31,
  kWrmsr = 32,
  kEptViolation = 48,
  kTdcall = 77,
};

/// What VP.VEINFO.GET returns, in register order RCX, RDX, R8, R9, R10.
struct VeInfo {
  std::uint64_t exit_reason;         ///< RCX, 32 bits used
  std::uint64_t exit_qualification;  ///< RDX
  std::uint64_t gla;                 ///< R8: guest linear address
  std::uint64_t gpa;                 ///< R9: guest physical address, shared bit included
  std::uint64_t instruction;         ///< R10: length 31:0, information 63:32

  using InstructionInfo = BitField<std::uint64_t, 63, 32>;
  using InstructionLength = BitField<std::uint64_t, 31, 0>;
};
static_assert(sizeof(VeInfo) == 40 && offsetof(VeInfo, exit_qualification) == 8 &&
              offsetof(VeInfo, gla) == 16 && offsetof(VeInfo, gpa) == 24 &&
              offsetof(VeInfo, instruction) == 32);

/// Exit qualification of a #VE for port I/O.
struct IoQualification {
  using Port = BitField<std::uint64_t, 31, 16>;
  using Rep = BitField<std::uint64_t, 5>;
  using String = BitField<std::uint64_t, 4>;
  using In = BitField<std::uint64_t, 3>;  ///< 1 = IN; the IO sub-function counts the other way
  using SizeMinusOne = BitField<std::uint64_t, 2, 0>;
};

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

// ---------------------------------------------------------------------------------------------
// TDREPORT (1.3)

using Sha384Digest = std::array<std::uint8_t, 48>;

/// REPORTTYPE: first four bytes of the report.
struct ReportType {
  std::uint8_t type;  ///< 0x81: TDX
  std::uint8_t subtype;
  std::uint8_t version;  ///< 1 if a service TD is bound
  std::uint8_t reserved;
};
static_assert(sizeof(ReportType) == 4);

struct ReportMac {
  ReportType report_type;
  std::array<std::uint8_t, 12> reserved1;
  std::array<std::uint8_t, 16> cpu_svn;
  Sha384Digest tee_tcb_info_hash;
  Sha384Digest tee_info_hash;
  std::array<std::uint8_t, 64> report_data;
  std::array<std::uint8_t, 32> reserved2;
  std::array<std::uint8_t, 32> mac;
};
static_assert(sizeof(ReportMac) == 256);
static_assert(offsetof(ReportMac, reserved1) == 4 && offsetof(ReportMac, cpu_svn) == 16 &&
              offsetof(ReportMac, tee_tcb_info_hash) == 32 &&
              offsetof(ReportMac, tee_info_hash) == 80 && offsetof(ReportMac, report_data) == 128 &&
              offsetof(ReportMac, reserved2) == 192 && offsetof(ReportMac, mac) == 224);

struct TeeTcbInfo {
  std::uint64_t valid;
  std::array<std::uint8_t, 16> tee_tcb_svn;
  Sha384Digest mrseam;
  Sha384Digest mrsignerseam;
  std::uint64_t attributes;
  std::array<std::uint8_t, 128> reserved;
};
static_assert(sizeof(TeeTcbInfo) == 256);
static_assert(offsetof(TeeTcbInfo, tee_tcb_svn) == 8 && offsetof(TeeTcbInfo, mrseam) == 24 &&
              offsetof(TeeTcbInfo, mrsignerseam) == 72 && offsetof(TeeTcbInfo, attributes) == 120 &&
              offsetof(TeeTcbInfo, reserved) == 128);

struct TdInfo {
  std::uint64_t attributes;
  std::uint64_t xfam;
  Sha384Digest mrtd;
  Sha384Digest mrconfigid;
  Sha384Digest mrowner;
  Sha384Digest mrownerconfig;
  std::array<Sha384Digest, 4> rtmr;
  Sha384Digest servtd_hash;
  std::array<std::uint8_t, 64> reserved;
};
static_assert(sizeof(TdInfo) == 512);
static_assert(offsetof(TdInfo, xfam) == 8 && offsetof(TdInfo, mrtd) == 16 &&
              offsetof(TdInfo, mrconfigid) == 64 && offsetof(TdInfo, mrowner) == 112 &&
              offsetof(TdInfo, mrownerconfig) == 160 && offsetof(TdInfo, rtmr) == 208 &&
              offsetof(TdInfo, servtd_hash) == 400 && offsetof(TdInfo, reserved) == 448);

/// The report that MR.REPORT writes; must lie on a 1024-byte boundary.
struct TdReport {
  ReportMac mac;
  TeeTcbInfo tee_tcb_info;
  TdInfo td_info;
};
static_assert(sizeof(TdReport) == 1024 && offsetof(TdReport, tee_tcb_info) == 256 &&
              offsetof(TdReport, td_info) == 512);
inline constexpr std::uint8_t kReportTypeTdx = 0x81;

// ---------------------------------------------------------------------------------------------
// Secure EPT entries (2.4)

/// Levels of secure-EPT entries. 0..2 are also leaf sizes (PageSize has the same numbers).
enum class SeptLevel : std::uint8_t { k4K = 0, k2M = 1, k1G = 2, k512G = 3, k256T = 4 };

[[nodiscard]] constexpr SeptLevel sept_level(PageSize size) {
  return static_cast<SeptLevel>(size);
}
/// Number of address bits below an entry of this level: 12, 21, 30, 39, 48.
[[nodiscard]] constexpr unsigned level_shift(SeptLevel level) {
  return 12U + 9U * static_cast<unsigned>(level);
}
/// Bytes that one entry of this level covers.
[[nodiscard]] constexpr Bytes level_bytes(SeptLevel level) {
  return Bytes{1ULL << level_shift(level)};
}

/// Short name of a level, e.g. "2M".
[[nodiscard]] constexpr std::string_view name_of(SeptLevel level) {
  constexpr std::array<std::string_view, 5> kNames{"4K", "2M", "1G", "512G", "256T"};
  const auto index = static_cast<std::size_t>(level);
  return index < kNames.size() ? kNames[index] : "unknown"sv;
}

/// Public state numbers, as TDH calls return them.
enum class SeptState : std::uint8_t {
  kFree = 0,
  kBlocked = 1,
  kPending = 2,
  kPendingBlocked = 3,
  kMapped = 4,
  kRemoved = 5,
  kBlockedW = 8,
  kExportedBlockedW = 9,
  kExportedDirty = 11,
  kExportedDirtyBlockedW = 12,
  kPendingBlockedW = 16,
  kPendingExportedBlockedW = 17,
  kPendingExportedDirty = 19,
  kPendingExportedDirtyBlockedW = 20,  ///< number INFERRED (reference 2.4)
  kNonLeafBlocked = 129,
  kNonLeafMapped = 132,
};

/// Bits of a secure-EPT entry.
struct SeptEntry {
  using SuppressVe = BitField<std::uint64_t, 63>;
  using Tdup = BitField<std::uint64_t, 61>;
  using Pw = BitField<std::uint64_t, 58>;
  using Vpw = BitField<std::uint64_t, 57>;
  using Tdp = BitField<std::uint64_t, 56>;
  using Tdb = BitField<std::uint64_t, 55>;
  using Tdbw = BitField<std::uint64_t, 54>;
  using Tdex = BitField<std::uint64_t, 53>;
  using Tdhp = BitField<std::uint64_t, 52>;               ///< host priority
  using Hpa = BitField<std::uint64_t, 51, 12>;            ///< in 4 KiB pages
  using AcceptCounter = BitField<std::uint64_t, 20, 12>;  ///< of a 2M PENDING leaf: pages zeroed
  using Tdel = BitField<std::uint64_t, 11>;               ///< entry lock
  using ExecuteUser = BitField<std::uint64_t, 10>;        ///< L2 tables only
  using Dirty = BitField<std::uint64_t, 9>;
  using Accessed = BitField<std::uint64_t, 8>;
  using Leaf = BitField<std::uint64_t, 7>;  ///< 1 for 4K leaves too
  using Ipat = BitField<std::uint64_t, 6>;
  using MemoryType = BitField<std::uint64_t, 5, 3>;  ///< 6 = write back
  using Execute = BitField<std::uint64_t, 2>;
  using Write = BitField<std::uint64_t, 1>;
  using Read = BitField<std::uint64_t, 0>;

  static constexpr std::uint64_t kMemoryTypeWriteBack = 6;
  static constexpr std::uint64_t kPermissionMask = 0b111;
  /// The bits {7,6,56,55,54,53,9} that encode the state.
  static constexpr std::uint64_t kStateMask = Leaf::kMask | Ipat::kMask | Tdp::kMask | Tdb::kMask |
                                              Tdbw::kMask | Tdex::kMask | Dirty::kMask;
  /// What every entry of a fresh table holds: FREE, #VE suppressed.
  static constexpr std::uint64_t kFresh = 0x80E0'0000'0000'0000;
};

/// A state, the mask that encodes it, and its name in reports.
struct SeptStateInfo {
  SeptState state;
  std::uint64_t mask;  ///< value of SeptEntry::kStateMask's bits
  std::string_view name;
};

/// Every state. Masks of the BLOCKEDW family are INFERRED from "BLOCKEDW adds bit 54, the pending
/// form adds bit 56" (reference 2.4) and from EXPORTED = TDEX, DIRTY = D.
inline constexpr auto kSeptStates = std::to_array<SeptStateInfo>({
    {SeptState::kFree, 0x00E0'0000'0000'0000, "FREE"},
    {SeptState::kBlocked, 0x0080'0000'0000'00C0, "BLOCKED"},
    {SeptState::kPending, 0x0100'0000'0000'00C0, "PENDING"},
    {SeptState::kPendingBlocked, 0x0180'0000'0000'00C0, "PENDING_BLOCKED"},
    {SeptState::kMapped, 0x0000'0000'0000'00C0, "MAPPED"},
    {SeptState::kRemoved, 0x00C0'0000'0000'0000, "REMOVED"},
    {SeptState::kBlockedW, 0x0040'0000'0000'00C0, "BLOCKEDW"},
    {SeptState::kExportedBlockedW, 0x0060'0000'0000'00C0, "EXPORTED_BLOCKEDW"},
    {SeptState::kExportedDirty, 0x0020'0000'0000'02C0, "EXPORTED_DIRTY"},
    {SeptState::kExportedDirtyBlockedW, 0x0060'0000'0000'02C0, "EXPORTED_DIRTY_BLOCKEDW"},
    {SeptState::kPendingBlockedW, 0x0140'0000'0000'00C0, "PENDING_BLOCKEDW"},
    {SeptState::kPendingExportedBlockedW, 0x0160'0000'0000'00C0, "PENDING_EXPORTED_BLOCKEDW"},
    {SeptState::kPendingExportedDirty, 0x0120'0000'0000'02C0, "PENDING_EXPORTED_DIRTY"},
    {SeptState::kPendingExportedDirtyBlockedW, 0x0160'0000'0000'02C0,
     "PENDING_EXPORTED_DIRTY_BLOCKEDW"},
    {SeptState::kNonLeafBlocked, 0x0080'0000'0000'0000, "NL_BLOCKED"},
    {SeptState::kNonLeafMapped, 0x0000'0000'0000'0000, "NL_MAPPED"},
});

/// The vendor's name of a state; "unknown" for a number without one.
[[nodiscard]] constexpr std::string_view name_of(SeptState state) {
  for (const SeptStateInfo& info : kSeptStates) {
    if (info.state == state) {
      return info.name;
    }
  }
  return "unknown"sv;
}

// ---------------------------------------------------------------------------------------------
// Asynchronous exits to the VMM (2.5)

/// RCX of TDH.VP.ENTER at an EPT violation.
struct ExitQualification {
  using VmIndex = BitField<std::uint64_t, 33, 32>;
  using DataWrite = BitField<std::uint64_t, 1>;  ///< also set by an ACCEPT
};

/// RDX of TDH.VP.ENTER: extended exit qualification.
struct ExtendedQualification {
  enum class Type : std::uint8_t {
    kNone = 0,
    kAccept = 1,
    kGpaDetails = 2,
    kMsrLoadFailure = 3,
    kXstateFailure = 4,
    kAttrWr = 5,
    kPendingEptViolation = 6,
  };
  using VmIndex = BitField<std::uint64_t, 53, 52>;
  using IsLeaf = BitField<std::uint64_t, 46>;
  using ErrorState = BitField<std::uint64_t, 45, 38>;      ///< SeptState
  using ErrorLevel = BitField<std::uint64_t, 37, 35>;      ///< SeptLevel
  using RequestedLevel = BitField<std::uint64_t, 34, 32>;  ///< of the ACCEPT
  using TypeField = BitField<std::uint64_t, 3, 0>;
};

/// SEAMCALL leaf numbers that the host models implement (6).
enum class SeamcallLeaf : std::uint16_t {
  kMemPageAdd = 2,
  kMemSeptAdd = 3,
  kMemPageAug = 6,
  kMemRangeBlock = 7,
  kMemPageDemote = 15,
  kMrExtend = 16,
  kMrFinalize = 17,
  kMemPagePromote = 23,
  kMemPageRemove = 29,
  kMemTrack = 38,
  kMemRangeUnblock = 39,
};

}  // namespace accede::abi::tdx
