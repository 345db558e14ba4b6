// The best plan of TDMRs for a small host, found by trying everything.
#pragma once

#include "tests/host/tdmr_fixture.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

namespace accede::host::test {

/// A host of few GiB, each cut into slots of equal size that hold far more than the metadata.
struct SlotHost {
  static constexpr std::size_t kSlotsPerGranule = 8;
  static constexpr Bytes kSlot = 128_MiB;
  /// Above the first MiB, which is never RAM for the planner.
  static constexpr PhysAddr kBase{1ULL << 30};

  enum class Use : std::uint8_t { kRam, kFirmware, kExcluded };
  struct Slot {
    Use use{};
    NodeId node{};
  };

  std::vector<Slot> slots;

  [[nodiscard]] std::size_t granules() const { return slots.size() / kSlotsPerGranule; }
  [[nodiscard]] static PhysRange range_of(std::size_t slot) {
    return PhysRange::make(kBase + kSlot * slot, kSlot).value();
  }
};

/// What a plan is judged by, the most important first.
struct NaiveCost {
  std::uint64_t given_up = 0;  ///< slots
  std::uint64_t mixed = 0;
  std::uint64_t first = 0;  ///< the goal: areas or GiB
  std::uint64_t second = 0;
  std::uint64_t tdmrs = 0;

  friend auto operator<=>(const NaiveCost&, const NaiveCost&) = default;
};

/// Tries every way to cover the GiB with TDMRs, and in each TDMR every set of stretches between
/// holes to give up. Areas are counted slot by slot; metadata of a node takes an area of its own
/// where no kept slot of the node lies beside one.
class NaivePlanner {
 public:
  NaivePlanner(const SlotHost& host, const TdmrPolicy& policy) : host_{host}, policy_{policy} {}

  [[nodiscard]] std::optional<NaiveCost> best() {
    choose(0, {}, false);
    return best_;
  }

 private:
  using Slot = SlotHost::Slot;
  using Use = SlotHost::Use;
  static constexpr std::size_t kPerGranule = SlotHost::kSlotsPerGranule;

  struct Interval {
    std::size_t first;
    std::size_t end;  ///< granules
  };
  /// One way to treat an interval.
  struct Option {
    std::uint64_t given_up = 0;
    std::uint64_t areas = 0;
    std::set<NodeId> beside;  ///< nodes with a kept slot beside an area

    friend bool operator==(const Option&, const Option&) = default;
  };

  /// Each granule: outside, in the TDMR before, or the first of a new one.
  void choose(std::size_t granule, std::vector<Interval> tdmrs, bool open) {
    if (granule == host_.granules()) {
      judge(tdmrs);
      return;
    }
    choose(granule + 1, tdmrs, false);
    if (open) {
      std::vector<Interval> longer = tdmrs;
      ++longer.back().end;
      choose(granule + 1, longer, true);
    }
    if (tdmrs.size() < policy_.most_tdmrs) {
      tdmrs.push_back({granule, granule + 1});
      choose(granule + 1, tdmrs, true);
    }
  }

  void judge(const std::vector<Interval>& tdmrs) {
    if (!tdmrs.empty()) {
      combine(tdmrs, 0, Option{.given_up = outside(tdmrs), .areas = 0, .beside = {}});
    }
  }

  void combine(const std::vector<Interval>& tdmrs, std::size_t index, const Option& sum) {
    if (index == tdmrs.size()) {
      finish(tdmrs, sum);
      return;
    }
    for (const Option& option : options(tdmrs[index])) {
      Option more = sum;
      more.given_up += option.given_up;
      more.areas += option.areas;
      more.beside.insert(option.beside.begin(), option.beside.end());
      combine(tdmrs, index + 1, more);
    }
  }

  void finish(const std::vector<Interval>& tdmrs, const Option& sum) {
    std::set<NodeId> nodes;
    NaiveCost cost{.given_up = sum.given_up, .tdmrs = tdmrs.size()};
    std::uint64_t granules = 0;
    for (const Interval& tdmr : tdmrs) {
      nodes.insert(main_node(tdmr));
      cost.mixed += mixed(tdmr);
      granules += tdmr.end - tdmr.first;
    }
    std::uint64_t areas = sum.areas;
    for (const NodeId node : nodes) {
      areas += sum.beside.contains(node) ? 0 : 1;
    }
    const bool areas_first = policy_.goal == TdmrGoal::kReservedAreas;
    cost.first = areas_first ? areas : granules;
    cost.second = areas_first ? granules : areas;
    if (!best_ || cost < *best_) {
      best_ = cost;
    }
  }

