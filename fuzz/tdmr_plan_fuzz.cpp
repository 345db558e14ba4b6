// The fuzzer's bytes as a host: whatever is taken has a plan that the TDX module takes.
#include "accede/host/tdmr_hot_add.hpp"
#include "accede/host/tdmr_linux.hpp"
#include "accede/host/tdmr_plan.hpp"

#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

namespace {

using namespace accede;
using namespace accede::host;

class Bytestream {
 public:
  explicit Bytestream(std::span<const std::uint8_t> bytes) : bytes_{bytes} {}

  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  std::uint8_t byte() {
    const std::uint8_t first = bytes_.empty() ? std::uint8_t{0} : bytes_.front();
    bytes_ = bytes_.subspan(bytes_.empty() ? 0 : 1);
    return first;
  }
  std::uint64_t number(unsigned bytes) {
    std::uint64_t number = 0;
    for (unsigned i = 0; i < bytes; ++i) {
      number = number << 8 | byte();
    }
    return number;
  }
  /// `gap` and `size` in units of 2^shift, after `at`; moves `at` to the end.
  PhysRange range_after(PhysAddr& at) {
    const std::uint8_t shape = byte();
    const unsigned shift = 12 + shape % 24;
    const std::uint64_t begin = at.value() + ((shape & 0x80) != 0 ? number(1) << shift : 0);
    const std::uint64_t size = (number(2) << shift) + ((shape & 0x40) != 0 ? number(2) : 0);
    at = PhysAddr{begin + size};
    return *PhysRange::make(PhysAddr{begin}, at);
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

struct FuzzedHost {
  explicit FuzzedHost(Bytestream& bytes) {
    machine.physical_bits = 30 + bytes.byte() % 23;
    machine.key_bits = bytes.byte() % 8;
    const std::uint8_t choices = bytes.byte();
    machine.dynamic_pamt = (choices & 1) != 0;
    policy.promise = (choices & 2) != 0 ? TdmrPromise::kBestEffort : TdmrPromise::kEveryPage;
    policy.holes = (choices & 4) != 0 ? TdmrHoles::kOfMemoryMap : TdmrHoles::kOfCmrs;
    policy.goal = (choices & 8) != 0 ? TdmrGoal::kReservedAreas : TdmrGoal::kPamt;
    policy.pmem = (choices & 16) != 0 ? MemoryUse::kInclude : MemoryUse::kExclude;
    policy.cxl = (choices & 32) != 0 ? MemoryUse::kInclude : MemoryUse::kExclude;
    policy.hot_plug_room = (choices & 64) != 0 ? MemoryUse::kInclude : MemoryUse::kExclude;
    policy.most_tdmrs = 1 + bytes.byte() % 65U;
    policy.most_areas = 1 + bytes.byte() % 17U;
    read_lists(bytes);
  }
  FuzzedHost(const FuzzedHost&) = delete;
  FuzzedHost& operator=(const FuzzedHost&) = delete;

  TdmrMachine machine;
  TdmrPolicy policy;
  std::vector<abi::tdx::CmrInfo> cmrs;
  std::vector<MemoryRange> memory;
  std::vector<PhysRange> excluded;

 private:
  void read_lists(Bytestream& bytes) {
    PhysAddr cmr_end;
    PhysAddr memory_end;
    PhysAddr excluded_end;
    // Ends that do not fit are refused by the planner; these only keep the sums in range.
    constexpr PhysAddr kFar{1ULL << 60};
    while (!bytes.empty() && cmr_end < kFar && memory_end < kFar && excluded_end < kFar) {
      const std::uint8_t what = bytes.byte();
      if (what % 4 == 0) {
        const PhysRange range = bytes.range_after(cmr_end);
        cmrs.push_back({.base = range.begin().value(), .size = range.size().value()});
      } else if (what % 4 == 1) {
        excluded.push_back(bytes.range_after(excluded_end));
      } else {
        memory.push_back({.range = bytes.range_after(memory_end),
                          .node = NodeId{what / 64U},
                          .kind = static_cast<MemoryKind>(what / 4 % 4),
                          .present = (what & 16) == 0});
      }
    }
    machine.cmrs = cmrs;
    policy.excluded = excluded;
  }
};

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

/// Everything is counted once, and no area covers memory that is counted as TD memory.
void require_sound_sums(const TdmrPlan& plan) {
  Bytes in_tdmrs;
  for (const PlannedTdmr& tdmr : plan.tdmrs) {
    Bytes reserved;
    for (const PlannedArea& area : tdmr.areas()) {
      reserved += area.range.size();
    }
    require(reserved + tdmr.td_memory <= tdmr.range.size());
    in_tdmrs += tdmr.td_memory;
  }
  Bytes on_nodes;
  for (const NodeMemory& node : plan.nodes) {
    require(node.present == node.td_memory + node.pamt + node.given_up + node.not_convertible);
    on_nodes += node.td_memory;
  }
  // Room for memory that is added later lies on no node yet.
  require(plan.tdmrs.empty() || on_nodes <= in_tdmrs);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytestream bytes{{data, size}};
  const FuzzedHost host{bytes};
  const std::size_t bound = tdmr_workspace_bound(host.memory.size(), host.excluded.size());
  std::vector<std::uint64_t> storage(bound / 8 + 1);
  const auto workspace = std::as_writable_bytes(std::span{storage}).first(bound);
  const auto plan = plan_tdmrs(host.machine, host.memory, host.policy, workspace);
  if (!plan) {
    return 0;
  }
  require(plan->feasible || !plan->problems.empty());
  require_sound_sums(*plan);
  if (!plan->tdmrs.empty()) {
    std::vector<abi::tdx::TdmrInfo> infos;
    for (const PlannedTdmr& tdmr : plan->tdmrs) {
      infos.push_back(tdmr_info(tdmr));
    }
    require(check_tdmrs(host.machine, infos) == 0);
  }
  for (const MemoryRange& memory : host.memory) {
    const HotAddAnswer answer = judge_hot_add(plan->tdmrs, host.policy.promise, memory.range);
    require((answer.outcome == HotAddOutcome::kUsable) == (answer.aug_status == 0));
  }
  (void)plan_as_linux(host.machine, host.memory, host.policy);
  return 0;
}
