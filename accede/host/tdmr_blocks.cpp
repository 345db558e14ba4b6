#include "accede/host/tdmr_blocks.hpp"

#include "accede/base/assert.hpp"

namespace accede::host {

namespace {

using abi::tdx::kTdmrGranule;

/// Walks the pieces of one block after the other.
class BlockCutter {
 public:
  BlockCutter(std::span<const MemoryPiece> pieces, TdmrList<TdmrRun>& runs)
      : pieces_{pieces}, runs_{runs} {}

  /// The block that begins at `begin`, where the block before it ended.
  [[nodiscard]] TdmrBlock cut(PhysAddr begin) {
    while (pieces_.front().range.end() <= begin) {
      pieces_ = pieces_.subspan(1);
    }
    const Bytes alike = pieces_.front().range.end() - begin;
    const std::uint64_t granules = alike >= kTdmrGranule ? alike / kTdmrGranule : 1;
    TdmrBlock block{};
    block.range = *PhysRange::make(begin, kTdmrGranule * granules);
    const std::size_t first_run = runs_.all().size();
    Bytes largest;
    for (const MemoryPiece& piece : pieces_) {
      if (piece.range.begin() >= block.range.end()) {
        break;
      }
      add(piece, piece.range.intersect(block.range), first_run);
      if (piece.demand == TdmrDemand::kRequired) {
        note_required(piece, block, largest);
      }
    }
    block.runs = runs_.all().subspan(first_run);
    return block;
  }

 private:
  void add(const MemoryPiece& piece, PhysRange part, std::size_t first_run) {
    const Bytes required = piece.demand == TdmrDemand::kRequired ? part.size() : Bytes{};
    if (runs_.all().size() > first_run && runs_.last().hole == piece.hole) {
      TdmrRun& run = runs_.last();
      run.range = *PhysRange::make(run.range.begin(), part.end());
      run.required += required;
    } else {
      runs_.add({.range = part, .required = required, .hole = piece.hole});
    }
  }

  static void note_required(const MemoryPiece& piece, TdmrBlock& block, Bytes& largest) {
    const Bytes size = piece.range.intersect(block.range).size();
    block.two_nodes = block.two_nodes || (block.needed() && block.node != piece.node);
    block.required += size;
    if (size > largest) {
      largest = size;
      block.node = piece.node;
    }
  }

  std::span<const MemoryPiece> pieces_;
  TdmrList<TdmrRun>& runs_;
};

}  // namespace

void cut_blocks(std::span<const MemoryPiece> pieces, TdmrList<TdmrRun>& runs,
                TdmrList<TdmrBlock>& blocks) {
  if (pieces.empty()) {
    return;
  }
  BlockCutter cutter{pieces, runs};
  const PhysAddr end = pieces.back().range.end();
  for (PhysAddr at{}; at < end;) {
    at = blocks.add(cutter.cut(at)).range.end();
  }
}

}  // namespace accede::host
