// A lock that nobody waits for: the TDX module answers "busy" instead.
#pragma once

#include <atomic>
#include <cstdint>

namespace accede::host {

/// One exclusive holder or any number of shared ones.
class TryLock {
 public:
  [[nodiscard]] bool try_exclusive() {
    std::uint32_t free = 0;
    return holders_.compare_exchange_strong(free, kExclusive, std::memory_order_acquire,
                                            std::memory_order_relaxed);
  }
  [[nodiscard]] bool try_shared() {
    std::uint32_t holders = holders_.load(std::memory_order_relaxed);
    while (holders != kExclusive) {
      if (holders_.compare_exchange_weak(holders, holders + 1, std::memory_order_acquire,
                                         std::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }
  void unlock_exclusive() { holders_.store(0, std::memory_order_release); }
  void unlock_shared() { holders_.fetch_sub(1, std::memory_order_release); }

 private:
  static constexpr std::uint32_t kExclusive = ~std::uint32_t{0};
  std::atomic<std::uint32_t> holders_ = 0;
};

enum class TryLockKind : std::uint8_t { kShared, kExclusive };

/// Holds a TryLock for a scope, if it got it.
class TryGuard {
 public:
  TryGuard(TryLock& lock, TryLockKind kind)
      : lock_{lock},
        kind_{kind},
        held_{kind == TryLockKind::kExclusive ? lock.try_exclusive() : lock.try_shared()} {}
  ~TryGuard() {
    if (held_ && kind_ == TryLockKind::kExclusive) {
      lock_.unlock_exclusive();
    } else if (held_) {
      lock_.unlock_shared();
    }
  }
  TryGuard(const TryGuard&) = delete;
  TryGuard& operator=(const TryGuard&) = delete;

  [[nodiscard]] bool held() const { return held_; }

 private:
  TryLock& lock_;
  TryLockKind kind_;
  bool held_;
};

}  // namespace accede::host
