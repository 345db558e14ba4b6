// What the page allocator asks of this kernel: one CPU, interrupts that may come at any time.
#pragma once

#include "accede/guest/hooks.hpp"

#include <atomic>
#include <cstdint>
#include <utility>

namespace accede::efi::kernel {

/// The interrupt flag of the CPU. Ring 0.
struct CpuInterrupts {
  /// Interrupts off; returns whether they were on.
  static bool off() {
    std::uint64_t flags = 0;
    asm volatile("pushfq\n\tpopq %0\n\tcli" : "=r"(flags) : : "memory");
    return (flags & kInterruptFlag) != 0;
  }
  static void restore(bool on) {
    if (on) {
      asm volatile("sti" : : : "memory");
    }
  }

 private:
  static constexpr std::uint64_t kInterruptFlag = 1U << 9;
};

/// For code that runs where there are no interrupts, or may not turn them off.
struct NoInterrupts {
  static bool off() { return false; }
  static void restore(bool) {}
};

/// The six hooks. `Clock` is called without arguments and returns nanoseconds that do not fall.
/// Only the one CPU and its interrupt handlers use the object.
template <class Clock, class Interrupts = CpuInterrupts>
class KernelHooks {
 public:
  explicit KernelHooks(Clock clock) : clock_{std::move(clock)} {}

  [[nodiscard]] unsigned cpu() const { return 0; }
  [[nodiscard]] bool interrupts_off() { return Interrupts::off(); }
  void interrupts_restore(bool on) { Interrupts::restore(on); }
  void relax() { __builtin_ia32_pause(); }
  [[nodiscard]] std::uint64_t now() { return clock_(); }
  void wake_acceptor() { woken_.store(true, std::memory_order_relaxed); }
  /// The acceptor runs only when the kernel has decided to let it.
  [[nodiscard]] bool other_work() const { return false; }

  /// Whether wake_acceptor() was called since the last call of this.
  [[nodiscard]] bool take_wake_up() { return woken_.exchange(false, std::memory_order_relaxed); }

 private:
  Clock clock_;
  std::atomic<bool> woken_ = false;
};
static_assert(guest::AllocatorHooks<KernelHooks<std::uint64_t (*)()>>);

}  // namespace accede::efi::kernel
