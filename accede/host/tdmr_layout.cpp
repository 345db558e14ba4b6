#include "accede/host/tdmr_layout.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>
#include <array>
#include <limits>

namespace accede::host {

namespace {

constexpr std::size_t kMostAreas = abi::tdx::kMostReservedAreas;
/// In the place of a TDMR's first block: the block is in no TDMR.
constexpr std::uint32_t kSkipped = std::numeric_limits<std::uint32_t>::max();

/// The best way to a place in the address space.
struct Way {
  TdmrCost cost = TdmrCost::impossible();
  std::uint32_t first = 0;  ///< block of the TDMR that is open

  void take_better(Way other) {
    const bool better = other.cost < cost;
    cost = better ? other.cost : cost;
    first = better ? other.first : first;
  }
  [[nodiscard]] Way plus(TdmrCost more) const { return {cost + more, first}; }
};

/// By the number of areas of the open TDMR.
using Ways = std::array<Way, kMostAreas + 1>;

/// The ways that have used some number of TDMRs.
struct Column {
  Way outside;    ///< of every TDMR
  Ways kept;      ///< in a TDMR, after memory that it keeps
  Ways reserved;  ///< in a TDMR, after memory that it reserves: more of it costs no area
};

/// What a block does to every way that leads through it.
class BlockStep {
 public:
  /// `cheapest` has room for the stretches between the block's holes.
  BlockStep(const TdmrBlock& block, const TdmrPolicy& policy, std::span<Bytes> cheapest)
      : block_{block},
        goal_{policy.goal},
        limit_{policy.most_areas},
        cover_{TdmrCost::granules(block.granules(), policy.goal)} {
    std::size_t count = 0;
    for (std::size_t i = 1; i + 1 < block.runs.size(); ++i) {
      if (!block.runs[i].hole) {
        cheapest[count++] = block.runs[i].required;
      }
    }
    between_ = cheapest.first(count);
    std::ranges::sort(between_);
    for (std::size_t i = 1; i < count; ++i) {
      between_[i] += between_[i - 1];
    }
  }

  void cover(Column& column) const {
    if (block_.holes() == 0) {
      cover_kept(column);
    } else {
      cover_holes(column);
    }
  }

 private:
  /// RAM that giving up the `count` cheapest stretches between holes costs.
  [[nodiscard]] TdmrCost give_up(std::size_t count) const {
    return count == 0 ? TdmrCost{} : TdmrCost::given_up(between_[count - 1]);
  }

  void cover_kept(Column& column) const {
    const TdmrCost lost = TdmrCost::given_up(block_.required);
    for (std::size_t areas = 0; areas <= limit_; ++areas) {
      Way kept = column.kept[areas];
      kept.take_better(column.reserved[areas]);
      column.kept[areas] = kept.plus(cover_);
      column.reserved[areas] = column.reserved[areas].plus(cover_ + lost);
    }
  }

  /// The ways after the block's first hole.
  [[nodiscard]] Ways enter(const Column& column) const {
    const TdmrRun& first = block_.runs.front();
    const TdmrCost lost = TdmrCost::given_up(first.required);
    Ways ways{};
    for (std::size_t areas = 0; areas <= limit_; ++areas) {
      ways[areas] = column.reserved[areas].plus(cover_ + lost);
      if (areas > 0) {
        Way before = column.kept[areas - 1];
        if (!first.hole) {
          before.take_better(column.reserved[areas - 1]);
        }
        ways[areas].take_better(before.plus(cover_ + TdmrCost::areas(1, goal_)));
      }
    }
    return ways;
  }

  void cover_holes(Column& column) const {
    const Ways entered = enter(column);
    const bool ends_in_hole = block_.runs.back().hole;
    const TdmrCost lost = TdmrCost::given_up(block_.runs.back().required);
    for (std::size_t areas = 0; areas <= limit_; ++areas) {
      Way best;
      const std::size_t most_more = std::min(areas, between_.size());
      for (std::size_t more = 0; more <= most_more; ++more) {
        const Way& before = entered[areas - more];
        if (before.cost.possible()) {
          best.take_better(
              before.plus(TdmrCost::areas(more, goal_) + give_up(between_.size() - more)));
        }
      }
      column.kept[areas] = ends_in_hole ? Way{} : best;
      column.reserved[areas] = ends_in_hole ? best : best.plus(lost);
    }
  }

  const TdmrBlock& block_;
  TdmrGoal goal_;
  std::size_t limit_;
  TdmrCost cover_;
  std::span<Bytes> between_;
};

/// Finds the best way through all blocks, for each number of TDMRs up to a limit, or for any
/// number of them in one column.
class LayoutSearch {
 public:
  LayoutSearch(std::span<const TdmrBlock> blocks, const TdmrPolicy& policy,
               std::span<Column> columns, std::span<std::uint32_t> steps, std::span<Bytes> scratch)
      : blocks_{blocks}, policy_{policy}, columns_{columns}, steps_{steps}, scratch_{scratch} {}

  void run() {
    std::ranges::fill(columns_, Column{});
    columns_.front().outside.cost = TdmrCost{};
    const TdmrBlock* last_needed = nullptr;
    for (std::uint32_t i = 0; i < blocks_.size(); ++i) {
      const TdmrBlock& block = blocks_[i];
      const bool mixes =
          block.needed() && last_needed != nullptr && last_needed->node != block.node;
      pass(i, mixes);
      last_needed = block.needed() ? &block : last_needed;
    }
  }

