// A platform whose accept costs what a real TD is reported to pay, on resident memory.
#pragma once

#include "accede/base/phys_window.hpp"
#include "accede/guest/platform.hpp"
#include "bench/clock.hpp"

#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>

namespace accede::bench {

/// What one vCPU of a real TD is reported to accept in a second.
inline constexpr double kModelledBytesPerSecond = 1.5e9;

/// Counts what every platform of the benchmarks counts. Thread-safe.
class BackingCounters {
 public:
  void add(Bytes bytes, std::uint64_t charged_ns) {
    calls_.fetch_add(1, std::memory_order_relaxed);
    bytes_.fetch_add(bytes.value(), std::memory_order_relaxed);
    charged_ns_.fetch_add(charged_ns, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t calls() const { return calls_.load(); }
  [[nodiscard]] Bytes bytes() const { return Bytes{bytes_.load()}; }
  [[nodiscard]] std::uint64_t charged_ns() const { return charged_ns_.load(); }

 private:
  std::atomic<std::uint64_t> calls_ = 0;
  std::atomic<std::uint64_t> bytes_ = 0;
  std::atomic<std::uint64_t> charged_ns_ = 0;
};

/// Zeroes resident memory and lets bytes / 1.5 GB/s pass, because populating memory on a shared
/// machine swings by a factor of four. The CPU is busy meanwhile, as a vCPU inside TDCALL is.
/// Thread-safe.
class ModelledPlatform {
 public:
  explicit ModelledPlatform(PhysWindow window) : window_{window} {}

  [[nodiscard]] guest::PlatformResult accept(PhysRange range) {
    const std::uint64_t begin = now_ns();
    const double cost = static_cast<double>(range.size().value()) / kModelledBytesPerSecond * 1e9;
    std::memset(window_.pointer<void>(range.begin()), 0, range.size().value());
    const std::uint64_t end = begin + static_cast<std::uint64_t>(cost);
    std::uint64_t now = now_ns();
    while (now < end) {
      __builtin_ia32_pause();
      now = now_ns();
    }
    counters_.add(range.size(), now - begin);
    if (on_accept) {
      on_accept(range);
    }
    return {};
  }
  [[nodiscard]] guest::PlatformResult convert(PhysRange, guest::Visibility) { return {}; }
  [[nodiscard]] guest::PlatformKind kind() const { return guest::PlatformKind::kTdx; }
  [[nodiscard]] Bytes preferred_step() const { return 2_MiB; }

  [[nodiscard]] const BackingCounters& counters() const { return counters_; }

  std::function<void(PhysRange)> on_accept;  ///< set before the first accept

 private:
  PhysWindow window_;
  BackingCounters counters_;
};
static_assert(guest::AcceptPlatform<ModelledPlatform>);

/// Only counts: for runs that never touch the memory they hand out.
class CountedPlatform {
 public:
  [[nodiscard]] guest::PlatformResult accept(PhysRange range) {
    counters_.add(range.size(), 0);
    return {};
  }
  [[nodiscard]] guest::PlatformResult convert(PhysRange, guest::Visibility) { return {}; }
  [[nodiscard]] guest::PlatformKind kind() const { return guest::PlatformKind::kTdx; }
  [[nodiscard]] Bytes preferred_step() const { return 2_MiB; }
  [[nodiscard]] const BackingCounters& counters() const { return counters_; }

 private:
  BackingCounters counters_;
};
static_assert(guest::AcceptPlatform<CountedPlatform>);

}  // namespace accede::bench
