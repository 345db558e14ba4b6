// The address space in whole GiB, as far as the layout of TDMRs must tell them apart.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/tdmr_pieces.hpp"
#include "accede/host/tdmr_workspace.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace accede::host {

/// A stretch inside a block: memory to reserve in one area, or memory to keep.
struct TdmrRun {
  PhysRange range;
  Bytes required;  ///< of it; 0 in a hole
  bool hole = false;
};

/// Consecutive GiB that a TDMR covers together or not at all: one GiB, or many of one piece.
struct TdmrBlock {
  PhysRange range;
  std::span<const TdmrRun> runs;  ///< holes and kept memory take turns
  Bytes required;
  NodeId node{};           ///< of the largest required piece
  bool two_nodes = false;  ///< there is required memory on more than one

  [[nodiscard]] bool needed() const { return required > Bytes{}; }
  [[nodiscard]] std::size_t holes() const {
    const bool outer = runs.front().hole;
    return outer ? (runs.size() + 1) / 2 : runs.size() / 2;
  }
  [[nodiscard]] std::uint64_t granules() const { return range.size() / abi::tdx::kTdmrGranule; }
};

/// Bounds for `pieces` pieces: every boundary of a piece is in one block of a GiB, and begins
/// another block at most.
[[nodiscard]] constexpr std::size_t most_blocks(std::size_t pieces) {
  return 2 * pieces + 1;
}
[[nodiscard]] constexpr std::size_t most_runs(std::size_t pieces) {
  return pieces + most_blocks(pieces);
}

/// Adds the blocks of `pieces` (cut_memory()). Precondition: room for the bounds.
void cut_blocks(std::span<const MemoryPiece> pieces, TdmrList<TdmrRun>& runs,
                TdmrList<TdmrBlock>& blocks);

}  // namespace accede::host
