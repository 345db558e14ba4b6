// The nested page table: what the guest's processor can reach, in two views.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/emulator/page_pool.hpp"

#include <optional>

namespace accede::emulator {

/// The two views of guest memory: one bit of a guest physical address selects one.
enum class View : std::uint8_t { kPrivate, kShared };

/// What that bit means when it is set: TDX has a shared bit, SEV an encryption bit (C-bit).
enum class ViewBit : std::uint8_t { kShared, kPrivate };

/// A four-level identity map (GPA without the view bit = HPA) in the format of AMD nested paging.
///
/// Each view is one half of the root; the view bit is bit 47. It mirrors decisions that are made
/// elsewhere (host::TdMemory, host::SnpMemory): it holds no state of its own. Pages are mapped as
/// large as the requested ranges allow and merged back to 2 MiB when 512 neighbours are present, so
/// that a table exists only where its 2 MiB are mixed.
///
/// Thread-safe: one lock, held for the pages of one call. After a call that took a mapping away the
/// caller must flush the TLBs of all vCPUs before the memory gets another use. Accessed and dirty
/// bits are set from the start, so that no processor ever writes to a table.
class NestedPageTable {
 public:
  static constexpr unsigned kViewBit = 47;
  static constexpr std::uint64_t kViewMask = 1ULL << kViewBit;

  /// `root` is a zeroed page, usually of `pool`. `pool` must outlive the table.
  NestedPageTable(PhysWindow window, PagePool& pool, PhysAddr root, ViewBit view_bit)
      : window_{window}, pool_{pool}, root_{root}, view_bit_{view_bit} {}

  /// The root's address for the VMCB.
  [[nodiscard]] PhysAddr root() const { return root_; }

  [[nodiscard]] ViewBit view_bit() const { return view_bit_; }
  /// The view that a guest physical address names.
  [[nodiscard]] View view_of(std::uint64_t gpa) const {
    const bool is_set = (gpa & kViewMask) != 0;
    return is_set == (view_bit_ == ViewBit::kShared) ? View::kShared : View::kPrivate;
  }
  /// `gpa` (below the view bit) as the guest writes it when it means `view`.
  [[nodiscard]] std::uint64_t with_view(PhysAddr gpa, View view) const {
    return gpa.value() | (upper_half(view) ? kViewMask : 0);
  }

  /// Makes `range` (4 KiB aligned, below the view bit) reachable in `view`. False when the pool
  /// is empty; a part of the range may then be mapped, calling again goes on.
  [[nodiscard]] bool map(View view, PhysRange range) { return set(view, range, true); }

  /// Makes `range` unreachable in `view`. False when the pool is empty (a larger page could not
  /// be split); nothing more than `range` is ever taken away.
  [[nodiscard]] bool unmap(View view, PhysRange range) { return set(view, range, false); }

  /// The size of the page that maps `gpa` in `view`, or nothing.
  [[nodiscard]] std::optional<PageSize> mapped(View view, PhysAddr gpa) const;

 private:
  [[nodiscard]] bool upper_half(View view) const {
    return (view == View::kShared) == (view_bit_ == ViewBit::kShared);
  }
  [[nodiscard]] bool set(View view, PhysRange range, bool present);
  [[nodiscard]] bool set_below(PhysAddr table, unsigned level, PhysAddr begin, PhysAddr end,
                               bool present);
  [[nodiscard]] bool set_entry(std::uint64_t& entry, unsigned level, PhysAddr begin, PhysAddr end,
                               bool present);
  [[nodiscard]] bool descend(std::uint64_t& entry, unsigned level, PhysAddr base);
  void fold(std::uint64_t& entry, unsigned level, PhysAddr base);
  void free_table(std::uint64_t entry, unsigned level);

  PhysWindow window_;
  PagePool& pool_;
  PhysAddr root_;
  ViewBit view_bit_;
  mutable SpinLock lock_;
};

}  // namespace accede::emulator
