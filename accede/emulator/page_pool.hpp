// A stock of 4 KiB pages for the emulator's page tables.
#pragma once

#include "accede/base/phys_window.hpp"
#include "accede/base/spin_lock.hpp"

#include <optional>

namespace accede::emulator {

/// Hands out zeroed 4 KiB pages of the range it was given and takes them back. Free pages that
/// were never used are not touched. Thread-safe; the longest critical section is a few loads.
class PagePool {
 public:
  /// `begin` and `end` are page aligned; the range belongs to the pool from here on.
  PagePool(PhysWindow window, PhysAddr begin, PhysAddr end)
      : window_{window}, next_{begin}, end_{end} {}

  /// A zeroed page, or nothing when all are in use.
  [[nodiscard]] std::optional<PhysAddr> allocate() {
    const std::optional<PhysAddr> page = take();
    if (page) {
      auto* words = window_.pointer<std::uint64_t>(*page);
      for (unsigned i = 0; i < 512; ++i) {
        words[i] = 0;
      }
    }
    return page;
  }

  /// Precondition: `page` came from allocate() and is not in use.
  void free(PhysAddr page) {
    const SpinGuard guard{lock_};
    *window_.pointer<std::uint64_t>(page) = free_.value();
    free_ = page;
    ++free_pages_;
  }

  [[nodiscard]] std::uint64_t available() {
    const SpinGuard guard{lock_};
    return free_pages_ + (end_ - next_).value() / 4096;
  }

 private:
  [[nodiscard]] std::optional<PhysAddr> take() {
    const SpinGuard guard{lock_};
    if (free_pages_ != 0) {
      const PhysAddr page = free_;
      free_ = PhysAddr{*window_.pointer<std::uint64_t>(page)};
      --free_pages_;
      return page;
    }
    if (next_ == end_) {
      return std::nullopt;
    }
    const PhysAddr page = next_;
    next_ += Bytes{4096};
    return page;
  }

  PhysWindow window_;
  SpinLock lock_;
  PhysAddr next_;
  PhysAddr end_;
  PhysAddr free_;  ///< head of a list through the first word of each free page
  std::uint64_t free_pages_ = 0;
};

}  // namespace accede::emulator
