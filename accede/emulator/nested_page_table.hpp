// The nested page table: what the guest's processor can reach, in two views.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/emulator/page_pool.hpp"

#include <optional>

namespace accede::emulator {

/// The two views of guest memory: the shared bit of a guest physical address selects one.
enum class View : std::uint8_t { kPrivate, kShared };

/// A four-level identity map (GPA without the shared bit = HPA) in the format of AMD nested paging.
///
/// The lower half of the root is the private view, the upper half the shared view; the shared bit
/// is bit 47. It mirrors decisions that are made elsewhere (host::TdMemory): it holds no state of
/// its own. Pages are mapped as large as the requested ranges allow and merged back to 2 MiB when
/// 512 neighbours are present, so that a table exists only where its 2 MiB are mixed.
///
/// Thread-safe: one lock, held for the pages of one call. After a call that took a mapping away the
/// caller must flush the TLBs of all vCPUs before the memory gets another use. Accessed and dirty
/// bits are set from the start, so that no processor ever writes to a table.
class NestedPageTable {
 public:
  static constexpr unsigned kSharedBit = 47;
  static constexpr std::uint64_t kSharedMask = 1ULL << kSharedBit;

  /// `root` is a zeroed page, usually of `pool`. `pool` must outlive the table.
  NestedPageTable(PhysWindow window, PagePool& pool, PhysAddr root)
      : window_{window}, pool_{pool}, root_{root} {}

  /// The root's address for the VMCB.
  [[nodiscard]] PhysAddr root() const { return root_; }

  /// Makes `range` (4 KiB aligned, below the shared bit) reachable in `view`. False when the pool
  /// is empty; a part of the range may then be mapped, calling again goes on.
  [[nodiscard]] bool map(View view, PhysRange range) { return set(view, range, true); }

  /// Makes `range` unreachable in `view`. False when the pool is empty (a larger page could not
  /// be split); nothing more than `range` is ever taken away.
  [[nodiscard]] bool unmap(View view, PhysRange range) { return set(view, range, false); }

  /// The size of the page that maps `gpa` in `view`, or nothing.
  [[nodiscard]] std::optional<PageSize> mapped(View view, PhysAddr gpa) const;

 private:
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
  mutable SpinLock lock_;
};

}  // namespace accede::emulator
