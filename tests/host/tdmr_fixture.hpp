// What the tests of the planner of TDMRs share.
#pragma once

#include "accede/host/tdmr_check.hpp"
#include "accede/host/tdmr_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

namespace accede::host::test {

inline constexpr NodeId kNode0{0};
inline constexpr NodeId kNode1{1};
inline constexpr NodeId kNode2{2};

inline PhysRange between(std::uint64_t begin, std::uint64_t end) {
  return PhysRange::make(PhysAddr{begin}, PhysAddr{end}).value();
}
inline PhysRange between(Bytes begin, Bytes end) {
  return between(begin.value(), end.value());
}
inline abi::tdx::CmrInfo cmr(std::uint64_t begin, std::uint64_t end) {
  return {.base = begin, .size = end - begin};
}

inline MemoryRange memory_of(PhysRange range, NodeId node, MemoryKind kind) {
  return {.range = range, .node = node, .kind = kind, .present = true};
}
inline MemoryRange ram(PhysRange range, NodeId node = kNode0) {
  return memory_of(range, node, MemoryKind::kRam);
}

/// A machine, its memory and the last plan for it.
struct TdmrHost {
  std::vector<abi::tdx::CmrInfo> cmrs;
  std::vector<MemoryRange> memory;
  TdmrPolicy policy;
  bool dynamic_pamt = false;
  unsigned physical_bits = 52;

  [[nodiscard]] TdmrMachine machine() const {
    return {
        .cmrs = cmrs, .physical_bits = physical_bits, .key_bits = 6, .dynamic_pamt = dynamic_pamt};
  }

  /// CMRs that are the memory of every kind, without gaps between neighbours.
  void convert_everything() {
    cmrs.clear();
    for (const MemoryRange& range : memory) {
      cmrs.push_back(cmr(range.range.begin().value(), range.range.end().value()));
    }
  }

  [[nodiscard]] std::expected<TdmrPlan, TdmrInputError> try_plan() {
    const std::size_t bound = tdmr_workspace_bound(memory.size(), policy.excluded.size());
    workspace_ = std::make_unique<std::uint64_t[]>((bound + 7) / 8);
    return plan_tdmrs(machine(), memory, policy,
                      std::as_writable_bytes(std::span{workspace_.get(), (bound + 7) / 8}));
  }

  /// Plans, and lets the module check what comes out.
  [[nodiscard]] TdmrPlan plan() {
    const auto planned = try_plan();
    EXPECT_TRUE(planned) << to_string(planned.error().kind) << " " << planned.error().index;
    if (!planned) {
      return {};
    }
    expect_sound(*planned);
    return *planned;
  }

 private:
  void expect_sound(const TdmrPlan& plan) const {
    if (plan.tdmrs.empty()) {
      return;
    }
    std::vector<abi::tdx::TdmrInfo> infos;
    for (const PlannedTdmr& tdmr : plan.tdmrs) {
      infos.push_back(tdmr_info(tdmr));
      Bytes reserved;
      for (const PlannedArea& area : tdmr.areas()) {
        reserved += area.range.size();
      }
      EXPECT_LE(reserved + tdmr.td_memory, tdmr.range.size());
    }
    EXPECT_EQ(check_tdmrs(machine(), infos), 0U);
    Bytes sum;
    for (const NodeMemory& node : plan.nodes) {
      EXPECT_EQ(node.present, node.td_memory + node.pamt + node.given_up + node.not_convertible);
      sum += node.pamt;
    }
    EXPECT_EQ(sum, plan.pamt);
  }

  std::unique_ptr<std::uint64_t[]> workspace_;
};

inline std::vector<TdmrProblemKind> kinds(std::span<const TdmrProblem> problems) {
  std::vector<TdmrProblemKind> kinds;
  for (const TdmrProblem& problem : problems) {
    kinds.push_back(problem.kind);
  }
  return kinds;
}

}  // namespace accede::host::test
