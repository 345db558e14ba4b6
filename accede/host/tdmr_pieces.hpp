// The address space, cut where what the TDX module may do with memory changes.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/tdmr_memory.hpp"
#include "accede/host/tdmr_plan.hpp"
#include "accede/host/tdmr_workspace.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace accede::host {

/// What a TDMR that covers the memory does with it.
enum class TdmrDemand : std::uint8_t {
  kRequired,   ///< makes it TD memory, or metadata
  kOptional,   ///< either
  kForbidden,  ///< must reserve it
};

/// Memory of one sort, in whole 4 KiB pages.
struct MemoryPiece {
  PhysRange range;
  NodeId node{};
  TdmrDemand demand{};
  AreaReasons reasons;           ///< of kForbidden
  bool wanted = false;           ///< present, and of a kind that the policy includes
  bool not_convertible = false;  ///< wanted, but kForbidden because no CMR has it
  bool holds_pamt = false;       ///< ordinary RAM in a CMR
  /// kForbidden, or kOptional with kForbidden on both sides and nothing required between: an area
  /// that covers all of it costs no more.
  bool hole = false;

  [[nodiscard]] bool same_sort(const MemoryPiece& other) const;
};

/// Pieces that `ranges` ranges of the memory map and `excluded` excluded ranges make at most.
[[nodiscard]] constexpr std::size_t most_pieces(std::size_t ranges, std::size_t excluded) {
  return 2 * (ranges + excluded + abi::tdx::kMostCmrs) + 3;
}

/// Adds to `pieces` the memory from 0 to the end of the last GiB of `memory`: ascending, without
/// gaps, neighbours of different sort. RAM below 1 MiB is not wanted: no CMR has it, and operating
/// systems keep it for themselves. Preconditions: check_input() takes the input, and `pieces` has
/// room for most_pieces().
void cut_memory(const TdmrMachine& machine, std::span<const MemoryRange> memory,
                const TdmrPolicy& policy, TdmrList<MemoryPiece>& pieces);

}  // namespace accede::host
