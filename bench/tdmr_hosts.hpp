// Hosts with as many memory ranges as firmware with a bad day reports.
#pragma once

#include "accede/host/tdmr_check.hpp"
#include "accede/host/tdmr_plan.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <span>
#include <vector>

namespace accede::bench {

/// Memory from 4 GiB on, two nodes, all of it convertible; its holes are what the firmware keeps.
struct FragmentedHost {
  std::vector<abi::tdx::CmrInfo> cmrs;
  std::vector<host::MemoryRange> memory;
  host::TdmrPolicy policy;

  [[nodiscard]] host::TdmrMachine machine() const {
    return {.cmrs = cmrs, .physical_bits = 52, .key_bits = 6, .dynamic_pamt = false};
  }
};

/// `granules` GiB, each cut at random pages into ranges - as in an EFI memory map, where RAM of
/// many types touches - of which `holes` are the firmware's; no two holes touch. `ranges` in all.
[[nodiscard]] inline FragmentedHost fragmented_host(std::size_t granules, std::size_t holes,
                                                    std::size_t ranges) {
  constexpr std::uint64_t kGranule = 1ULL << 30;
  constexpr std::uint64_t kBase = 4 * kGranule;
  std::mt19937_64 random{20261121};
  FragmentedHost host;
  host.policy.holes = host::TdmrHoles::kOfMemoryMap;
  host.cmrs = {{.base = kBase, .size = granules * kGranule}};
  const std::size_t each = ranges / granules;
  for (std::size_t granule = 0; granule < granules; ++granule) {
    std::vector<std::uint64_t> cuts{0, kGranule};
    while (cuts.size() < each + 1) {
      const std::uint64_t cut = random() % (kGranule / 4096) * 4096;
      if (std::ranges::find(cuts, cut) == cuts.end()) {
        cuts.push_back(cut);
      }
    }
    std::ranges::sort(cuts);
    std::vector<bool> is_hole(each + 1);
    for (std::size_t left = holes; left > 0;) {
      // Never the first range, so that no hole touches one of the GiB before.
      const std::size_t place = 1 + random() % (each - 1);
      if (!is_hole[place - 1] && !is_hole[place] && !is_hole[place + 1]) {
        is_hole[place] = true;
        --left;
      }
    }
    for (std::size_t i = 0; i < each; ++i) {
      const PhysAddr begin{kBase + granule * kGranule + cuts[i]};
      host.memory.push_back(
          {.range = PhysRange::make(begin, Bytes{cuts[i + 1] - cuts[i]}).value(),
           .node = host::NodeId{granule < granules / 2 ? 0U : 1U},
           .kind = is_hole[i] ? host::MemoryKind::kFirmware : host::MemoryKind::kRam,
           .present = true});
    }
  }
  return host;
}

inline constexpr std::size_t kTdmrBenchRanges = 4096;

/// Two GiB have too many holes for one TDMR: it needs 64 TDMRs, and 640 areas.
[[nodiscard]] inline FragmentedHost host_at_the_limit() {
  return fragmented_host(64, 10, kTdmrBenchRanges);
}
/// Needs 128 TDMRs.
[[nodiscard]] inline FragmentedHost host_beyond_the_limit() {
  return fragmented_host(128, 12, kTdmrBenchRanges);
}
/// Needs 128 TDMRs; each of 2048 GiB is a block of its own to the planner, the most there can be.
[[nodiscard]] inline FragmentedHost wide_host_beyond_the_limit() {
  return fragmented_host(2048, 1, kTdmrBenchRanges);
}

/// Storage for the plans of one host.
class TdmrDesk {
 public:
  explicit TdmrDesk(const FragmentedHost& host)
      : storage_(host::tdmr_workspace_bound(host.memory.size(), host.memory.size()) / 8 + 1) {}

  [[nodiscard]] host::TdmrPlan plan(const FragmentedHost& host) {
    const auto plan = host::plan_tdmrs(host.machine(), host.memory, host.policy,
                                       std::as_writable_bytes(std::span{storage_}));
    if (!plan) {
      std::abort();
    }
    return *plan;
  }

 private:
  std::vector<std::uint64_t> storage_;
};

[[nodiscard]] inline bool module_takes(const FragmentedHost& host, const host::TdmrPlan& plan) {
  std::vector<abi::tdx::TdmrInfo> list;
  for (const host::PlannedTdmr& tdmr : plan.tdmrs) {
    list.push_back(host::tdmr_info(tdmr));
  }
  return !list.empty() && host::check_tdmrs(host.machine(), list) == 0;
}

/// Whether leaving out what `plan` gives up makes a plan that keeps everything else.
[[nodiscard]] inline bool change_suffices(FragmentedHost host, const host::TdmrPlan& plan) {
  std::vector<PhysRange> excluded;
  for (const host::GivenUp& part : plan.given_up) {
    excluded.push_back(part.range);
  }
  host.policy.excluded = excluded;
  TdmrDesk desk{host};
  const host::TdmrPlan after = desk.plan(host);
  return after.feasible && module_takes(host, after);
}

}  // namespace accede::bench