  [[nodiscard]] std::size_t best_column() const {
    const auto best = std::ranges::min_element(
        columns_, [](const Column& a, const Column& b) { return a.outside.cost < b.outside.cost; });
    return static_cast<std::size_t>(best - columns_.begin());
  }
  [[nodiscard]] TdmrCost cost(std::size_t column) const { return columns_[column].outside.cost; }

  /// Writes the TDMRs of the best way to the end of `spans`; returns them.
  [[nodiscard]] std::span<const TdmrSpan> trace(std::span<TdmrSpan> spans) const {
    std::size_t left = spans.size();
    std::size_t column = best_column();
    for (std::size_t end = blocks_.size(); end > 0;) {
      const std::uint32_t first = steps_[(end - 1) * columns_.size() + column];
      if (first == kSkipped) {
        --end;
        continue;
      }
      spans[--left] = {first, static_cast<std::uint32_t>(end)};
      end = first;
      column -= one_column() ? 0 : 1;
    }
    return spans.subspan(left);
  }

 private:
  [[nodiscard]] bool one_column() const { return columns_.size() == 1; }

  void pass(std::uint32_t index, bool mixes) {
    const TdmrBlock& block = blocks_[index];
    const BlockStep step{block, policy_, scratch_};
    // From the last column on, so that the column before still has the ways up to this block.
    for (std::size_t i = columns_.size(); i-- > 0;) {
      Column& column = columns_[i];
      if (mixes) {
        add_mixed(column);
      }
      if (block.needed() && (i > 0 || one_column())) {
        const Way& before = columns_[one_column() ? 0 : i - 1].outside;
        column.kept[0].take_better({before.cost + TdmrCost::tdmr(), index});
      }
      step.cover(column);
      steps_[index * columns_.size() + i] = leave(column, block);
    }
  }

  static void add_mixed(Column& column) {
    for (std::size_t areas = 0; areas <= kMostAreas; ++areas) {
      column.kept[areas] = column.kept[areas].plus(TdmrCost::mixed());
      column.reserved[areas] = column.reserved[areas].plus(TdmrCost::mixed());
    }
  }

  /// Ends the open TDMR after `block` where that is best; returns its first block.
  static std::uint32_t leave(Column& column, const TdmrBlock& block) {
    Way best{column.outside.cost + TdmrCost::given_up(block.required), kSkipped};
    for (std::size_t areas = 0; areas <= kMostAreas; ++areas) {
      best.take_better(column.kept[areas]);
      best.take_better(column.reserved[areas]);
    }
    column.outside.cost = best.cost;
    return best.first;
  }

  std::span<const TdmrBlock> blocks_;
  const TdmrPolicy& policy_;
  std::span<Column> columns_;
  std::span<std::uint32_t> steps_;  ///< by block and column: how the best way outside got there
  std::span<Bytes> scratch_;
};

constexpr std::size_t kMostColumns = abi::tdx::kMostTdmrs + 1;

}  // namespace

std::size_t layout_workspace(std::size_t blocks, std::size_t runs) {
  return TdmrWorkspace::bytes_for<Column>(kMostColumns) +
         TdmrWorkspace::bytes_for<std::uint32_t>(blocks * kMostColumns) +
         TdmrWorkspace::bytes_for<Bytes>(runs) +
         TdmrWorkspace::bytes_for<TdmrSpan>(abi::tdx::kMostTdmrs);
}

TdmrLayout lay_out(std::span<const TdmrBlock> blocks, const TdmrPolicy& policy,
                   TdmrWorkspace& workspace) {
  const std::span<Column> columns = workspace.take<Column>(kMostColumns);
  const auto steps = workspace.take<std::uint32_t>(blocks.size() * kMostColumns);
  std::size_t most_runs = 0;
  for (const TdmrBlock& block : blocks) {
    most_runs = std::max(most_runs, block.runs.size());
  }
  const std::span<Bytes> scratch = workspace.take<Bytes>(most_runs);
  const std::span<TdmrSpan> spans = workspace.take<TdmrSpan>(abi::tdx::kMostTdmrs);

  LayoutSearch any_number{blocks, policy, columns.first(1), steps, scratch};
  any_number.run();
  if (any_number.cost(0).tdmrs() <= policy.most_tdmrs) {
    return {.tdmrs = any_number.trace(spans), .cost = any_number.cost(0)};
  }
  LayoutSearch limited{blocks, policy, columns.first(policy.most_tdmrs + 1), steps, scratch};
  limited.run();
  return {.tdmrs = limited.trace(spans), .cost = limited.cost(limited.best_column())};
}

std::size_t least_tdmrs(std::span<const TdmrBlock> blocks, std::size_t most_areas) {
  std::size_t count = 0;
  std::size_t areas = most_areas + 1;  // of the open TDMR; too many while there is none
  bool after_hole = false;
  for (const TdmrBlock& block : blocks) {
    if (block.needed() && block.holes() > most_areas) {
      return 0;
    }
    const bool joins = after_hole && block.runs.front().hole;
    if (areas <= most_areas) {
      areas += block.holes() - (joins ? 1 : 0);
    }
    // A TDMR that is too full already ended before this block.
    if (areas > most_areas && block.needed()) {
      ++count;
      areas = block.holes();
    }
    after_hole = block.runs.back().hole;
  }
  return count;
}

}  // namespace accede::host
