// Half-open ranges of physical addresses.
#pragma once

#include "accede/base/units.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

namespace accede {

/// A half-open range [begin, end) of physical addresses. Invariant: begin <= end. A value type.
class PhysRange {
 public:
  constexpr PhysRange() = default;

  /// [begin, end), or nothing when end < begin.
  [[nodiscard]] static constexpr std::optional<PhysRange> make(PhysAddr begin, PhysAddr end) {
    if (end < begin) {
      return std::nullopt;
    }
    return PhysRange{begin, end};
  }

  /// `size` bytes from `begin`, or nothing when the end is not representable. A range that ends at
  /// 2^64 is not representable: no x86-64 machine has that many physical address bits.
  [[nodiscard]] static constexpr std::optional<PhysRange> make(PhysAddr begin, Bytes size) {
    if (size.value() > std::numeric_limits<std::uint64_t>::max() - begin.value()) {
      return std::nullopt;
    }
    return PhysRange{begin, begin + size};
  }

  /// The page of `size` that contains `address`. Precondition: it does not end at 2^64.
  [[nodiscard]] static constexpr PhysRange page(PhysAddr address, PageSize size) {
    const PhysAddr begin = address.align_down(bytes(size));
    return PhysRange{begin, begin + bytes(size)};
  }

  [[nodiscard]] constexpr PhysAddr begin() const { return begin_; }
  [[nodiscard]] constexpr PhysAddr end() const { return end_; }
  [[nodiscard]] constexpr Bytes size() const { return end_ - begin_; }
  [[nodiscard]] constexpr bool empty() const { return begin_ == end_; }

  [[nodiscard]] constexpr bool contains(PhysAddr address) const {
    return begin_ <= address && address < end_;
  }
  /// True when `other` lies wholly inside. An empty range lies inside where its begin is in
  /// [begin, end].
  [[nodiscard]] constexpr bool contains(PhysRange other) const {
    return begin_ <= other.begin_ && other.end_ <= end_;
  }
  /// True when at least one address lies in both. Adjacent ranges do not overlap; an empty range
  /// overlaps nothing.
  [[nodiscard]] constexpr bool overlaps(PhysRange other) const {
    return std::max(begin_, other.begin_) < std::min(end_, other.end_);
  }
  /// The addresses that lie in both; empty (at an unspecified place) when there are none.
  [[nodiscard]] constexpr PhysRange intersect(PhysRange other) const {
    const PhysAddr begin = std::max(begin_, other.begin_);
    const PhysAddr end = std::min(end_, other.end_);
    return begin < end ? PhysRange{begin, end} : PhysRange{begin, begin};
  }

  friend constexpr bool operator==(PhysRange, PhysRange) = default;

 private:
  constexpr PhysRange(PhysAddr begin, PhysAddr end) : begin_{begin}, end_{end} {}

  PhysAddr begin_;
  PhysAddr end_;
};

/// Calls `use` with the parts of `range`, ascending, that no range of `holes` covers, until it
/// returns false; whether it never did. `holes`: sorted by their begin.
template <class Use>
constexpr bool for_each_gap(PhysRange range, std::span<const PhysRange> holes, Use use) {
  PhysAddr at = range.begin();
  for (const PhysRange& hole : holes) {
    const PhysRange cut = hole.intersect(range);
    if (cut.empty()) {
      continue;
    }
    if (at < cut.begin() && !use(*PhysRange::make(at, cut.begin()))) {
      return false;
    }
    at = std::max(at, cut.end());
  }
  return at >= range.end() || use(*PhysRange::make(at, range.end()));
}

}  // namespace accede
