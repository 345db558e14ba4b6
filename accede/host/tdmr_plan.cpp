#include "accede/host/tdmr_plan.hpp"

#include "accede/base/assert.hpp"
#include "accede/host/tdmr_abandon.hpp"
#include "accede/host/tdmr_account.hpp"
#include "accede/host/tdmr_blocks.hpp"
#include "accede/host/tdmr_layout.hpp"
#include "accede/host/tdmr_lists.hpp"
#include "accede/host/tdmr_pamt.hpp"
#include "accede/host/tdmr_pieces.hpp"
#include "accede/host/tdmr_workspace.hpp"

#include <algorithm>

namespace accede::host {

namespace {

using abi::tdx::kMostTdmrs;

/// The node that most RAM of `blocks` lies on. Precondition: room for a share of each block.
NodeId main_node(std::span<const TdmrBlock> blocks, std::span<TdmrNodeShare> scratch) {
  const std::span<TdmrNodeShare> shares = scratch.first(blocks.size());
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    shares[i] = {.node = blocks[i].node, .required = blocks[i].required};
  }
  std::ranges::sort(shares, {}, &TdmrNodeShare::node);
  TdmrNodeShare best;
  TdmrNodeShare sum;
  for (const TdmrNodeShare& share : shares) {
    sum = {.node = share.node,
           .required = share.node == sum.node ? sum.required + share.required : share.required};
    best = sum.required > best.required ? sum : best;
  }
  return best.node;
}

/// Plans step by step; each step needs the ones before it.
class Planner {
 public:
  Planner(const TdmrMachine& machine, std::span<const MemoryRange> memory, const TdmrPolicy& policy,
          TdmrWorkspace workspace)
      : machine_{machine},
        policy_{policy},
        workspace_{workspace},
        lists_{memory.size(), policy.excluded.size(), workspace_} {
    cut_memory(machine, memory, policy, lists_.pieces);
    cut_blocks(lists_.pieces.all(), lists_.runs, lists_.blocks);
    layout_ = lay_out(lists_.blocks.all(), policy, workspace_);
  }

  [[nodiscard]] TdmrPlan run() {
    abandon(lists_.blocks.all(), layout_.tdmrs, policy_.most_areas, lists_.stretches,
            lists_.abandoned);
    make_tdmrs();
    place_metadata();
    for (PlannedTdmr& tdmr : lists_.tdmrs.all()) {
      reserve_areas(decisions(), tdmr);
      ACCEDE_ASSERT(tdmr.area_count <= policy_.most_areas);
    }
    account(decisions(), lists_.tdmrs.all(), lists_.accounts);
    return answer();
  }

 private:
  [[nodiscard]] TdmrDecisions decisions() const {
    return {.pieces = lists_.pieces.all(),
            .abandoned = lists_.abandoned.all(),
            .pamt = lists_.pamt.all()};
  }

  void make_tdmrs() {
    for (const TdmrSpan& span : layout_.tdmrs) {
      const auto blocks = lists_.blocks.all().subspan(span.first, span.end - span.first);
      PlannedTdmr tdmr{};
      tdmr.range = *PhysRange::make(blocks.front().range.begin(), blocks.back().range.end());
      tdmr.node = main_node(blocks, lists_.shares);
      reserve_areas(decisions(), tdmr);
      lists_.tdmrs.add(tdmr);
    }
  }

  /// The largest TDMRs first: they need the longest stretches of RAM.
  void place_metadata() {
    find_slots(decisions(), lists_.tdmrs.all(), policy_.promise == TdmrPromise::kBestEffort,
               lists_.slots);
    note_scarce_nodes();
    const std::span<PlannedTdmr> tdmrs = lists_.tdmrs.all();
    std::array<std::size_t, kMostTdmrs> areas{};
    std::array<std::size_t, kMostTdmrs> order{};
    for (std::size_t i = 0; i < tdmrs.size(); ++i) {
      areas[i] = tdmrs[i].area_count;
      order[i] = i;
    }
    std::ranges::sort(std::span{order}.first(tdmrs.size()), [&](std::size_t a, std::size_t b) {
      const Bytes first = tdmrs[a].range.size();
      const Bytes second = tdmrs[b].range.size();
      return first != second ? first > second : a < b;
    });
    PamtPlacer placer{lists_.slots.all(), areas, policy_.most_areas};
    for (const std::size_t i : std::span{order}.first(tdmrs.size())) {
      const auto placed = placer.place(tdmrs[i], machine_.dynamic_pamt);
      if (!placed) {
        add_problem({.kind = TdmrProblemKind::kNoRoomForPamt,
                     .range = tdmrs[i].range,
                     .bytes = placed.error()});
        lists_.pamt.shrink(lists_.pamt.all().size());
        lists_.tdmrs.shrink(tdmrs.size());
        return;
      }
      for (const PlannedPamt& pamt : tdmrs[i].pamt) {
        lists_.pamt.add(pamt);
      }
    }
    own_areas_ = placer.own_areas();
    std::ranges::sort(lists_.pamt.all(), {},
                      [](const PlannedPamt& pamt) { return pamt.range.begin(); });
  }

