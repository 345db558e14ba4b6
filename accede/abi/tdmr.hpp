// What a host tells the TDX module about memory: convertible ranges (CMR), TD memory regions (TDMR)
// and their metadata arrays (PAMT). Source: reference: TDX fact sheet, section 6.
#pragma once

#include "accede/base/units.hpp"

#include <array>
#include <cstdint>

namespace accede::abi::tdx {

/// Limits that the module reports; every module so far reports these.
inline constexpr std::size_t kMostCmrs = 32;
inline constexpr std::size_t kMostTdmrs = 64;
inline constexpr std::size_t kMostReservedAreas = 16;  ///< of one TDMR

/// Base and size of a TDMR are multiples of this.
inline constexpr Bytes kTdmrGranule = 1_GiB;
/// Of the list of TDMR addresses and of each TDMR_INFO.
inline constexpr Bytes kTdmrInfoAlignment{512};
/// Of one page, whatever its size. PAMT holds one entry for each page of each size.
inline constexpr Bytes kPamtEntryBytes{16};

/// CMR_INFO: memory that can become private. 4 KiB aligned, ascending, disjoint.
struct CmrInfo {
  std::uint64_t base;
  std::uint64_t size;

  friend bool operator==(const CmrInfo&, const CmrInfo&) = default;
};
static_assert(sizeof(CmrInfo) == 16);

/// A part of a TDMR that holds no TD memory. Size 0 ends the list.
struct ReservedArea {
  std::uint64_t offset;  ///< from the base of the TDMR
  std::uint64_t size;

  friend bool operator==(const ReservedArea&, const ReservedArea&) = default;
};
static_assert(sizeof(ReservedArea) == 16);

/// One metadata array, of pages of one size.
struct PamtArea {
  std::uint64_t base;
  std::uint64_t size;

  friend bool operator==(const PamtArea&, const PamtArea&) = default;
};
static_assert(sizeof(PamtArea) == 16);

/// TDMR_INFO, as TDH.SYS.CONFIG reads it.
struct TdmrInfo {
  std::uint64_t base;
  std::uint64_t size;
  PamtArea pamt_1g;
  PamtArea pamt_2m;
  PamtArea pamt_4k;  ///< with dynamic PAMT: a bitmap, one bit a page
  std::array<ReservedArea, kMostReservedAreas> reserved;

  friend bool operator==(const TdmrInfo&, const TdmrInfo&) = default;
};
static_assert(sizeof(TdmrInfo) == 320);

}  // namespace accede::abi::tdx
