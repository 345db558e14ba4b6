// What acceptance costs an allocator that has nothing left to accept: a fixed trace of requests.
#pragma once

#include "bench/bench_vm.hpp"
#include "bench/modelled_platform.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <vector>

namespace accede::bench {

/// One step of the trace: allocate a block of an order, or free the block of an earlier step.
struct TraceStep {
  static constexpr std::uint32_t kAllocate = ~0U;
  std::uint32_t frees = kAllocate;  ///< slot to free; kAllocate: fill `slot`
  std::uint32_t slot = 0;
  guest::Order order;
};

/// The same 100,000 steps in every run: nine of ten requests are single pages, lives are short, and
/// the memory never runs out.
[[nodiscard]] inline std::vector<TraceStep> allocation_trace() {
  constexpr std::size_t kSteps = 100'000;
  std::mt19937 random{20261121};
  std::vector<TraceStep> steps;
  std::vector<std::uint32_t> live;
  std::vector<guest::Order> orders;
  while (steps.size() < kSteps) {
    if (!live.empty() && (live.size() > 4000 || random() % 2 == 0)) {
      const std::size_t victim =
          live.size() - 1 - random() % std::min<std::size_t>(live.size(), 200);
      steps.push_back({.frees = live[victim], .slot = 0, .order = orders[live[victim]]});
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(victim));
    } else {
      const guest::Order order{random() % 10 != 0 ? 0 : static_cast<unsigned>(random() % 6)};
      const auto slot = static_cast<std::uint32_t>(orders.size());
      orders.push_back(order);
      live.push_back(slot);
      steps.push_back({.slot = slot, .order = order});
    }
  }
  return steps;
}

/// An allocator with nothing unaccepted: under NoAcceptance there never was, under Lazy all of it
/// was accepted by requests.
template <class Policy>
class DrainedVm {
 public:
  DrainedVm()
      : memory_{platform_, Policy::kKnowsUnaccepted ? kSpan : kNothing},
        zones_(1),
        caches_(1),
        metadata_(guest::Zone::metadata_bytes(kSpan).value()),
        allocator{memory_.acceptor, zones_, caches_, hooks_},
        trace_{allocation_trace()},
        slots_(trace_.size()) {
    allocator.open_zone(0, kSpan, 0, metadata_, PhysAddr{1 << 20});
    allocator.prepare(kSpan);
    if (!allocator.add(kMemory) ||
        (Policy::kKnowsUnaccepted && !memory_.acceptor.accept(kNewMemory))) {
      std::abort();
    }
    drain();
  }

  /// Runs the trace once and gives everything back.
  void replay() {
    for (const TraceStep& step : trace_) {
      if (step.frees != TraceStep::kAllocate) {
        give_back(step.frees, step.order);
      } else {
        slots_[step.slot] = take(step.order);
      }
    }
    for (const TraceStep& step : trace_) {
      if (step.frees == TraceStep::kAllocate && slots_[step.slot] != PhysAddr{}) {
        give_back(step.slot, step.order);
      }
    }
  }

  /// Adds memory that is unaccepted and allocates until some of it was accepted; true when it was.
  [[nodiscard]] bool takes_new_memory() {
    const Bytes before = platform_.counters().bytes();
    memory_.table().mark_unaccepted(kNewMemory);
    if (!allocator.add(kNewMemory)) {
      return false;
    }
    drain();
    return platform_.counters().bytes() - before == kNewMemory.size();
  }

 private:
  static constexpr PhysRange range(std::uint64_t begin_mib, std::uint64_t end_mib) {
    return *PhysRange::make(PhysAddr{begin_mib << 20}, PhysAddr{end_mib << 20});
  }
  static constexpr PhysRange kNothing = range(4096, 4098);
  static constexpr PhysRange kSpan = range(4096, 4096 + 320);
  static constexpr PhysRange kMemory = range(4096, 4096 + 256);
  static constexpr PhysRange kNewMemory = range(4096 + 256, 4096 + 320);

  [[nodiscard]] PhysAddr take(guest::Order order) {
    const auto page = allocator.allocate(order);
    if (!page) {
      std::abort();
    }
    return *page;
  }
  void give_back(std::uint32_t slot, guest::Order order) {
    if (!allocator.free(slots_[slot], order)) {
      std::abort();
    }
    slots_[slot] = PhysAddr{};
  }
  /// Allocates all there is and frees it.
  void drain() {
    std::vector<PhysAddr> blocks;
    while (const auto block = allocator.allocate(guest::kMaxOrder)) {
      blocks.push_back(*block);
    }
    for (const PhysAddr block : blocks) {
      if (!allocator.free(block, guest::kMaxOrder)) {
        std::abort();
      }
    }
  }

  CountedPlatform platform_;
  BenchMemory<CountedPlatform> memory_;
  ThreadHooks hooks_;
  std::vector<guest::Zone> zones_;
  std::vector<guest::CpuCache> caches_;
  std::vector<std::byte> metadata_;

 public:
  typename BenchVm<CountedPlatform, Policy>::Allocator allocator;

 private:
  std::vector<TraceStep> trace_;
  std::vector<PhysAddr> slots_;
};

}  // namespace accede::bench