  [[nodiscard]] bool reserved(const Slot& slot) const {
    return slot.use == Use::kExcluded ||
           (slot.use == Use::kFirmware && policy_.holes == TdmrHoles::kOfMemoryMap);
  }

  [[nodiscard]] std::uint64_t outside(const std::vector<Interval>& tdmrs) const {
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < host_.slots.size(); ++i) {
      bool inside = false;
      for (const Interval& tdmr : tdmrs) {
        inside = inside || (tdmr.first <= i / kPerGranule && i / kPerGranule < tdmr.end);
      }
      count += !inside && host_.slots[i].use == Use::kRam ? 1 : 0;
    }
    return count;
  }

  /// Every Pareto-interesting treatment within the limit; cached.
  [[nodiscard]] const std::vector<Option>& options(Interval tdmr) {
    const auto [entry, is_new] = cache_.try_emplace({tdmr.first, tdmr.end});
    if (!is_new) {
      return entry->second;
    }
    const std::vector<std::size_t> stretch_of = number_stretches(tdmr);
    const std::size_t stretches = stretch_of.empty() ? 0 : stretch_of.back() + 1;
    for (std::uint64_t set = 0; set < 1ULL << stretches; ++set) {
      const Option option = walk(tdmr, stretch_of, set);
      const bool known = std::ranges::find(entry->second, option) != entry->second.end();
      if (option.areas <= policy_.most_areas && !known) {
        entry->second.push_back(option);
      }
    }
    return entry->second;
  }

  /// For each slot how many stretches of slots that need not be reserved began before or at it.
  [[nodiscard]] std::vector<std::size_t> number_stretches(Interval tdmr) const {
    std::vector<std::size_t> numbers;
    std::size_t number = 0;
    bool in_stretch = false;
    for (std::size_t i = tdmr.first * kPerGranule; i < tdmr.end * kPerGranule; ++i) {
      const bool open = !reserved(host_.slots[i]);
      number += open && !in_stretch ? 1 : 0;
      in_stretch = open;
      numbers.push_back(number);
    }
    return numbers;
  }

  [[nodiscard]] Option walk(Interval tdmr, const std::vector<std::size_t>& stretch_of,
                            std::uint64_t given) const {
    Option option;
    bool in_area = false;
    std::optional<NodeId> last_kept;
    for (std::size_t i = tdmr.first * kPerGranule; i < tdmr.end * kPerGranule; ++i) {
      const Slot& slot = host_.slots[i];
      const bool hole = reserved(slot);
      const bool lost = !hole && (given >> stretch_of[i - tdmr.first * kPerGranule] & 1U) != 0;
      if (hole || lost) {
        option.areas += in_area ? 0 : 1;
        option.given_up += lost && slot.use == Use::kRam ? 1 : 0;
        in_area = true;
        if (last_kept) {
          option.beside.insert(*last_kept);
        }
        last_kept.reset();
      } else if (slot.use == Use::kRam) {
        if (in_area) {
          option.beside.insert(slot.node);
        }
        last_kept = slot.node;
        in_area = false;
      }
    }
    return option;
  }

  [[nodiscard]] NodeId node_of(std::size_t granule) const {
    return host_.slots[granule * kPerGranule].node;
  }
  [[nodiscard]] std::uint64_t ram_of(std::size_t granule) const {
    std::uint64_t count = 0;
    for (std::size_t i = granule * kPerGranule; i < (granule + 1) * kPerGranule; ++i) {
      count += host_.slots[i].use == Use::kRam ? 1 : 0;
    }
    return count;
  }
  [[nodiscard]] std::uint64_t mixed(Interval tdmr) const {
    std::uint64_t count = 0;
    std::optional<NodeId> before;
    for (std::size_t i = tdmr.first; i < tdmr.end; ++i) {
      if (ram_of(i) > 0) {
        count += before && *before != node_of(i) ? 1 : 0;
        before = node_of(i);
      }
    }
    return count;
  }
  [[nodiscard]] NodeId main_node(Interval tdmr) const {
    std::map<NodeId, std::uint64_t> ram;
    for (std::size_t i = tdmr.first; i < tdmr.end; ++i) {
      ram[node_of(i)] += ram_of(i);
    }
    return std::ranges::max_element(ram, {}, [](const auto& entry) { return entry.second; })->first;
  }

  const SlotHost& host_;
  const TdmrPolicy& policy_;
  std::map<std::pair<std::size_t, std::size_t>, std::vector<Option>> cache_;
  std::optional<NaiveCost> best_;
};

}  // namespace accede::host::test
