// Which guest pages are private and which are shared, as the host keeps it (KVM: memory
// attributes).
#pragma once

#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/spin_lock.hpp"
#include "accede/base/units.hpp"
#include "accede/host/page_attributes_tree.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace accede::host {

enum class PageAttribute : std::uint8_t { kPrivate = 0, kShared = 1 };
[[nodiscard]] std::string_view name(PageAttribute attribute);

/// The attribute of every 4 KiB page of a GPA range, on storage that is passed in: one word for
/// each 2 MiB block in which it changes, in a B+ tree, and a bitmap beside it where it changes more
/// than three times. One attribute everywhere takes 512 bytes whatever the size; a run of equal
/// pages about 12, at most 23 while runs come and more only where bitmaps went and left others in
/// their chunks; alternating pages 1.4 bits a page.
///
/// Thread-safe. Readers take no lock; one that meets a change begins again (at most the longest
/// step: 16 entries removed). Changes take a spin lock one after the other; longest section: one
/// set(), about 1 us and some 100 ns more for every run that it removes. A page changes atomically;
/// a range block by block, so a reader may see it half changed. Reads acquire, writes release.
class PageAttributes {
 public:
  /// Bytes of storage with which a change of `range` never fails, whatever the pages: 45 KiB per
  /// GiB. Only what is in use is ever touched. Storage beyond 16 GiB (364 TiB of pages) is not
  /// used.
  [[nodiscard]] static Bytes storage_bound(PhysRange range);

  /// Every page of `range` starts as private. With less storage than storage_bound(), try_set() can
  /// fail.
  /// Preconditions: `range` is 4 KiB aligned; `storage` is 8-byte aligned, at least 1 KiB and
  /// outlives the object.
  PageAttributes(PhysRange range, std::span<std::byte> storage);

  [[nodiscard]] PhysRange range() const { return range_; }
  /// The storage suffices whatever the pages: set() never runs out of it.
  [[nodiscard]] bool is_complete() const { return complete_; }

  /// The attribute of the page that contains `gpa`. Precondition: inside range().
  [[nodiscard]] PageAttribute get(PhysAddr gpa) const;
  /// Precondition: `pages` is 4 KiB aligned and inside range(); the storage does not run out.
  void set(PhysRange pages, PageAttribute attribute);
  /// The same for storage that may run out. False: it did, nothing changed.
  [[nodiscard]] bool try_set(PhysRange pages, PageAttribute attribute);
  /// True when every page has `attribute`; an empty range has every attribute. Precondition as set.
  [[nodiscard]] bool all(PhysRange pages, PageAttribute attribute) const;
  /// The maximal run of equal pages from `pages.begin()` on, cut at `pages.end()`.
  /// Precondition: as set, and `pages` is not empty.
  [[nodiscard]] PhysRange run(PhysRange pages) const;
  /// Calls `visitor` with every maximal run of `pages`, ascending. Precondition as set.
  void visit(PhysRange pages, FunctionRef<void(PhysRange, PageAttribute)> visitor) const;

  /// Bytes of the storage that hold something.
  [[nodiscard]] Bytes in_use() const;
  /// True when the structure is sound. Only while no other call runs.
  [[nodiscard]] bool invariants() const { return tree_.invariants(); }

 private:
  /// A run that begins at a page, as far as one look sees.
  struct Stretch {
    std::uint64_t end = 0;  ///< page behind it
    bool maximal = false;   ///< the page at `end` differs
    bool value = false;
  };

  struct Run {
    PhysRange pages;
    PageAttribute attribute = PageAttribute::kPrivate;
  };

  template <class Look>
  [[nodiscard]] auto read(Look look) const;
  template <class Step>
  void write(Step step);
  [[nodiscard]] Stretch stretch(std::uint64_t page) const;
  [[nodiscard]] Run first_run(PhysRange pages) const;
  [[nodiscard]] std::uint64_t page_index(PhysAddr gpa) const {
    return (gpa - origin_).value() >> 12;
  }
  void check(PhysRange pages) const;

  PhysRange range_;
  PhysAddr origin_;  ///< of the first block: 2 MiB aligned, so that large pages are whole blocks
  bool complete_;
  attributes_internal::AttributeTree tree_;
  mutable SpinLock writer_;
  std::atomic<std::uint64_t> version_ = 0;  ///< odd: a change is under way
};

}  // namespace accede::host
