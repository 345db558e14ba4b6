// The status word in RAX: codes, operand ids, names (reference 2.2).
#pragma once

#include "accede/base/units.hpp"

#include <array>
#include <cstdint>
#include <string_view>

namespace accede::abi::tdx {

// Literals with their length: without it clang calls strlen, which a kernel need not have.
using namespace std::string_view_literals;

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
  kEptpControls = 67,
  kMaxVcpus = 68,
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

}  // namespace accede::abi::tdx
