// How long a page takes from asking for it to having written to it, at a steady rate.
#pragma once

#include "accede/base/phys_window.hpp"
#include "bench/bench_vm.hpp"
#include "bench/clock.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>
#include <thread>
#include <type_traits>
#include <vector>

namespace accede::bench {

struct FirstTouchSetup {
  Bytes hand_out = 4_GiB;
  double bytes_per_second = 1024.0 * 1024 * 1024;
  bool busy_thread = false;    ///< a third thread that wants a CPU
  bool empty_reserve = false;  ///< the acceptor thread starts together with the load
  bool idle_after = true;      ///< look again after a second without allocations
};

struct FirstTouchFigures {
  Percentiles latency;
  std::uint64_t allocations = 0;
  std::uint64_t accept_waits = 0;
  std::uint64_t platform_calls = 0;
  Bytes accepted;
  Bytes used;               ///< pages handed out
  Bytes longest_wait_step;  ///< most bytes that one request accepted
  Bytes most_unused;        ///< accepted, not handed out: the most at any accept
  Bytes idle_unused;        ///< and after a second without allocations
  double acceptor_cpu_seconds = 0;
  double acceptor_charged_seconds = 0;  ///< what the platform charged the acceptor thread
};

/// Runs a BackgroundAcceptor until it is destroyed.
template <class Allocator>
class AcceptorThread {
 public:
  AcceptorThread(Allocator& allocator, ThreadHooks& hooks, unsigned cpu)
      : hooks_{hooks}, worker_{allocator}, thread_{[this, cpu] { run(cpu); }} {}
  ~AcceptorThread() {
    stop_.store(true);
    hooks_.wake_acceptor();
    thread_.join();
  }
  AcceptorThread(const AcceptorThread&) = delete;
  AcceptorThread& operator=(const AcceptorThread&) = delete;

  /// Everything that could be kept ready is.
  [[nodiscard]] bool asleep() const { return asleep_.load(); }
  [[nodiscard]] std::uint64_t cpu_ns() const { return cpu_ns_.load(); }
  [[nodiscard]] std::uint64_t steps_ns() const { return steps_ns_.load(); }

 private:
  void run(unsigned cpu) {
    ThreadHooks::current_cpu = cpu;
    while (!stop_.load()) {
      const std::uint32_t seen = hooks_.wakes.load(std::memory_order_acquire);
      const auto step = worker_.step();
      if (!step) {
        std::abort();
      }
      steps_ns_ += static_cast<std::uint64_t>(static_cast<double>(step->accepted.value()) / 1.5);
      cpu_ns_ = thread_cpu_ns();
      if (step->sleep_ns == guest::BackgroundStep::kUntilWoken) {
        asleep_ = true;
        if (!stop_.load()) {
          hooks_.wakes.wait(seen, std::memory_order_acquire);
        }
        asleep_ = false;
      } else if (step->sleep_ns != 0) {
        std::this_thread::sleep_for(std::chrono::nanoseconds{step->sleep_ns});
      }
    }
  }

  ThreadHooks& hooks_;
  guest::BackgroundAcceptor<Allocator> worker_;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> asleep_ = false;
  std::atomic<std::uint64_t> cpu_ns_ = 0;
  std::atomic<std::uint64_t> steps_ns_ = 0;
  std::thread thread_;
};

/// Hands out pages at a steady rate and touches each; latencies go to `samples`.
template <class Allocator>
void hand_out(Allocator& allocator, PhysWindow window, const FirstTouchSetup& setup,
              std::atomic<std::uint64_t>& used, std::vector<std::uint32_t>& samples) {
  const std::uint64_t pages = setup.hand_out / 4_KiB;
  const double ns_per_page = 4096 / setup.bytes_per_second * 1e9;
  samples.reserve(pages);
  const std::uint64_t begin = now_ns();
  for (std::uint64_t i = 0; i < pages; ++i) {
    const auto due = begin + static_cast<std::uint64_t>(static_cast<double>(i) * ns_per_page);
    std::uint64_t asked = now_ns();
    while (asked < due) {
      __builtin_ia32_pause();
      asked = now_ns();
    }
    const auto page = allocator.allocate(guest::Order{0});
    if (!page) {
      std::abort();
    }
    *window.pointer<volatile std::uint64_t>(*page) = i;
    samples.push_back(static_cast<std::uint32_t>(std::min<std::uint64_t>(now_ns() - asked, ~0U)));
    used.store((i + 1) * 4096, std::memory_order_relaxed);
  }
}

/// One run. `range` is all unaccepted; `before(policy)` sets the policy up.
template <class Policy, class Platform, class Before>
[[nodiscard]] FirstTouchFigures first_touch(Platform& platform, PhysWindow window, PhysRange range,
                                            const FirstTouchSetup& setup, Before before) {
  BenchVm<Platform, Policy> vm{platform, range, 2};
  before(vm.allocator.policy());
  std::atomic<std::uint64_t> used = 0;
  std::atomic<std::uint64_t> most_unused = 0;
  platform.on_accept = [&](PhysRange) {
    // The bytes of the step itself count as accepted now; used may lag by one page.
    const std::uint64_t accepted = platform.counters().bytes().value();
    const std::uint64_t handed = used.load(std::memory_order_relaxed);
    const std::uint64_t unused = accepted > handed ? accepted - handed : 0;
    std::uint64_t seen = most_unused.load();
    while (seen < unused && !most_unused.compare_exchange_weak(seen, unused)) {
    }
  };
  std::atomic<bool> stop = false;
  std::optional<std::jthread> busy;
  if (setup.busy_thread) {
    busy.emplace([&] {
      while (!stop.load(std::memory_order_relaxed)) {
      }
    });
  }
  using Thread = AcceptorThread<typename BenchVm<Platform, Policy>::Allocator>;
  constexpr bool kBackground = std::is_same_v<Policy, guest::Background>;
  std::optional<std::conditional_t<kBackground, Thread, int>> acceptor;
  if constexpr (kBackground) {
    acceptor.emplace(vm.allocator, vm.hooks, 1);
    while (!setup.empty_reserve && !acceptor->asleep()) {
      std::this_thread::yield();
    }
  }
  std::vector<std::uint32_t> samples;
  ThreadHooks::current_cpu = 0;
  hand_out(vm.allocator, window, setup, used, samples);
  FirstTouchFigures figures;
  if (setup.idle_after) {
    std::this_thread::sleep_for(std::chrono::seconds{1});
  }
  stop = true;
  busy.reset();
  figures.idle_unused = platform.counters().bytes() - Bytes{used.load()};
  if constexpr (kBackground) {
    figures.acceptor_cpu_seconds = static_cast<double>(acceptor->cpu_ns()) / 1e9;
    figures.acceptor_charged_seconds = static_cast<double>(acceptor->steps_ns()) / 1e9;
  }
  acceptor.reset();
  platform.on_accept = nullptr;
  const guest::AcceptorCounters counters = vm.memory.acceptor.counters();
  figures.allocations = samples.size();
  figures.latency = percentiles(samples);
  figures.accept_waits = vm.allocator.accept_waits();
  figures.platform_calls = counters.platform_calls;
  figures.accepted = counters.accepted;
  figures.used = Bytes{used.load()};
  figures.longest_wait_step = counters.longest_call;
  figures.most_unused = Bytes{most_unused.load()};
  return figures;
}

}  // namespace accede::bench
