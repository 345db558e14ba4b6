// The planner against a search that tries everything, on random small hosts.
#include "tests/host/sept_fixture.hpp"
#include "tests/host/tdmr_naive.hpp"

#include <gtest/gtest.h>

#include <random>
#include <sstream>

namespace accede::host {
namespace {

using test::kNode0;
using test::kNode1;
using test::NaiveCost;
using test::NaivePlanner;
using test::SlotHost;
using test::TdmrHost;

constexpr std::size_t kHosts = 300;

template <class T>
T pick(std::mt19937_64& random, std::initializer_list<T> choices) {
  return choices.begin()[random() % choices.size()];
}

/// Slots in runs, so that stretches have different lengths; one node a granule.
SlotHost random_host(std::mt19937_64& random) {
  SlotHost host;
  const std::size_t granules = 1 + random() % 4;
  const std::uint64_t ram_weight = 1 + random() % 4;
  SlotHost::Use use{};
  for (std::size_t i = 0; i < granules; ++i) {
    const NodeId node = pick(random, {kNode0, kNode0, kNode1});
    const bool alike = random() % 4 == 0;
    for (std::size_t slot = 0; slot < SlotHost::kSlotsPerGranule; ++slot) {
      if (slot == 0 || (!alike && random() % 3 != 0)) {
        const std::uint64_t draw = random() % (ram_weight + 2);
        use = draw == 0   ? SlotHost::Use::kFirmware
              : draw == 1 ? SlotHost::Use::kExcluded
                          : SlotHost::Use::kRam;
      }
      host.slots.push_back({.use = use, .node = node});
    }
  }
  return host;
}

TdmrPolicy random_policy(std::mt19937_64& random) {
  TdmrPolicy policy;
  policy.goal = pick(random, {TdmrGoal::kReservedAreas, TdmrGoal::kPamt});
  policy.holes = pick(random, {TdmrHoles::kOfCmrs, TdmrHoles::kOfMemoryMap});
  policy.most_tdmrs = 1 + random() % 3;
  policy.most_areas = 1 + random() % 3;
  return policy;
}

/// The host as the planner is told: everything is convertible.
struct SlotScene {
  SlotScene(const SlotHost& slots, const TdmrPolicy& policy) {
    host.cmrs = {test::cmr(SlotHost::kBase.value(),
                           SlotHost::range_of(slots.slots.size() - 1).end().value())};
    for (std::size_t i = 0; i < slots.slots.size(); ++i) {
      const SlotHost::Slot& slot = slots.slots[i];
      const PhysRange range = SlotHost::range_of(i);
      host.memory.push_back(
          {.range = range,
           .node = slot.node,
           .kind = slot.use == SlotHost::Use::kFirmware ? MemoryKind::kFirmware : MemoryKind::kRam,
           .present = true});
      if (slot.use == SlotHost::Use::kExcluded) {
        excluded.push_back(range);
      }
    }
    host.policy = policy;
    host.policy.excluded = excluded;
  }
  TdmrHost host;
  std::vector<PhysRange> excluded;
};

std::uint64_t mixed_places(const TdmrPlan& plan, const SlotHost& host) {
  std::uint64_t count = 0;
  for (const PlannedTdmr& tdmr : plan.tdmrs) {
    const NodeId* before = nullptr;
    for (std::size_t i = 0; i < host.slots.size(); ++i) {
      const SlotHost::Slot& slot = host.slots[i];
      if (slot.use == SlotHost::Use::kRam && tdmr.range.contains(SlotHost::range_of(i))) {
        count += before != nullptr && *before != slot.node ? 1 : 0;
        before = &slot.node;
      }
    }
  }
  return count;
}

NaiveCost cost_of(const TdmrPlan& plan, const SlotHost& host, TdmrGoal goal) {
  std::uint64_t granules = 0;
  for (const PlannedTdmr& tdmr : plan.tdmrs) {
    granules += tdmr.range.size() / abi::tdx::kTdmrGranule;
  }
  const bool areas_first = goal == TdmrGoal::kReservedAreas;
  return {.given_up = plan.given_up_bytes / SlotHost::kSlot,
          .mixed = mixed_places(plan, host),
          .first = areas_first ? plan.areas : granules,
          .second = areas_first ? granules : plan.areas,
          .tdmrs = plan.tdmrs.size()};
}

std::string text(const NaiveCost& cost) {
  std::ostringstream out;
  out << "given up " << cost.given_up << ", mixed " << cost.mixed << ", goal " << cost.first
      << ", other " << cost.second << ", TDMRs " << cost.tdmrs;
  return out.str();
}
std::string text(const SlotHost& host, const TdmrPolicy& policy) {
  std::ostringstream out;
  for (std::size_t i = 0; i < host.slots.size(); ++i) {
    out << (i % SlotHost::kSlotsPerGranule == 0 ? "|" : "");
    out << (host.slots[i].use == SlotHost::Use::kRam ? (host.slots[i].node == kNode0 ? '0' : '1')
            : host.slots[i].use == SlotHost::Use::kFirmware ? 'f'
                                                            : '-');
  }
  out << " at most " << policy.most_tdmrs << " TDMRs, " << policy.most_areas << " areas, goal "
      << static_cast<int>(policy.goal) << ", holes " << static_cast<int>(policy.holes);
  return out.str();
}

class TdmrModel : public testing::TestWithParam<std::uint64_t> {};

TEST_P(TdmrModel, APlanIsAsGoodAsTheBestOfAllPlans) {
  const std::uint64_t seed = test::seed_from_environment(GetParam());
  SCOPED_TRACE("ACCEDE_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random{seed};
  std::size_t proven = 0;
  std::size_t judged = 0;
  for (std::size_t i = 0; i < kHosts; ++i) {
    const SlotHost slots = random_host(random);
    SlotScene scene{slots, random_policy(random)};
    const TdmrPolicy& policy = scene.host.policy;
    const TdmrPlan plan = scene.host.plan();
    const auto best = NaivePlanner{slots, policy}.best();
    // Without RAM there is no plan; metadata on another node is no part of the naive cost.
    if (plan.tdmrs.empty() || plan.foreign_pamt > Bytes{}) {
      continue;
    }
    SCOPED_TRACE(text(slots, policy));
    ASSERT_TRUE(best);
    const NaiveCost own = cost_of(plan, slots, policy.goal);
    ASSERT_EQ(own.given_up, best->given_up);
    ASSERT_EQ(plan.feasible, best->given_up == 0);
    ASSERT_FALSE(own < *best) << text(own) << " is better than " << text(*best);
    if (policy.goal == TdmrGoal::kReservedAreas) {
      ASSERT_TRUE(own.mixed != best->mixed || plan.areas_at_least <= best->first);
    }
    if (plan.optimum == TdmrOptimum::kProven) {
      ASSERT_EQ(own, *best) << text(own) << " against " << text(*best);
      ++proven;
    }
    ++judged;
  }
  EXPECT_GT(judged, kHosts * 4 / 5);
  EXPECT_GT(proven, judged * 9 / 10);
}

INSTANTIATE_TEST_SUITE_P(Seeds, TdmrModel, testing::Range<std::uint64_t>(1, 5));

/// Anything that check_input() takes, and some that it does not.
struct HostileHost {
  explicit HostileHost(std::mt19937_64& random) {
    const std::uint64_t width = pick<std::uint64_t>(random, {33, 34, 36, 40, 46});
    const unsigned grain = pick(random, {0U, 9U, 12U, 16U, 21U, 28U, 30U});
    const auto cuts = [&](std::size_t count) {
      std::vector<std::uint64_t> ascending(count);
      for (std::uint64_t& cut : ascending) {
        cut = random() % (1ULL << width) >> grain << grain;
      }
      std::ranges::sort(ascending);
      return ascending;
    };
    const auto places = cuts(2 + random() % 120);
    for (std::size_t i = 1; i < places.size(); ++i) {
      const auto kind = pick(random, {MemoryKind::kRam, MemoryKind::kRam, MemoryKind::kRam,
                                      MemoryKind::kFirmware, MemoryKind::kCxl, MemoryKind::kPmem});
      if (places[i - 1] < places[i] && random() % 4 != 0) {
        host.memory.push_back({.range = test::between(places[i - 1], places[i]),
                               .node = NodeId{static_cast<std::uint32_t>(random() % 3)},
                               .kind = kind,
                               .present = random() % 8 != 0});
      }
    }
    const auto edges = cuts(2 * (random() % 33));
    for (std::size_t i = 0; i + 1 < edges.size(); i += 2) {
      if (edges[i] >> 12 < edges[i + 1] >> 12) {
        host.cmrs.push_back(test::cmr(edges[i] >> 12 << 12, edges[i + 1] >> 12 << 12));
      }
    }
    const auto left_out = cuts(2 * (random() % 20));
    for (std::size_t i = 0; i + 1 < left_out.size(); i += 2) {
      excluded.push_back(test::between(left_out[i], left_out[i + 1]));
    }
    host.dynamic_pamt = random() % 2 == 0;
    host.policy = random_policy(random);
    host.policy.most_areas = 1 + random() % abi::tdx::kMostReservedAreas;
    host.policy.most_tdmrs = 1 + random() % abi::tdx::kMostTdmrs;
    host.policy.promise = pick(random, {TdmrPromise::kEveryPage, TdmrPromise::kBestEffort});
    host.policy.pmem = pick(random, {MemoryUse::kInclude, MemoryUse::kExclude});
    host.policy.hot_plug_room = pick(random, {MemoryUse::kInclude, MemoryUse::kExclude});
    host.policy.excluded = excluded;
  }
  TdmrHost host;
  std::vector<PhysRange> excluded;
};

class AnyTdmrHost : public testing::TestWithParam<std::uint64_t> {};

TEST_P(AnyTdmrHost, GetsAPlanThatTheModuleTakes) {
  const std::uint64_t seed = test::seed_from_environment(GetParam());
  SCOPED_TRACE("ACCEDE_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random{seed};
  std::size_t planned = 0;
  for (std::size_t i = 0; i < 500; ++i) {
    HostileHost any{random};
    const TdmrPlan plan = any.host.plan();
    ASSERT_FALSE(HasFailure()) << "host " << i;
    if (plan.feasible && any.host.policy.promise == TdmrPromise::kEveryPage) {
      ASSERT_TRUE(plan.problems.empty() && plan.given_up.empty());
    }
    ASSERT_TRUE(plan.feasible || !plan.problems.empty());
    ASSERT_LE(plan.tdmrs.size(), any.host.policy.most_tdmrs);
    planned += plan.tdmrs.empty() ? 0 : 1;
  }
  EXPECT_GT(planned, 50U);
}

INSTANTIATE_TEST_SUITE_P(Seeds, AnyTdmrHost, testing::Range<std::uint64_t>(1, 5));

}  // namespace
}  // namespace accede::host
