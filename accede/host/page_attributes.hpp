// Which guest pages are private and which are shared, as the host keeps it (KVM: memory
// attributes).
#pragma once

#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace accede::host {

enum class PageAttribute : std::uint8_t { kPrivate = 0, kShared = 1 };
[[nodiscard]] std::string_view name(PageAttribute attribute);

/// One bit for every 4 KiB page of a GPA range: 32 KiB per GiB, on storage that is passed in.
///
/// Thread-safe and lock-free: each page's bit changes atomically; a range is a sequence of pages
/// (up to 64 change at once), so a reader may see it half changed. Reads acquire, writes release.
class PageAttributes {
 public:
  /// Bytes of storage for `range`.
  [[nodiscard]] static Bytes storage_bound(PhysRange range);

  /// Every page of `range` starts as private; the storage is cleared.
  /// Preconditions: `range` is 4 KiB aligned; `storage` is 8-byte aligned, at least storage_bound()
  /// and outlives the object.
  PageAttributes(PhysRange range, std::span<std::byte> storage);

  [[nodiscard]] PhysRange range() const { return range_; }

  /// The attribute of the page that contains `gpa`. Precondition: inside range().
  [[nodiscard]] PageAttribute get(PhysAddr gpa) const;
  /// Precondition: `pages` is 4 KiB aligned and inside range().
  void set(PhysRange pages, PageAttribute attribute);
  /// True when every page has `attribute`; an empty range has every attribute. Precondition as set.
  [[nodiscard]] bool all(PhysRange pages, PageAttribute attribute) const;
  /// The maximal run of equal pages from `pages.begin()` on, cut at `pages.end()`.
  /// Precondition: as set, and `pages` is not empty.
  [[nodiscard]] PhysRange run(PhysRange pages) const;
  /// Calls `visitor` with every maximal run of `pages`, ascending. Precondition as set.
  void visit(PhysRange pages, FunctionRef<void(PhysRange, PageAttribute)> visitor) const;

 private:
  [[nodiscard]] std::uint64_t word(std::uint64_t index) const;
  [[nodiscard]] std::uint64_t page_index(PhysAddr gpa) const {
    return (gpa - range_.begin()).value() >> 12;
  }
  void check(PhysRange pages) const;

  PhysRange range_;
  std::uint64_t* words_;
};

}  // namespace accede::host
