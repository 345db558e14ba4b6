// TDG.VP.VMCALL: registers, sub-functions, answers (reference 3).
#pragma once

#include "accede/base/bit_field.hpp"

#include <cstdint>
#include <string_view>

namespace accede::abi::tdx {

// Literals with their length: without it clang calls strlen, which a kernel need not have.
using namespace std::string_view_literals;

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

}  // namespace accede::abi::tdx
