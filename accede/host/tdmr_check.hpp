// What TDH.SYS.CONFIG checks before it takes a list of TDMRs.
// Source: reference: TDX fact sheet, section 6; TDX module: SYS.CONFIG.
#pragma once

#include "accede/abi/tdmr.hpp"
#include "accede/abi/tdx_status.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace accede::host {

/// The machine that the list is for.
struct TdmrMachine {
  std::span<const abi::tdx::CmrInfo> cmrs;  ///< as the module reports them; check_cmrs()
  unsigned physical_bits = 52;              ///< of an address with the bits of the key id
  unsigned key_bits = 6;                    ///< the highest bits of physical_bits select a key
  bool dynamic_pamt = false;                ///< a bitmap in the place of the 4 KiB pages' array

  /// One past the highest address that has no bit of a key id. Precondition, here and wherever a
  /// machine is taken: key_bits < physical_bits <= 52.
  [[nodiscard]] PhysAddr memory_end() const;
};

/// What bits 31:0 of a refused list say: bytes 0 to 2 of the word.
struct TdmrBlame {
  std::uint8_t tdmr;   ///< index in the list
  std::uint8_t part;   ///< PAMT errors: the page size (PageSize); reserved areas: their index
  std::uint8_t other;  ///< PAMT_OVERLAP: index of the TDMR that it overlaps, itself or its PAMT

  [[nodiscard]] static constexpr TdmrBlame of(std::uint64_t status) {
    return {.tdmr = static_cast<std::uint8_t>(status),
            .part = static_cast<std::uint8_t>(status >> 8),
            .other = static_cast<std::uint8_t>(status >> 16)};
  }
  friend bool operator==(const TdmrBlame&, const TdmrBlame&) = default;
};

/// The least size of the metadata array for pages of `page` of a TDMR of `size` bytes: entries of
/// 16 bytes, or with dynamic PAMT and 4 KiB pages one bit a page; in whole 4 KiB. Precondition:
/// `size` is a multiple of 1 GiB below 2^52.
[[nodiscard]] Bytes least_pamt_size(Bytes size, PageSize page, bool dynamic_pamt);

/// 4 KiB aligned, at most kMostCmrs, ascending, disjoint, none empty, all below memory_end():
/// kSuccess or CMR_LIST_INVALID.
[[nodiscard]] std::uint64_t check_cmrs(const TdmrMachine& machine);

/// The module's answer to the list, the whole status word: 0, or the error of the first check that
/// fails. In the module's order: the count OPERAND_INVALID|RDX; dynamic PAMT with more than 48
/// address bits below the key id OPERAND_INVALID|R8; then each TDMR, all of it before the next:
/// order, address, reserved areas, PAMT size and place, PAMT overlap, PAMT in CMRs, memory in CMRs.
/// TdmrBlame names the culprit. Precondition: sound CMRs.
[[nodiscard]] std::uint64_t check_tdmrs(const TdmrMachine& machine,
                                        std::span<const abi::tdx::TdmrInfo> tdmrs);

}  // namespace accede::host
