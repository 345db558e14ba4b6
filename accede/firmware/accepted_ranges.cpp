#include "accede/firmware/accepted_ranges.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>

namespace accede::firmware {
namespace {

using guest::MapError;
using guest::MapErrorKind;
using guest::MemoryKind;
using guest::MemoryMap;
using guest::MemoryRegion;

constexpr Bytes kPage = 4_KiB;

/// A sorted list of regions at the begin of a span, with room behind it.
class RegionList {
 public:
  RegionList(std::span<MemoryRegion> storage, std::size_t count)
      : storage_{storage}, count_{count} {}

  [[nodiscard]] std::span<MemoryRegion> regions() const { return storage_.first(count_); }

  /// Makes `part` of region `index` usable, and leaves what is before and behind it as it is.
  [[nodiscard]] bool accept(std::size_t index, PhysRange part) {
    const PhysRange whole = storage_[index].range;
    const PhysRange before = *PhysRange::make(whole.begin(), part.begin());
    const PhysRange behind = *PhysRange::make(part.end(), whole.end());
    const std::size_t more = (before.empty() ? 0U : 1U) + (behind.empty() ? 0U : 1U);
    if (storage_.size() - count_ < more) {
      return false;
    }
    const std::span rest = regions().subspan(index + 1);
    std::copy_backward(rest.begin(), rest.end(), storage_.begin() + difference(count_ + more));
    count_ += more;
    if (!before.empty()) {
      storage_[index++] = {before, MemoryKind::kUnaccepted};
    }
    storage_[index++] = {part, MemoryKind::kUsable};
    if (!behind.empty()) {
      storage_[index] = {behind, MemoryKind::kUnaccepted};
    }
    return true;
  }

 private:
  static std::ptrdiff_t difference(std::size_t size) { return static_cast<std::ptrdiff_t>(size); }

  std::span<MemoryRegion> storage_;
  std::size_t count_;
};

bool accept(RegionList& list, PhysRange accepted) {
  for (std::size_t i = 0; i < list.regions().size(); ++i) {
    const MemoryRegion region = list.regions()[i];
    const PhysRange part = region.range.intersect(accepted);
    if (region.kind == MemoryKind::kUnaccepted && !part.empty() && !list.accept(i, part)) {
      return false;
    }
  }
  return true;
}

}  // namespace

MemoryMap::Result with_accepted(const MemoryMap& map, std::span<const PhysRange> accepted,
                                std::span<MemoryRegion> storage) {
  const std::span from = map.regions();
  if (storage.size() < from.size()) {
    return std::unexpected{MapError{MapErrorKind::kTooManyEntries, 0}};
  }
  if (storage.data() != from.data()) {
    std::ranges::copy(from, storage.begin());
  }
  RegionList list{storage, from.size()};
  for (std::size_t i = 0; i < accepted.size(); ++i) {
    ACCEDE_ASSERT(accepted[i].begin().is_aligned(kPage) && accepted[i].end().is_aligned(kPage));
    if (!accept(list, accepted[i])) {
      return std::unexpected{MapError{MapErrorKind::kTooManyEntries, i}};
    }
  }
  return MemoryMap::from_regions(list.regions());
}

}  // namespace accede::firmware
