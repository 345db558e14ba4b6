// From chosen TDMRs and placed metadata to reserved areas, and what becomes of every piece of RAM.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/tdmr_pamt.hpp"
#include "accede/host/tdmr_pieces.hpp"
#include "accede/host/tdmr_plan.hpp"
#include "accede/host/tdmr_workspace.hpp"

#include <cstddef>
#include <span>

namespace accede::host {

/// What is decided about the address space. All lists ascend.
struct TdmrDecisions {
  std::span<const MemoryPiece> pieces;
  std::span<const PhysRange> abandoned;  ///< abandon()
  std::span<const PlannedPamt> pamt;     ///< placed so far
};

/// Adds the RAM that can hold metadata: what `tdmrs` keep, and with `use_abandoned` what they
/// leave. Precondition: room for most_slots().
void find_slots(const TdmrDecisions& decisions, std::span<const PlannedTdmr> tdmrs,
                bool use_abandoned, TdmrList<PamtSlot>& slots);
[[nodiscard]] constexpr std::size_t most_slots(std::size_t pieces, std::size_t runs) {
  return 2 * (pieces + runs + abi::tdx::kMostTdmrs);
}

/// Sets the areas and the TD memory of `tdmr`. Precondition: they are not more than a TDMR has.
void reserve_areas(const TdmrDecisions& decisions, PlannedTdmr& tdmr);

/// Adds a NodeMemory for every node with wanted memory, ascending; `given_up` for every part of
/// RAM that is neither TD memory nor metadata; `not_convertible` for every part outside CMRs.
/// Preconditions: reserve_areas() is done; room for a node and a `not_convertible` per piece, and
/// for most_given_up().
struct TdmrAccounts {
  TdmrList<NodeMemory> nodes;
  TdmrList<GivenUp> given_up;
  TdmrList<GivenUp> not_convertible;
};
void account(const TdmrDecisions& decisions, std::span<const PlannedTdmr> tdmrs,
             TdmrAccounts& accounts);
[[nodiscard]] constexpr std::size_t most_given_up(std::size_t pieces, std::size_t runs) {
  return pieces + runs + 3 * abi::tdx::kMostTdmrs;
}

}  // namespace accede::host
