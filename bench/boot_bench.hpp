// A boot of 248 CPUs, from a trace of its page allocations.
#pragma once

#include "bench/bench_vm.hpp"
#include "bench/modelled_platform.hpp"

#include <cstdint>
#include <expected>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace accede::bench {

/// One line of a trace: `a CPU ORDER COUNT` allocates COUNT blocks, `f CPU ORDER COUNT` frees the
/// last COUNT blocks of that order that the CPU allocated.
struct BootStep {
  bool allocate = true;
  unsigned cpu = 0;
  guest::Order order;
  unsigned count = 0;
};

struct BootTrace {
  std::vector<BootStep> steps;
  unsigned cpus = 0;
};

/// Lines that begin with # are comments. The error names the line.
[[nodiscard]] inline std::expected<BootTrace, std::string> read_boot_trace(
    const std::string& path) {
  std::ifstream file{path};
  if (!file) {
    return std::unexpected{"cannot open the trace " + path};
  }
  BootTrace trace;
  std::string line;
  for (unsigned number = 1; std::getline(file, line); ++number) {
    if (line.empty() || line[0] == '#') {
      continue;
    }
    std::istringstream words{line};
    char kind = 0;
    unsigned cpu = 0;
    unsigned order = 0;
    unsigned count = 0;
    if (!(words >> kind >> cpu >> order >> count) || (kind != 'a' && kind != 'f') || order > 10 ||
        cpu > 4095) {
      return std::unexpected{path + ":" + std::to_string(number) + ": not a step of a trace"};
    }
    trace.cpus = std::max(trace.cpus, cpu + 1);
    trace.steps.push_back(
        {.allocate = kind == 'a', .cpu = cpu, .order = guest::Order{order}, .count = count});
  }
  return trace;
}

struct BootFigures {
  Bytes accepted;
  Bytes handed_out;   ///< pages with callers at the end
  Bytes bookkeeping;  ///< page information, caches and table
  std::uint64_t platform_calls = 0;
  std::uint64_t requests = 0;
  std::uint64_t accept_waits = 0;
  Bytes longest_step;
  double seconds = 0;
  [[nodiscard]] Bytes used() const { return handed_out + bookkeeping; }
};

/// Replays the trace on a VM of two nodes, half of `memory` each. Nothing touches the memory, so
/// accepting only counts. `before(policy)` sets the policy up.
template <class Policy, class Before>
[[nodiscard]] BootFigures boot(const BootTrace& trace, Bytes memory, Before before) {
  using Platform = CountedPlatform;
  using Acceptor = guest::Acceptor<Platform, Yield>;
  const PhysRange all = *PhysRange::make(PhysAddr{4ULL << 30}, memory);
  const PhysAddr middle = all.begin() + Bytes{memory.value() / 2};
  Platform platform;
  BenchMemory<Platform> vm{platform, all};
  ThreadHooks hooks;
  std::vector<guest::Zone> zones(2);
  std::vector<guest::CpuCache> caches(trace.cpus);
  guest::PageAllocator<Acceptor, Policy, ThreadHooks> allocator{vm.acceptor, zones, caches, hooks};
  before(allocator.policy());
  std::vector<std::vector<std::byte>> metadata;
  for (unsigned node = 0; node < 2; ++node) {
    const PhysRange part =
        node == 0 ? *PhysRange::make(all.begin(), middle) : *PhysRange::make(middle, all.end());
    // Page information lies in unaccepted memory too: the early allocator accepts it.
    const Bytes need = guest::Zone::metadata_bytes(part);
    const PhysRange place = *PhysRange::make(part.begin(), need);
    metadata.emplace_back(need.value());
    if (!vm.acceptor.accept(place)) {
      std::abort();
    }
    allocator.open_zone(node, part, node, metadata.back(), place.begin());
    allocator.prepare(part);
    const PhysAddr first = place.end().align_up(4_KiB);
    if (!allocator.add(*PhysRange::make(first, part.end()))) {
      std::abort();
    }
  }
  for (unsigned cpu = 0; cpu < trace.cpus; ++cpu) {
    allocator.assign_cpu(cpu, cpu * 2 / trace.cpus);
  }
  BootFigures figures;
  std::vector<std::array<std::vector<PhysAddr>, 11>> held(trace.cpus);
  const std::uint64_t begin = now_ns();
  for (const BootStep& step : trace.steps) {
    ThreadHooks::current_cpu = step.cpu;
    auto& blocks = held[step.cpu][step.order.value()];
    for (unsigned i = 0; i < step.count; ++i) {
      if (step.allocate) {
        const auto block = allocator.allocate(step.order);
        if (!block) {
          std::abort();
        }
        blocks.push_back(*block);
        figures.handed_out += step.order.bytes();
        ++figures.requests;
      } else if (!blocks.empty()) {
        if (!allocator.free(blocks.back(), step.order)) {
          std::abort();
        }
        blocks.pop_back();
        figures.handed_out -= step.order.bytes();
      }
    }
  }
  figures.seconds = static_cast<double>(now_ns() - begin) / 1e9;
  ThreadHooks::current_cpu = 0;
  const guest::AcceptorCounters counters = vm.acceptor.counters();
  figures.accepted = counters.accepted;
  figures.bookkeeping = allocator.metadata();
  figures.platform_calls = counters.platform_calls;
  figures.accept_waits = allocator.accept_waits();
  figures.longest_step = counters.longest_call;
  return figures;
}

}  // namespace accede::bench