  /// A node whose RAM touches no area, but holds the metadata of its TDMRs, takes an area for it.
  void note_scarce_nodes() {
    const std::span<const PlannedTdmr> tdmrs = lists_.tdmrs.all();
    for (std::size_t i = 0; i < tdmrs.size(); ++i) {
      const NodeId node = tdmrs[i].node;
      const bool seen = std::ranges::any_of(
          tdmrs.first(i), [&](const PlannedTdmr& before) { return before.node == node; });
      const bool free = std::ranges::any_of(lists_.slots.all(), [&](const PamtSlot& slot) {
        return slot.node == node &&
               (slot.low_free || slot.high_free || slot.tdmr == PamtSlot::kNoTdmr);
      });
      scarce_nodes_ += !seen && has_slot(node) && !free ? 1 : 0;
    }
  }
  [[nodiscard]] bool has_slot(NodeId node) const {
    return std::ranges::any_of(lists_.slots.all(),
                               [&](const PamtSlot& slot) { return slot.node == node; });
  }

  void add_problem(const TdmrProblem& problem) { lists_.problems.add(problem); }

  void list_problems(TdmrPlan& plan) {
    for (const GivenUp& part : plan.not_convertible) {
      add_problem({.kind = TdmrProblemKind::kNotConvertible,
                   .range = part.range,
                   .bytes = part.range.size()});
    }
    for (const TdmrBlock& block : lists_.blocks.all()) {
      if (block.needed() && block.holes() > policy_.most_areas) {
        add_problem({.kind = TdmrProblemKind::kTooManyAreas,
                     .range = block.range,
                     .count = block.holes(),
                     .limit = policy_.most_areas,
                     .bytes = {}});
      }
    }
    if (plan.least_tdmrs > policy_.most_tdmrs) {
      add_problem({.kind = TdmrProblemKind::kTooManyTdmrs,
                   .range = {},
                   .count = plan.least_tdmrs,
                   .limit = policy_.most_tdmrs,
                   .bytes = {}});
    }
    if (layout_.tdmrs.empty()) {
      add_problem({.kind = TdmrProblemKind::kNoTdMemory, .range = {}, .bytes = {}});
    }
    plan.problems = lists_.problems.all();
  }

  /// Where RAM is given up, one TDMR covers two nodes or two nodes share a GiB, a layout with other
  /// areas may spare a node the area that its metadata takes.
  [[nodiscard]] bool own_areas_forced() const {
    return layout_.cost.given_up() == Bytes{} && layout_.cost.mixed_places() == 0 &&
           std::ranges::none_of(lists_.blocks.all(), &TdmrBlock::two_nodes);
  }

  /// The layout is optimal when metadata costs nothing. Metadata costs areas that it must have;
  /// where that is all, there is no better layout, unless one with more areas of its own would
  /// cover less.
  [[nodiscard]] TdmrOptimum optimum(const TdmrPlan& plan) const {
    if (plan.tdmrs.empty() || foreign_avoidable()) {
      return TdmrOptimum::kNotProven;
    }
    if (own_areas_ == 0) {
      return TdmrOptimum::kProven;
    }
    std::uint64_t needed = 0;
    for (const TdmrBlock& block : lists_.blocks.all()) {
      needed += block.needed() ? block.granules() : 0;
    }
    const bool tight = own_areas_ == scarce_nodes_ && layout_.cost.granules(policy_.goal) == needed;
    return tight && own_areas_forced() ? TdmrOptimum::kProven : TdmrOptimum::kNotProven;
  }
  [[nodiscard]] bool foreign_avoidable() const {
    return std::ranges::any_of(lists_.tdmrs.all(), [&](const PlannedTdmr& tdmr) {
      return has_slot(tdmr.node) && std::ranges::any_of(tdmr.pamt, [&](const PlannedPamt& pamt) {
               return pamt.node != tdmr.node;
             });
    });
  }

