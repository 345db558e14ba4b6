// Every list that the planner of TDMRs fills, in storage that is passed in.
#pragma once

#include "accede/abi/tdmr.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/tdmr_abandon.hpp"
#include "accede/host/tdmr_account.hpp"
#include "accede/host/tdmr_blocks.hpp"
#include "accede/host/tdmr_layout.hpp"
#include "accede/host/tdmr_pamt.hpp"
#include "accede/host/tdmr_pieces.hpp"
#include "accede/host/tdmr_plan.hpp"
#include "accede/host/tdmr_workspace.hpp"

#include <cstddef>
#include <span>

namespace accede::host {

/// RAM on one node.
struct TdmrNodeShare {
  NodeId node{};
  Bytes required;
};

/// Every list that the planner fills, with its bound.
struct TdmrLists {
  TdmrLists(std::size_t ranges, std::size_t excluded, TdmrWorkspace& workspace)
      : TdmrLists{most_pieces(ranges, excluded), workspace} {}

  [[nodiscard]] static std::size_t workspace_bound(std::size_t pieces) {
    const std::size_t runs = most_runs(pieces);
    const auto nodes_and_gone = TdmrWorkspace::bytes_for<NodeMemory>(pieces) +
                                TdmrWorkspace::bytes_for<GivenUp>(pieces) +
                                TdmrWorkspace::bytes_for<GivenUp>(most_given_up(pieces, runs));
    return TdmrWorkspace::bytes_for<MemoryPiece>(pieces) + TdmrWorkspace::bytes_for<TdmrRun>(runs) +
           TdmrWorkspace::bytes_for<TdmrBlock>(most_blocks(pieces)) +
           TdmrWorkspace::bytes_for<PhysRange>(runs) + TdmrWorkspace::bytes_for<TdmrStretch>(runs) +
           TdmrWorkspace::bytes_for<PamtSlot>(most_slots(pieces, runs)) +
           TdmrWorkspace::bytes_for<PlannedPamt>(kPageSizes * abi::tdx::kMostTdmrs) +
           TdmrWorkspace::bytes_for<PlannedTdmr>(abi::tdx::kMostTdmrs) +
           TdmrWorkspace::bytes_for<TdmrProblem>(most_problems(pieces)) + nodes_and_gone +
           layout_workspace(most_blocks(pieces), runs);
  }

  static constexpr std::size_t kPageSizes = 3;

  TdmrList<MemoryPiece> pieces;
  TdmrList<TdmrRun> runs;
  TdmrList<TdmrBlock> blocks;
  TdmrList<PhysRange> abandoned;
  std::span<TdmrStretch> stretches;
  std::span<TdmrNodeShare> shares;
  TdmrList<PamtSlot> slots;
  TdmrList<PlannedPamt> pamt;
  TdmrList<PlannedTdmr> tdmrs;
  TdmrList<TdmrProblem> problems;
  TdmrAccounts accounts;

 private:
  TdmrLists(std::size_t most, TdmrWorkspace& workspace)
      : pieces{workspace.take<MemoryPiece>(most)},
        runs{workspace.take<TdmrRun>(most_runs(most))},
        blocks{workspace.take<TdmrBlock>(most_blocks(most))},
        abandoned{workspace.take<PhysRange>(most_runs(most))},
        stretches{workspace.take<TdmrStretch>(most_runs(most))},
        shares{workspace.take<TdmrNodeShare>(most_blocks(most))},
        slots{workspace.take<PamtSlot>(most_slots(most, most_runs(most)))},
        pamt{workspace.take<PlannedPamt>(kPageSizes * abi::tdx::kMostTdmrs)},
        tdmrs{workspace.take<PlannedTdmr>(abi::tdx::kMostTdmrs)},
        problems{workspace.take<TdmrProblem>(most_problems(most))},
        accounts{TdmrList<NodeMemory>{workspace.take<NodeMemory>(most)},
                 TdmrList<GivenUp>{workspace.take<GivenUp>(most_given_up(most, most_runs(most)))},
                 TdmrList<GivenUp>{workspace.take<GivenUp>(most)}} {}

  /// One for each piece outside the CMRs, one for each block with too many holes, three of one
  /// each.
  [[nodiscard]] static std::size_t most_problems(std::size_t pieces) {
    return pieces + most_blocks(pieces) + 3;
  }
};

}  // namespace accede::host
