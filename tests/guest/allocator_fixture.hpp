// A small VM for tests of the page allocator: memory map, table, platform, zones, CPUs. Nothing
// touches the memory (the allocator never does), so it may be as large as one likes.
#pragma once

#include "accede/guest/acceptor.hpp"
#include "accede/guest/memory_map.hpp"
#include "accede/guest/page_allocator.hpp"
#include "accede/guest/policies.hpp"
#include "accede/guest/unaccepted_table.hpp"
#include "tests/guest/fake_platform.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace accede::guest::test {

/// `size` bytes from the address `at`: area(64_MiB, 4_KiB).
[[nodiscard]] inline PhysRange area(Bytes at, Bytes size) {
  return PhysRange::make(PhysAddr{at.value()}, size).value();
}
[[nodiscard]] inline MemoryRegion usable(Bytes at, Bytes size) {
  return {.range = area(at, size), .kind = MemoryKind::kUsable};
}
[[nodiscard]] inline MemoryRegion unaccepted(Bytes at, Bytes size) {
  return {.range = area(at, size), .kind = MemoryKind::kUnaccepted};
}

/// Kernel hooks where a thread is a CPU. Thread-safe.
class TestHooks {
 public:
  /// Says which CPU the calling thread is.
  static void run_on(unsigned cpu) { cpu_ = cpu; }
  [[nodiscard]] static bool interrupts_are_off() { return off_; }

  [[nodiscard]] unsigned cpu() const { return cpu_; }
  [[nodiscard]] bool interrupts_off() { return std::exchange(off_, true); }
  void interrupts_restore(bool state) { off_ = state; }
  void relax() { std::this_thread::yield(); }
  [[nodiscard]] std::uint64_t now() const { return now_ns; }
  void wake_acceptor() {
    woken_with_lock = woken_with_lock || off_;
    ++wakes;
    wakes.notify_all();
  }
  [[nodiscard]] bool other_work() const { return busy; }

  std::atomic<std::uint64_t> now_ns = 0;
  std::atomic<std::uint64_t> wakes = 0;
  std::atomic<bool> busy = false;
  std::atomic<bool> woken_with_lock = false;

 private:
  static inline thread_local unsigned cpu_ = 0;
  static inline thread_local bool off_ = false;
};
static_assert(AllocatorHooks<TestHooks>);

struct VmZone {
  PhysRange span;
  unsigned node = 0;
};

struct VmConfig {
  std::vector<MemoryRegion> memory = {usable(0_MiB, 64_MiB), unaccepted(64_MiB, 192_MiB)};
  /// What the table was made from, if not from `memory`.
  std::vector<MemoryRegion> table_memory = {};
  /// Empty: one zone for all memory.
  std::vector<VmZone> zones = {};
  Bytes unit = 2_MiB;
  Bytes platform_step = 2_MiB;
  unsigned cpus = 1;
  /// False: the test prepares and adds memory itself.
  bool add_memory = true;
};

/// A VM that has just started its page allocator.
template <class Policy = Lazy>
class SmallVm {
  struct Relax {
    void operator()() const { std::this_thread::yield(); }
  };
  struct Clean {
    explicit Clean(VmConfig given) : config{std::move(given)} {
      if (config.table_memory.empty()) {
        config.table_memory = config.memory;
      }
      map = MemoryMap::from_regions(config.memory).value();
      table_map = MemoryMap::from_regions(config.table_memory).value();
      if (config.zones.empty()) {
        const auto all = map.regions();
        config.zones = {
            {.span = *PhysRange::make(all.front().range.begin(), all.back().range.end())}};
      }
    }
    VmConfig config;
    MemoryMap map;
    MemoryMap table_map;
  };

 public:
  using VmAcceptor = Acceptor<FakePlatform, Relax>;
  using Allocator = PageAllocator<VmAcceptor, Policy, TestHooks>;

  explicit SmallVm(VmConfig config = {})
      : clean_{std::move(config)},
        platform{clean_.config.platform_step},
        acceptor{with_table(), platform},
        zones_(clean_.config.zones.size()),
        caches_(clean_.config.cpus),
        allocator{acceptor, zones_, caches_, hooks} {
    platform.on_entry([this](PhysRange) {
      entered_with_lock_ = entered_with_lock_ || TestHooks::interrupts_are_off();
    });
    for (unsigned i = 0; i < zones_.size(); ++i) {
      const VmZone& zone = clean_.config.zones[i];
      const std::size_t bytes = Zone::metadata_bytes(zone.span).value();
      // Garbage: the allocator may not count on cleared storage.
      metadata_.emplace_back(bytes, std::byte{0xA5});
      allocator.open_zone(i, zone.span, zone.node, metadata_.back(), PhysAddr{0});
    }
    if (clean_.config.add_memory) {
      failed_while_adding = !add_all();
    }
  }

