#include "accede/firmware/identity_map.hpp"

#include <algorithm>

namespace accede::firmware {
namespace {

constexpr std::uint64_t kPresent = 1 << 0;
constexpr std::uint64_t kWritable = 1 << 1;
constexpr std::uint64_t kLeaf = 1 << 7;
constexpr std::uint64_t kAddress = 0x000F'FFFF'FFFF'F000;

/// Address bits below an entry of the root table.
constexpr unsigned root_shift(IdentityMap::Levels levels) {
  return 12U + 9U * (static_cast<unsigned>(levels) - 1U);
}

}  // namespace

std::size_t IdentityMap::tables_for(std::span<const PhysRange> ranges, PageSize leaf,
                                    Levels levels) {
  std::size_t tables = 1;
  for (const PhysRange range : ranges) {
    if (range.empty()) {
      continue;
    }
    const std::uint64_t last = range.end().value() - 1;
    for (unsigned shift = page_shift(leaf) + 9; shift <= root_shift(levels); shift += 9) {
      tables += (last >> shift) - (range.begin().value() >> shift) + 1;
    }
  }
  return tables;
}

IdentityMap::IdentityMap(std::span<PageTable> tables, PhysAddr where, PageSize leaf, Levels levels,
                         std::uint64_t private_mask)
    : tables_{tables}, where_{where}, leaf_{leaf}, levels_{levels}, private_mask_{private_mask} {
  ACCEDE_ASSERT(!tables.empty() && where.is_aligned(4_KiB) && leaf != PageSize::k4K);
  tables_[0].entries.fill(0);
}

bool IdentityMap::map(PhysRange range) {
  // The root's upper half would be negative addresses; beyond 52 bits there is no memory.
  const unsigned reach = std::min(root_shift(levels_) + 8, 52U);
  if (range.empty()) {
    return true;
  }
  if (((range.end().value() - 1) >> reach) != 0) {
    return false;
  }
  for (PhysAddr at = range.begin().align_down(bytes(leaf_)); at < range.end(); at += bytes(leaf_)) {
    if (!map_leaf(at)) {
      return false;
    }
  }
  return true;
}

bool IdentityMap::map_leaf(PhysAddr at) {
  PageTable* table = &tables_[0];
  for (unsigned shift = root_shift(levels_); shift > page_shift(leaf_); shift -= 9) {
    std::uint64_t& entry = table->entries[at.value() >> shift & 511];
    if ((entry & kPresent) == 0) {
      if (used_ == tables_.size()) {
        return false;
      }
      tables_[used_].entries.fill(0);
      entry = (where_.value() + used_ * sizeof(PageTable)) | kPresent | kWritable;
      ++used_;
    }
    table = &tables_[((entry & kAddress) - where_.value()) / sizeof(PageTable)];
  }
  table->entries[at.value() >> page_shift(leaf_) & 511] =
      at.value() | private_mask_ | kPresent | kWritable | kLeaf;
  return true;
}

}  // namespace accede::firmware
