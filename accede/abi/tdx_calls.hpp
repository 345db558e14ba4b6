// TDCALL and SEAMCALL: leaf numbers and the operand that names a page (reference 1.1, 2.1, 6).
#pragma once

#include "accede/base/bit_field.hpp"
#include "accede/base/units.hpp"

#include <cstdint>
#include <string_view>

namespace accede::abi::tdx {

// Literals with their length: without it clang calls strlen, which a kernel need not have.
using namespace std::string_view_literals;

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

/// SEAMCALL leaf numbers that the host models implement (6).
enum class SeamcallLeaf : std::uint16_t {
  kMngAddcx = 1,
  kMemPageAdd = 2,
  kMemSeptAdd = 3,
  kVpAddcx = 4,
  kMemPageAug = 6,
  kMemRangeBlock = 7,
  kMngKeyConfig = 8,
  kMngCreate = 9,
  kVpCreate = 10,
  kMemPageDemote = 15,
  kMrExtend = 16,
  kMrFinalize = 17,
  kVpFlush = 18,
  kMngVpflushdone = 19,
  kMngKeyFreeid = 20,
  kMngInit = 21,
  kVpInit = 22,
  kMemPagePromote = 23,
  kPhymemPageRdmd = 24,
  kPhymemPageReclaim = 28,
  kMemPageRemove = 29,
  kSysKeyConfig = 31,
  kSysInit = 33,
  kSysLpInit = 35,
  kSysTdmrInit = 36,
  kMemTrack = 38,
  kMemRangeUnblock = 39,
  kPhymemCacheWb = 40,
  kPhymemPageWbinvd = 41,
  kSysConfig = 45,
};

}  // namespace accede::abi::tdx
