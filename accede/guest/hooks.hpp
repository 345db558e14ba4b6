// What the page allocator asks of the kernel it lives in.
#pragma once

#include "accede/base/spin_lock.hpp"

#include <concepts>
#include <cstdint>
#include <utility>

namespace accede::guest {

/// The hooks of an embedder, six in all. The defaults in SingleCpuHooks do for one CPU without
/// interrupts.
///   cpu()                the number of the running CPU, below the number of CPU caches. May be
///                        stale by the time it is used (caches have locks); right when it matters
///                        for speed.
///   interrupts_off() / interrupts_restore(state)   around every lock of the allocator, so that an
///                        interrupt handler may allocate without waiting. One pair, one hook.
///   relax()              while another CPU accepts what we need: a pause, a yield.
///   now()                nanoseconds from any start, monotonic. Only the background acceptor asks.
///   wake_acceptor()      the reserve runs low. Called without locks; must not block.
///   other_work()         true when this CPU has something better to do than to work ahead.
template <class H>
concept AllocatorHooks = requires(H& hooks) {
  { hooks.cpu() } -> std::same_as<unsigned>;
  { hooks.interrupts_restore(hooks.interrupts_off()) };
  { hooks.relax() };
  { hooks.now() } -> std::same_as<std::uint64_t>;
  { hooks.wake_acceptor() };
  { hooks.other_work() } -> std::same_as<bool>;
};

struct SingleCpuHooks {
  unsigned cpu() { return 0; }
  bool interrupts_off() { return false; }
  void interrupts_restore(bool) {}
  void relax() { __builtin_ia32_pause(); }
  std::uint64_t now() { return 0; }
  void wake_acceptor() {}
  bool other_work() { return false; }
};
static_assert(AllocatorHooks<SingleCpuHooks>);

/// Holds a lock with interrupts off for a scope.
template <AllocatorHooks Hooks>
class Held {
 public:
  Held(Hooks& hooks, SpinLock& lock) : hooks_{hooks}, state_{hooks.interrupts_off()}, lock_{lock} {
    lock_.lock();
  }
  ~Held() {
    lock_.unlock();
    hooks_.interrupts_restore(state_);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

 private:
  Hooks& hooks_;
  decltype(std::declval<Hooks&>().interrupts_off()) state_;
  SpinLock& lock_;
};

}  // namespace accede::guest
