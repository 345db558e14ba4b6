// Accepting memory unit by unit: the platform alone, and through the library.
#pragma once

#include "bench/bench_vm.hpp"
#include "bench/clock.hpp"

#include <cstdint>
#include <thread>
#include <vector>

namespace accede::bench {

struct AcceptFigures {
  double seconds = 0;
  Bytes bytes;
  std::uint64_t platform_calls = 0;
  std::uint64_t waits = 0;
  Bytes longest_step;
};

/// Runs `work(thread, part)` on threads, each on a part of `range` in whole 2 MiB; returns the wall
/// time in seconds from a common start.
template <class Work>
double on_threads(unsigned threads, PhysRange range, Work work) {
  const std::uint64_t units = range.size() / 2_MiB;
  std::atomic<unsigned> ready = 0;
  std::atomic<bool> go = false;
  std::vector<std::jthread> pool;
  for (unsigned i = 0; i < threads; ++i) {
    const PhysRange part = *PhysRange::make(range.begin() + 2_MiB * (units * i / threads),
                                            range.begin() + 2_MiB * (units * (i + 1) / threads));
    pool.emplace_back([&, i, part] {
      ThreadHooks::current_cpu = i;
      ready.fetch_add(1);
      while (!go.load()) {
        sched_yield();
      }
      work(i, part);
    });
  }
  while (ready.load() != threads) {
    sched_yield();
  }
  const std::uint64_t begin = now_ns();
  go.store(true);
  pool.clear();
  return static_cast<double>(now_ns() - begin) / 1e9;
}

/// Gives every unit of `range` to the platform, nothing else.
template <class Platform>
[[nodiscard]] AcceptFigures accept_raw(Platform& platform, PhysRange range, unsigned threads) {
  std::atomic<std::uint64_t> calls = 0;
  AcceptFigures figures{.bytes = range.size(), .longest_step = 2_MiB};
  figures.seconds = on_threads(threads, range, [&](unsigned, PhysRange part) {
    std::uint64_t mine = 0;
    for (PhysAddr at = part.begin(); at < part.end(); at += 2_MiB) {
      if (!platform.accept(*PhysRange::make(at, 2_MiB))) {
        std::abort();
      }
      ++mine;
    }
    calls += mine;
  });
  figures.platform_calls = calls.load();
  return figures;
}

/// Asks the library for every unit of `range`, one by one, as a kernel that touches them would.
template <class Platform>
[[nodiscard]] AcceptFigures accept_lazily(Platform& platform, PhysRange range, unsigned threads) {
  BenchMemory<Platform> memory{platform, range};
  AcceptFigures figures;
  figures.seconds = on_threads(threads, range, [&](unsigned, PhysRange part) {
    for (PhysAddr at = part.begin(); at < part.end(); at += 2_MiB) {
      if (!memory.acceptor.accept(*PhysRange::make(at, 2_MiB))) {
        std::abort();
      }
    }
  });
  const guest::AcceptorCounters counters = memory.acceptor.counters();
  figures.bytes = counters.accepted;
  figures.platform_calls = counters.platform_calls;
  figures.waits = counters.waits;
  figures.longest_step = counters.longest_step;
  return figures;
}

/// All CPUs accept everything that the allocator has.
template <class Platform>
[[nodiscard]] AcceptFigures accept_eagerly(Platform& platform, PhysRange range, unsigned threads) {
  BenchVm<Platform, guest::Lazy> vm{platform, range, threads};
  AcceptFigures figures;
  figures.seconds = on_threads(threads, range, [&](unsigned, PhysRange) {
    if (!vm.allocator.accept_everything()) {
      std::abort();
    }
  });
  const guest::AcceptorCounters counters = vm.memory.acceptor.counters();
  figures.bytes = counters.accepted;
  figures.platform_calls = counters.platform_calls;
  figures.waits = counters.waits;
  figures.longest_step = counters.longest_step;
  return figures;
}

}  // namespace accede::bench
