// A guest's memory management, put together for a benchmark.
#pragma once

#include "accede/guest/background.hpp"
#include "accede/guest/page_allocator.hpp"
#include "accede/guest/unaccepted_table.hpp"
#include "bench/clock.hpp"

#include <sched.h>
#include <sys/resource.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

namespace accede::bench {

/// The hooks on threads: a thread is a CPU.
struct ThreadHooks {
  inline static thread_local unsigned current_cpu = 0;

  std::atomic<std::uint32_t> wakes = 0;

  unsigned cpu() const { return current_cpu; }
  bool interrupts_off() { return false; }
  void interrupts_restore(bool) {}
  void relax() { sched_yield(); }
  std::uint64_t now() { return now_ns(); }
  void wake_acceptor() {
    wakes.fetch_add(1, std::memory_order_release);
    wakes.notify_one();
  }
  /// Somebody took the CPU from this thread since it asked last.
  bool other_work() {
    thread_local long before = 0;
    rusage usage{};
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nivcsw != std::exchange(before, usage.ru_nivcsw);
  }
};
static_assert(guest::AllocatorHooks<ThreadHooks>);

struct Yield {
  void operator()() const { sched_yield(); }
};

/// A table over one range of unaccepted memory, and an acceptor.
template <class Platform>
class BenchMemory {
 public:
  BenchMemory(Platform& platform, PhysRange unaccepted)
      : unaccepted_{unaccepted}, table_{make_table(unaccepted)}, acceptor{*table_, platform} {}

  [[nodiscard]] guest::UnacceptedTable& table() { return *table_; }
  [[nodiscard]] PhysRange unaccepted() const { return unaccepted_; }

 private:
  std::unique_ptr<guest::UnacceptedTable> make_table(PhysRange unaccepted) {
    std::vector<guest::MemoryRegion> regions{{unaccepted, guest::MemoryKind::kUnaccepted}};
    const auto map = guest::MemoryMap::from_regions(regions);
    const auto layout = guest::UnacceptedTable::plan(*map);
    storage_.resize((*layout)->table.value() / 8);
    index_.resize((*layout)->index);
    auto table = std::make_unique<guest::UnacceptedTable>();
    const auto built =
        table->build(*map, **layout, std::as_writable_bytes(std::span{storage_}), PhysAddr{4096},
                     index_, [](PhysRange) { return guest::PlatformResult{}; });
    if (!built) {
      std::abort();
    }
    return table;
  }

  PhysRange unaccepted_;
  std::vector<std::uint64_t> storage_;
  std::vector<std::uint64_t> index_;
  std::unique_ptr<guest::UnacceptedTable> table_;

 public:
  guest::Acceptor<Platform, Yield> acceptor;
};

/// A page allocator over one zone of unaccepted memory.
template <class Platform, class Policy>
class BenchVm {
 public:
  using Acceptor = guest::Acceptor<Platform, Yield>;
  using Allocator = guest::PageAllocator<Acceptor, Policy, ThreadHooks>;

  /// `add` false: the zone stays empty, memory is added later. The zone spans `span`.
  BenchVm(Platform& platform, PhysRange span, unsigned cpus, bool add = true)
      : memory{platform, span},
        zones_(1),
        caches_(cpus),
        metadata_(guest::Zone::metadata_bytes(span).value()),
        allocator{memory.acceptor, zones_, caches_, hooks} {
    allocator.open_zone(0, span, 0, metadata_, PhysAddr{1 << 20});
    allocator.prepare(span);
    if (add && !allocator.add(span)) {
      std::abort();
    }
  }

  BenchMemory<Platform> memory;
  ThreadHooks hooks;

 private:
  std::vector<guest::Zone> zones_;
  std::vector<guest::CpuCache> caches_;
  std::vector<std::byte> metadata_;

 public:
  Allocator allocator;
};

}  // namespace accede::bench
