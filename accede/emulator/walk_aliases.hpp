// Page tables that a guest's processor reads although nothing says that they are private.
#pragma once

#include "accede/base/spin_lock.hpp"
#include "accede/emulator/guest_view.hpp"

#include <array>
#include <atomic>
#include <cstddef>

namespace accede::emulator {

/// Hardware treats every access to page tables as private, whatever the C-bit of the entry that
/// leads there (reference: SEV-SNP 2.4). Nested tables cannot tell a walk from other accesses: for
/// a firmware whose tables refer to each other without the C-bit, the private pages that they lie
/// in are reachable in the shared view too, as long as such a guest runs. A data access with C = 0
/// to one of those pages is then not noticed.
///
/// Thread-safe: one lock.
class WalkAliases {
 public:
  /// Makes the validated page at `gpa` reachable for walks without the C-bit.
  void add(GuestView& view, PhysAddr gpa) {
    const PhysRange page = PhysRange::page(gpa, PageSize::k4K);
    const SpinGuard guard{lock_};
    if (count_ == pages_.size()) {
      drop_all(view);
    }
    pages_[count_] = page;
    ++count_;
    view.map(View::kShared, page);
  }

  /// Takes all of them away.
  void drop(GuestView& view) {
    if (count_ == 0) {
      return;  // called at every exit
    }
    const SpinGuard guard{lock_};
    drop_all(view);
  }

  /// Takes all of them away when one lies in `range`, which is not private memory any more.
  void drop_in(GuestView& view, PhysRange range) {
    const SpinGuard guard{lock_};
    for (std::size_t i = 0; i < count_; ++i) {
      if (range.overlaps(pages_[i])) {
        drop_all(view);
        return;
      }
    }
  }

 private:
  void drop_all(GuestView& view) {
    for (std::size_t i = 0; i < count_; ++i) {
      view.unmap(View::kShared, pages_[i]);
    }
    count_ = 0;
  }

  SpinLock lock_;
  std::array<PhysRange, 256> pages_{};
  std::atomic<std::size_t> count_ = 0;
};

}  // namespace accede::emulator
