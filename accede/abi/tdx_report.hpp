// TDREPORT, as MR.REPORT writes it (reference 1.3).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace accede::abi::tdx {

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

}  // namespace accede::abi::tdx
