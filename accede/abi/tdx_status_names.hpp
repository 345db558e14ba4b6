// Names for people who decode a status word: the codes that no guest sees and no model here gives
// (module start, keys, CPU checks, service TDs, migration, nested VMs), operands, and the words
// that Linux makes of a SEAMCALL that never reached the module (TDX module: status and operand
// codes).
#pragma once

#include "accede/abi/tdx_status.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace accede::abi::tdx {

/// An entry of the table below, whose codes nothing but a decoder needs by name.
[[nodiscard]] constexpr StatusName other_status(std::uint32_t code, std::string_view name) {
  return {.code = static_cast<Status>(code), .name = name};
}

/// The codes that are not in kStatusNames, in ascending order of class and details.
inline constexpr auto kOtherStatusNames = std::to_array<StatusName>({
    other_status(0xC000'0006, "INVALID_RESUMPTION"),
    other_status(0xC000'0102, "EVENT_FILTER_INVALID"),
    other_status(0xC000'0103, "EVENT_FILTER_ORDER_INVALID"),
    other_status(0xC000'0400, "TD_ASSOCIATED_PAGES_EXIST"),
    other_status(0xC000'0500, "SYS_INIT_NOT_PENDING"),
    other_status(0xC000'0502, "SYS_LP_INIT_NOT_DONE"),
    other_status(0xC000'0503, "SYS_LP_INIT_DONE"),
    other_status(0xC000'0506, "SYS_SHUTDOWN"),
    other_status(0xC000'0507, "SYS_KEY_CONFIG_NOT_PENDING"),
    other_status(0xC000'0508, "SYS_STATE_INCORRECT"),
    other_status(0xC000'0509, "SYS_INVALID_HANDOFF"),
    other_status(0xC000'050A, "SYS_INCOMPATIBLE_SIGSTRUCT"),
    other_status(0xC000'050B, "SYS_LP_INIT_NOT_PENDING"),
    other_status(0xC000'050D, "INCOMPATIBLE_SEAM_CAPABILITIES"),
    other_status(0xC000'0511, "CRYPTO_SELF_TEST_FAILED"),
    other_status(0xC000'0605, "TD_NON_DEBUG"),
    other_status(0xC000'0606, "TDCS_NOT_ALLOCATED"),
    other_status(0xC000'0610, "TDCX_NUM_INCORRECT"),
    other_status(0xC000'0621, "X2APIC_ID_NOT_UNIQUE"),
    other_status(0x8000'0701, "VCPU_ASSOCIATED"),
    other_status(0x8000'0702, "VCPU_NOT_ASSOCIATED"),
    other_status(0xC000'0706, "TSC_ROLLBACK"),
    other_status(0xC000'0707, "INTERRUPTIBILITY_BLOCKED"),
    other_status(0xC000'0730, "TD_VMCS_FIELD_NOT_INITIALIZED"),
    other_status(0xC000'0731, "TD_VMCS_FIELD_ERROR"),
    other_status(0x8000'0800, "KEY_GENERATION_FAILED"),
    other_status(0x8000'0810, "TD_KEYS_NOT_CONFIGURED"),
    other_status(0xC000'0811, "KEY_STATE_INCORRECT"),
    other_status(0x0000'0815, "KEY_CONFIGURED"),
    other_status(0x8000'0817, "WBCACHE_NOT_COMPLETE"),
    other_status(0xC000'0820, "HKID_NOT_FREE"),
    other_status(0x0000'0821, "NO_HKID_READY_TO_WBCACHE"),
    other_status(0xC000'0823, "WBCACHE_RESUME_ERROR"),
    other_status(0x8000'0824, "FLUSHVP_NOT_DONE"),
    other_status(0xC000'0825, "NUM_ACTIVATED_HKIDS_NOT_SUPPORTED"),
    other_status(0xC000'0900, "INCORRECT_CPUID_VALUE"),
    other_status(0xC000'0901, "LIMIT_CPUID_MAXVAL_SET"),
    other_status(0xC000'0902, "INCONSISTENT_CPUID_FIELD"),
    other_status(0xC000'0903, "CPUID_MAX_SUBLEAVES_UNRECOGNIZED"),
    other_status(0xC000'0904, "CPUID_LEAF_1F_FORMAT_UNRECOGNIZED"),
    other_status(0xC000'0905, "INVALID_WBINVD_SCOPE"),
    other_status(0xC000'0906, "INVALID_PKG_ID"),
    other_status(0xC000'0907, "ENABLE_MONITOR_FSM_NOT_SET"),
    other_status(0xC000'0908, "CPUID_LEAF_NOT_SUPPORTED"),
    other_status(0xC000'0910, "SMRR_NOT_LOCKED"),
    other_status(0xC000'0911, "INVALID_SMRR_CONFIGURATION"),
    other_status(0xC000'0912, "SMRR_OVERLAPS_CMR"),
    other_status(0xC000'0913, "SMRR_LOCK_NOT_SUPPORTED"),
    other_status(0xC000'0914, "SMRR_NOT_SUPPORTED"),
    other_status(0xC000'0920, "INCONSISTENT_MSR"),
    other_status(0xC000'0921, "INCORRECT_MSR_VALUE"),
    other_status(0xC000'0930, "SEAMREPORT_NOT_AVAILABLE"),
    other_status(0xC000'0931, "SEAMDB_GETREF_NOT_AVAILABLE"),
    other_status(0xC000'0932, "SEAMDB_REPORT_NOT_AVAILABLE"),
    other_status(0xC000'0933, "SEAMVERIFYREPORT_NOT_AVAILABLE"),
    other_status(0xC000'0C04, "METADATA_LIST_OVERFLOW"),
    other_status(0xC000'0C05, "INVALID_METADATA_LIST_HEADER"),
    other_status(0xC000'0C06, "REQUIRED_METADATA_FIELD_MISSING"),
    other_status(0xC000'0C07, "METADATA_ELEMENT_SIZE_INCORRECT"),
    other_status(0xC000'0C08, "METADATA_LAST_ELEMENT_INCORRECT"),
    other_status(0xC000'0C09, "METADATA_FIELD_CURRENTLY_NOT_WRITABLE"),
    other_status(0xC000'0C0A, "METADATA_WR_MASK_NOT_VALID"),
    other_status(0x0000'0C0C, "METADATA_FIELD_SKIP"),
    other_status(0xC000'0C0D, "VIRTUAL_MSR_VALUE_NOT_VALID"),
    other_status(0xC000'0C0E, "METADATA_FIELD_NOT_ALLOCATED"),
    other_status(0xC000'0D00, "SERVTD_ALREADY_BOUND_FOR_TYPE"),
    other_status(0xC000'0D01, "SERVTD_TYPE_MISMATCH"),
    other_status(0xC000'0D02, "SERVTD_ATTR_MISMATCH"),
    other_status(0xC000'0D03, "SERVTD_INFO_HASH_MISMATCH"),
    other_status(0xC000'0D04, "SERVTD_UUID_MISMATCH"),
    other_status(0xC000'0D05, "SERVTD_NOT_BOUND"),
    other_status(0xC000'0D06, "SERVTD_BOUND"),
    other_status(0xC000'0D07, "TARGET_UUID_MISMATCH"),
    other_status(0xC000'0D08, "TARGET_UUID_UPDATED"),
    other_status(0xC000'0E00, "INVALID_MBMD"),
    other_status(0xC000'0E01, "INCORRECT_MBMD_MAC"),
    other_status(0xC000'0E02, "NOT_WRITE_BLOCKED"),
    other_status(0x0000'0E03, "ALREADY_WRITE_BLOCKED"),
    other_status(0xC000'0E04, "NOT_EXPORTED"),
    other_status(0xC000'0E05, "MIGRATION_STREAM_STATE_INCORRECT"),
    other_status(0xC000'0E06, "MAX_MIGS_NUM_EXCEEDED"),
    other_status(0xC000'0E07, "EXPORTED_DIRTY_PAGES_REMAIN"),
    other_status(0xC000'0E08, "MIGRATION_DECRYPTION_KEY_NOT_SET"),
    other_status(0xC000'0E09, "TD_NOT_MIGRATABLE"),
    other_status(0xC000'0E0A, "PREVIOUS_EXPORT_CLEANUP_INCOMPLETE"),
    other_status(0xC000'0E0B, "NUM_MIGS_HIGHER_THAN_CREATED"),
    other_status(0xC000'0E0C, "IMPORT_MISMATCH"),
    other_status(0xC000'0E0D, "MIGRATION_EPOCH_OVERFLOW"),
    other_status(0xC000'0E0E, "MAX_EXPORTS_EXCEEDED"),
    other_status(0xC000'0E0F, "INVALID_PAGE_MAC"),
    other_status(0xC000'0E10, "MIGRATED_IN_CURRENT_EPOCH"),
    other_status(0xC000'0E11, "DISALLOWED_IMPORT_OVER_REMOVED"),
    other_status(0xC000'0E12, "SOME_VCPUS_NOT_MIGRATED"),
    other_status(0xC000'0E13, "ALL_VCPUS_IMPORTED"),
    other_status(0xC000'0E14, "MIN_MIGS_NOT_CREATED"),
    other_status(0xC000'0E15, "VCPU_ALREADY_EXPORTED"),
    other_status(0xC000'0E16, "INVALID_MIGRATION_DECRYPTION_KEY"),
    other_status(0xC000'1000, "INVALID_CPUSVN"),
    other_status(0xC000'1001, "INVALID_REPORTMACSTRUCT"),
    other_status(0x0000'1100, "L2_EXIT_HOST_ROUTED_ASYNC"),
    other_status(0x0000'1101, "L2_EXIT_HOST_ROUTED_TDVMCALL"),
    other_status(0x0000'1102, "L2_EXIT_PENDING_INTERRUPT"),
    other_status(0x8000'1103, "L2_VM_ENTRY_FAILED"),
    other_status(0x0000'1120, "PENDING_INTERRUPT"),
    other_status(0x0000'1140, "TD_EXIT_BEFORE_L2_ENTRY"),
    other_status(0x0000'1141, "TD_EXIT_ON_L2_VM_EXIT"),
    other_status(0x0000'1142, "TD_EXIT_ON_L2_TO_L1"),
    other_status(0xC000'1160, "GLA_NOT_CANONICAL"),
});

/// The vendor's name of a code of either table; nothing for a code without one.
[[nodiscard]] constexpr std::optional<std::string_view> any_name_of(Status code) {
  for (const StatusName& entry : kStatusNames) {
    if (entry.code == code) {
      return entry.name;
    }
  }
  for (const StatusName& entry : kOtherStatusNames) {
    if (entry.code == code) {
      return entry.name;
    }
  }
  return std::nullopt;
}

/// An operand id and the vendor's name of it.
struct OperandName {
  Operand operand;
  std::string_view name;
};
inline constexpr auto kOperandNames = std::to_array<OperandName>({
    {static_cast<Operand>(0), "RAX"},
    {static_cast<Operand>(1), "RCX"},
    {static_cast<Operand>(2), "RDX"},
    {static_cast<Operand>(3), "RBX"},
    {static_cast<Operand>(5), "RBP"},
    {static_cast<Operand>(6), "RSI"},
    {static_cast<Operand>(7), "RDI"},
    {static_cast<Operand>(8), "R8"},
    {static_cast<Operand>(9), "R9"},
    {static_cast<Operand>(10), "R10"},
    {static_cast<Operand>(11), "R11"},
    {static_cast<Operand>(12), "R12"},
    {static_cast<Operand>(13), "R13"},
    {static_cast<Operand>(14), "R14"},
    {static_cast<Operand>(15), "R15"},
    {static_cast<Operand>(64), "ATTRIBUTES"},
    {static_cast<Operand>(65), "XFAM"},
    {static_cast<Operand>(66), "EXEC_CONTROLS"},
    {static_cast<Operand>(67), "EPTP_CONTROLS"},
    {static_cast<Operand>(68), "MAX_VCPUS"},
    {static_cast<Operand>(69), "CPUID_CONFIG"},
    {static_cast<Operand>(70), "TSC_FREQUENCY"},
    {static_cast<Operand>(71), "NUM_L2_VMS"},
    {static_cast<Operand>(72), "IA32_ARCH_CAPABILITIES_CONFIG"},
    {static_cast<Operand>(95), "PAGE"},
    {static_cast<Operand>(96), "TDMR_INFO_PA"},
    {static_cast<Operand>(97), "GPA_LIST_ENTRY"},
    {static_cast<Operand>(98), "MIG_BUFF_LIST_ENTRY"},
    {static_cast<Operand>(99), "NEW_PAGE_LIST_ENTRY"},
    {static_cast<Operand>(128), "TDR"},
    {static_cast<Operand>(129), "TDCX"},
    {static_cast<Operand>(130), "TDVPR"},
    {static_cast<Operand>(132), "REG_PAGE"},
    {static_cast<Operand>(144), "TDCS"},
    {static_cast<Operand>(145), "TDVPS"},
    {static_cast<Operand>(146), "SEPT_TREE"},
    {static_cast<Operand>(147), "SEPT_ENTRY"},
    {static_cast<Operand>(168), "RTMR"},
    {static_cast<Operand>(169), "TD_EPOCH"},
    {static_cast<Operand>(170), "L2_VAPIC_GPA"},
    {static_cast<Operand>(171), "MIGSC"},
    {static_cast<Operand>(172), "OP_STATE"},
    {static_cast<Operand>(173), "MIG"},
    {static_cast<Operand>(174), "SERVTD_BINDINGS"},
    {static_cast<Operand>(176), "METADATA_FIELD"},
    {static_cast<Operand>(177), "NUM_VCPUS"},
    {static_cast<Operand>(178), "CPUID_FIXED0_BITMAP"},
    {static_cast<Operand>(184), "SYS"},
    {static_cast<Operand>(185), "TDMR"},
    {static_cast<Operand>(186), "KOT"},
    {static_cast<Operand>(187), "KET"},
    {static_cast<Operand>(188), "WBCACHE"},
});
/// The vendor's name of an operand; nothing for a number without one.
[[nodiscard]] constexpr std::optional<std::string_view> any_name_of(Operand operand) {
  for (const OperandName& entry : kOperandNames) {
    if (entry.operand == operand) {
      return entry.name;
    }
  }
  return std::nullopt;
}

/// Linux's words for a SEAMCALL that the processor refused: bit 63, 0xFF in bits 47:40, and the
/// exception's vector; or this one when the instruction said VMfailInvalid.
inline constexpr std::uint64_t kSeamcallVmfailInvalid = 0x8000'FF00'FFFF'0000;
inline constexpr std::uint64_t kSeamcallUndefinedOpcode = 0x8000'FF00'0000'0006;
inline constexpr std::uint64_t kSeamcallGeneralProtection = 0x8000'FF00'0000'000D;

}  // namespace accede::abi::tdx
