#include "accede/emulator/nested_page_table.hpp"

#include <algorithm>
#include <atomic>

namespace accede::emulator {
namespace {

// Levels as page sizes count them: 0 = 4 KiB entries, 1 = 2 MiB, 2 = 1 GiB, 3 = 512 GiB.
constexpr unsigned kRootLevel = 3;

constexpr std::uint64_t kPresent = 1;
constexpr std::uint64_t kTableFlags = 0x67;  // present, writable, user, accessed, dirty
constexpr std::uint64_t kLeafFlags = 0x67;
constexpr std::uint64_t kLarge = 0x80;
constexpr std::uint64_t kAddress = 0x000F'FFFF'FFFF'F000;

constexpr Bytes span_of(unsigned level) {
  return Bytes{1ULL << (12 + 9 * level)};
}

constexpr std::uint64_t leaf(PhysAddr base, unsigned level) {
  return base.value() | kLeafFlags | (level == 0 ? 0 : kLarge);
}
constexpr bool is_leaf(std::uint64_t entry, unsigned level) {
  return (entry & kPresent) != 0 && (level == 0 || (entry & kLarge) != 0);
}
constexpr bool is_table(std::uint64_t entry, unsigned level) {
  return (entry & kPresent) != 0 && !is_leaf(entry, level);
}

}  // namespace

bool NestedPageTable::set(View view, PhysRange range, bool present) {
  ACCEDE_ASSERT(range.begin().is_aligned(4_KiB) && range.end().is_aligned(4_KiB) &&
                range.end().value() <= kViewMask);
  if (range.empty()) {
    return true;
  }
  const SpinGuard guard{lock_};
  // The root covers both halves; what an entry maps is the address without the view bit.
  auto* root = window_.pointer<std::uint64_t>(root_);
  const std::size_t half = upper_half(view) ? 256 : 0;
  const Bytes span = span_of(kRootLevel);
  for (PhysAddr at = range.begin(); at < range.end();) {
    const PhysAddr base = at.align_down(span);
    const PhysAddr end = std::min(base + span, range.end());
    if (!set_entry(root[half + base.value() / span.value()], kRootLevel, at, end, present)) {
      return false;
    }
    at = end;
  }
  return true;
}

bool NestedPageTable::set_below(PhysAddr table, unsigned level, PhysAddr begin, PhysAddr end,
                                bool present) {
  auto* entries = window_.pointer<std::uint64_t>(table);
  const Bytes span = span_of(level);
  for (PhysAddr at = begin; at < end;) {
    const PhysAddr base = at.align_down(span);
    const PhysAddr stop = std::min(base + span, end);
    if (!set_entry(entries[(base.value() / span.value()) % 512], level, at, stop, present)) {
      return false;
    }
    at = stop;
  }
  return true;
}

/// Applies [begin, end), which lies inside the one `entry` of `level`, to that entry.
bool NestedPageTable::set_entry(std::uint64_t& entry, unsigned level, PhysAddr begin, PhysAddr end,
                                bool present) {
  const Bytes span = span_of(level);
  const PhysAddr base = begin.align_down(span);
  const bool whole = begin == base && end - begin == span;
  if (whole && level < kRootLevel) {
    if (is_table(entry, level)) {
      free_table(entry, level);
    }
    entry = present ? leaf(base, level) : 0;
    return true;
  }
  if (present ? is_leaf(entry, level) : (entry & kPresent) == 0) {
    return true;  // already so
  }
  if (!descend(entry, level, base)) {
    return false;
  }
  const bool done = set_below(PhysAddr{entry & kAddress}, level - 1, begin, end, present);
  fold(entry, level, base);
  return done;
}

/// Makes `entry` point to a table: an empty one, or one with the 512 parts of the leaf it was.
bool NestedPageTable::descend(std::uint64_t& entry, unsigned level, PhysAddr base) {
  if (is_table(entry, level)) {
    return true;
  }
  const std::optional<PhysAddr> table = pool_.allocate();
  if (!table) {
    return false;
  }
  if (is_leaf(entry, level)) {
    auto* children = window_.pointer<std::uint64_t>(*table);
    for (std::uint64_t i = 0; i < 512; ++i) {
      children[i] = leaf(base + span_of(level - 1) * i, level - 1);
    }
  }
  // The table is complete before a processor can walk to it.
  std::atomic_ref{entry}.store(table->value() | kTableFlags, std::memory_order_release);
  return true;
}

/// Replaces a table whose entries are all absent, or (below 1 GiB) all leaves, by one entry.
void NestedPageTable::fold(std::uint64_t& entry, unsigned level, PhysAddr base) {
  const PhysAddr table{entry & kAddress};
  const auto* children = window_.pointer<std::uint64_t>(table);
  const bool first = is_leaf(children[0], level - 1);
  if (is_leaf(children[511], level - 1) != first) {
    return;  // the common case while a table fills from one end
  }
  for (std::size_t i = 0; i < 512; ++i) {
    const bool same = first ? is_leaf(children[i], level - 1) : (children[i] & kPresent) == 0;
    if (!same) {
      return;
    }
  }
  if (first && level == kRootLevel) {
    return;  // there are no 512 GiB pages
  }
  entry = first ? leaf(base, level) : 0;
  pool_.free(table);
}

void NestedPageTable::free_table(std::uint64_t entry, unsigned level) {
  const PhysAddr table{entry & kAddress};
  const auto* children = window_.pointer<std::uint64_t>(table);
  for (std::size_t i = 0; i < 512; ++i) {
    if (is_table(children[i], level - 1)) {
      free_table(children[i], level - 1);
    }
  }
  pool_.free(table);
}

std::optional<PageSize> NestedPageTable::mapped(View view, PhysAddr gpa) const {
  const SpinGuard guard{lock_};
  const std::uint64_t half = upper_half(view) ? 256 : 0;
  PhysAddr table = root_;
  std::uint64_t index = half + gpa.value() / span_of(kRootLevel).value();
  for (unsigned level = kRootLevel;; --level) {
    const std::uint64_t entry = window_.pointer<std::uint64_t>(table)[index];
    if ((entry & kPresent) == 0) {
      return std::nullopt;
    }
    if (is_leaf(entry, level)) {
      return static_cast<PageSize>(level);
    }
    table = PhysAddr{entry & kAddress};
    index = (gpa.value() / span_of(level - 1).value()) % 512;
  }
}

}  // namespace accede::emulator