  [[nodiscard]] TdmrPlan answer() {
    TdmrPlan plan{};
    plan.tdmrs = lists_.tdmrs.all();
    plan.given_up = lists_.accounts.given_up.all();
    plan.not_convertible = lists_.accounts.not_convertible.all();
    plan.nodes = lists_.accounts.nodes.all();
    plan.least_tdmrs = host::least_tdmrs(lists_.blocks.all(), policy_.most_areas);
    for (const PlannedTdmr& tdmr : plan.tdmrs) {
      plan.areas += tdmr.area_count;
      for (const PlannedPamt& pamt : tdmr.pamt) {
        plan.pamt += pamt.range.size();
        plan.foreign_pamt += pamt.node != tdmr.node ? pamt.range.size() : Bytes{};
      }
    }
    for (const GivenUp& part : plan.given_up) {
      plan.given_up_bytes += part.range.size();
    }
    list_problems(plan);
    plan.feasible =
        !plan.tdmrs.empty() && (policy_.promise == TdmrPromise::kBestEffort ||
                                (plan.given_up.empty() && plan.not_convertible.empty()));
    plan.optimum = optimum(plan);
    plan.areas_at_least =
        layout_.cost.areas(policy_.goal) + (own_areas_forced() ? scarce_nodes_ : 0);
    return plan;
  }

  const TdmrMachine& machine_;
  const TdmrPolicy& policy_;
  TdmrWorkspace workspace_;
  TdmrLists lists_;
  TdmrLayout layout_;
  std::size_t own_areas_ = 0;
  std::size_t scarce_nodes_ = 0;
};

abi::tdx::PamtArea pamt_area(const PlannedTdmr& tdmr, PageSize page) {
  const PhysRange range = tdmr.pamt[static_cast<std::size_t>(page)].range;
  return {.base = range.begin().value(), .size = range.size().value()};
}

}  // namespace

std::size_t tdmr_workspace_bound(std::size_t ranges, std::size_t excluded) {
  return TdmrLists::workspace_bound(most_pieces(ranges, excluded));
}

std::expected<TdmrPlan, TdmrInputError> plan_tdmrs(const TdmrMachine& machine,
                                                   std::span<const MemoryRange> memory,
                                                   const TdmrPolicy& policy,
                                                   std::span<std::byte> workspace) {
  if (const auto sound = check_input(machine, memory, policy); !sound) {
    return std::unexpected{sound.error()};
  }
  const TdmrPlan plan = Planner{machine, memory, policy, TdmrWorkspace{workspace}}.run();
  const bool no_room = std::ranges::any_of(plan.problems, [](const TdmrProblem& problem) {
    return problem.kind == TdmrProblemKind::kNoRoomForPamt;
  });
  if (!no_room || policy.goal == TdmrGoal::kPamt) {
    return plan;
  }
  // Gaps that are covered to save areas cost metadata; without them it may fit.
  TdmrPolicy frugal = policy;
  frugal.goal = TdmrGoal::kPamt;
  TdmrPlan other = Planner{machine, memory, frugal, TdmrWorkspace{workspace}}.run();
  other.optimum = TdmrOptimum::kNotProven;
  return other;
}

abi::tdx::TdmrInfo tdmr_info(const PlannedTdmr& tdmr) {
  abi::tdx::TdmrInfo info{};
  info.base = tdmr.range.begin().value();
  info.size = tdmr.range.size().value();
  info.pamt_1g = pamt_area(tdmr, PageSize::k1G);
  info.pamt_2m = pamt_area(tdmr, PageSize::k2M);
  info.pamt_4k = pamt_area(tdmr, PageSize::k4K);
  for (std::size_t i = 0; i < tdmr.area_count; ++i) {
    const PhysRange area = tdmr.area_list[i].range;
    info.reserved[i] = {.offset = (area.begin() - tdmr.range.begin()).value(),
                        .size = area.size().value()};
  }
  return info;
}

}  // namespace accede::host
