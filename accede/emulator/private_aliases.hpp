// Private pages that a guest reaches without the C-bit, where hardware does not ask for it.
#pragma once

#include "accede/base/spin_lock.hpp"
#include "accede/emulator/guest_view.hpp"

#include <array>
#include <atomic>
#include <cstddef>

namespace accede::emulator {

/// Hardware takes page-table walks, instruction fetches and everything without paging as private,
/// whatever the C-bit says (reference: SEV-SNP 2.4; APM: C-bit). Nested tables cannot tell those
/// from other accesses: the pages that they meet are reachable in the shared view too. A data
/// access with C = 0 to one of those pages is then not noticed. What a firmware without the C-bit
/// in CR3 left goes when a kernel with it runs.
///
/// Thread-safe: one lock.
class PrivateAliases {
 public:
  /// Makes the validated page at `gpa` reachable without the C-bit. `passing`: only until
  /// drop_passing().
  void add(GuestView& view, PhysAddr gpa, bool passing) {
    const PhysRange page = PhysRange::page(gpa, PageSize::k4K);
    const SpinGuard guard{lock_};
    if (count_ == pages_.size()) {
      drop_all(view);
    }
    pages_[count_] = page;
    ++count_;
    has_passing_ = has_passing_ || passing;
    view.map(View::kShared, page);
  }

  /// Takes all of them away when a passing one is among them. The others come again when they are
  /// needed.
  void drop_passing(GuestView& view) {
    if (!has_passing_) {
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
    has_passing_ = false;
  }

  SpinLock lock_;
  std::array<PhysRange, 256> pages_{};
  std::size_t count_ = 0;
  std::atomic<bool> has_passing_ = false;
};

}  // namespace accede::emulator