  /// Adds all memory, as one CPU.
  bool add_all() {
    bool ok = true;
    for (const VmZone& zone : clean_.config.zones) {
      allocator.prepare(zone.span);
    }
    for (const MemoryRegion& region : clean_.map.regions()) {
      ok = allocator.add(region.range).has_value() && ok;
    }
    return ok;
  }

  [[nodiscard]] Zone& zone(unsigned index) { return zones_[index]; }
  [[nodiscard]] const VmConfig& config() const { return clean_.config; }
  [[nodiscard]] Bytes total() const {
    return clean_.map.bytes_of(MemoryKind::kUsable) + clean_.map.bytes_of(MemoryKind::kUnaccepted);
  }
  [[nodiscard]] Bytes unaccepted_at_start() const {
    return clean_.table_map.bytes_of(MemoryKind::kUnaccepted);
  }
  [[nodiscard]] Bytes used() const {
    const MemoryCounters now = allocator.counters();
    return now.total - now.free;
  }
  /// True when every page of `range` is accepted, or was from the start.
  [[nodiscard]] bool touchable(PhysRange range) const {
    for (const MemoryRegion& region : clean_.table_map.regions()) {
      const PhysRange part = region.range.intersect(range);
      if (region.kind == MemoryKind::kUnaccepted && !part.empty() && !platform.accepted(part)) {
        return false;
      }
    }
    return true;
  }

  /// What is wrong with the VM as a whole, if anything. Only while no call runs.
  [[nodiscard]] std::string problem() const {
    if (!allocator.invariants()) {
      return "the invariants of the allocator do not hold";
    }
    if (!table.invariants()) {
      return "the invariants of the table do not hold";
    }
    if (!platform.double_accepts().empty()) {
      return "a page was accepted twice";
    }
    if (entered_with_lock_ || hooks.woken_with_lock) {
      return "a hook or the platform was called with a lock held";
    }
    for (const PhysRange run : platform.accepted_runs()) {
      if (!clean_.table_map.covers(run, MemoryKind::kUnaccepted)) {
        return "memory was accepted that was accepted from the start, or is none";
      }
    }
    return accounts();
  }

 private:
  /// The platform and the table agree about every page.
  [[nodiscard]] std::string accounts() const {
    PageSet clear;
    for (const MemoryRegion& region : clean_.table_map.regions()) {
      if (region.kind == MemoryKind::kUnaccepted) {
        clear.insert(region.range);
      }
    }
    table.for_each_run([&](PhysRange run) { clear.erase(run); });
    for (const PhysRange run : clear.runs()) {
      if (!platform.accepted(run)) {
        return "the table says that memory is accepted, and it is not";
      }
    }
    // A unit that failed part way has accepted pages and its bit set.
    if (acceptor.counters().failures == 0 && clear.size() != platform.accepted_bytes()) {
      return "memory was accepted that the table says is not";
    }
    return "";
  }

  UnacceptedTable& with_table() {
    const auto layout = UnacceptedTable::plan(clean_.table_map, clean_.config.unit).value();
    if (layout) {
      storage_.resize(layout->table.value() / 8);
      index_.resize(layout->index);
      auto accept = [this](PhysRange range) { return platform.accept(range); };
      const auto built =
          table.build(clean_.table_map, *layout, std::as_writable_bytes(std::span{storage_}),
                      PhysAddr{4096}, index_, accept);
      ACCEDE_ASSERT(built.has_value());
    }
    return table;
  }

  Clean clean_;
  std::vector<std::uint64_t> storage_;
  std::vector<std::uint64_t> index_;

 public:
  FakePlatform platform;
  UnacceptedTable table;
  VmAcceptor acceptor;
  TestHooks hooks;
  bool failed_while_adding = false;

 private:
  std::vector<Zone> zones_;
  std::vector<CpuCache> caches_;
  std::deque<std::vector<std::byte>> metadata_;
  std::atomic<bool> entered_with_lock_ = false;

 public:
  Allocator allocator;
};

/// Runs `body(i)` on `count` threads, each a CPU of that number, and waits for all.
template <class Body>
void run_on_cpus(unsigned count, Body body) {
  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < count; ++i) {
    threads.emplace_back([&body, i] {
      TestHooks::run_on(i);
      body(i);
    });
  }
}

/// `fallback`, unless the environment names a seed.
[[nodiscard]] inline std::uint64_t allocator_seed(std::uint64_t fallback) {
  const char* const text = std::getenv("ACCEDE_TEST_SEED");
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 0);
}

}  // namespace accede::guest::test
