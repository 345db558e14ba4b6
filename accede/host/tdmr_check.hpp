// What TDH.SYS.CONFIG checks before it takes a list of TDMRs.
// Source: reference: TDX fact sheet, section 6, in the module's order.
#pragma once

#include "accede/abi/tdmr.hpp"
#include "accede/abi/tdx_status.hpp"
#include "accede/base/units.hpp"

#include <cstdint>
#include <span>

namespace accede::host {

/// The machine that the list is for.
struct TdmrMachine {
  std::span<const abi::tdx::CmrInfo> cmrs;  ///< as the module reports them; check_cmrs()
  unsigned physical_bits = 52;              ///< of an address with the bits of the key id
  unsigned key_bits = 6;                    ///< the highest bits of physical_bits select a key
  bool dynamic_pamt = false;                ///< a bitmap in the place of the 4 KiB pages' array
};

/// The least size of the metadata array for pages of `page` of a TDMR of `size` bytes: entries of
/// 16 bytes, or with dynamic PAMT and 4 KiB pages one bit a page; in whole 4 KiB. Precondition:
/// `size` is a multiple of 1 GiB.
[[nodiscard]] Bytes least_pamt_size(Bytes size, PageSize page, bool dynamic_pamt);

/// 4 KiB aligned, at most kMostCmrs, ascending, disjoint, none empty, below 2^physical_bits:
/// kSuccess or CMR_LIST_INVALID.
[[nodiscard]] std::uint64_t check_cmrs(const TdmrMachine& machine);

/// The module's answer to the list, the whole status word: 0, or the error with the index of the
/// TDMR (and the page size, or the reserved area) in its low half. Precondition: sound CMRs.
[[nodiscard]] std::uint64_t check_tdmrs(const TdmrMachine& machine,
                                        std::span<const abi::tdx::TdmrInfo> tdmrs);

}  // namespace accede::host
