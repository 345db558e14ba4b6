#include "accede/guest/early_ranges.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace accede::guest {

namespace {

/// Where `size` bytes fit into `gap`.
std::optional<PhysRange> fit(PhysRange gap, Bytes size, Bytes align, Direction direction) {
  if (gap.size() < size) {
    return std::nullopt;
  }
  if (direction == Direction::kTopDown) {
    const PhysAddr at = (gap.end() - size).align_down(align);
    return at < gap.begin() ? std::nullopt : PhysRange::make(at, size);
  }
  // align_up() of an address behind the last multiple is a caller bug, and here it is not.
  if (gap.begin().value() > std::numeric_limits<std::uint64_t>::max() - (align.value() - 1)) {
    return std::nullopt;
  }
  const PhysAddr at = gap.begin().align_up(align);
  return at > gap.end() - size ? std::nullopt : PhysRange::make(at, size);
}

/// The same around a hole in the gap.
std::optional<PhysRange> fit_around(PhysRange gap, PhysRange hole, Bytes size, Bytes align,
                                    Direction direction) {
  if (!gap.overlaps(hole)) {
    return fit(gap, size, align, direction);
  }
  const PhysRange below = *PhysRange::make(gap.begin(), std::max(gap.begin(), hole.begin()));
  const PhysRange above = *PhysRange::make(std::min(gap.end(), hole.end()), gap.end());
  const bool down = direction == Direction::kTopDown;
  const auto first = fit(down ? above : below, size, align, direction);
  return first ? first : fit(down ? below : above, size, align, direction);
}

}  // namespace

std::string_view to_string(EarlyErrorKind kind) {
  switch (kind) {
    case EarlyErrorKind::kOutOfMemory:
      return "no free memory fits the early request"sv;
    case EarlyErrorKind::kNoRoom:
      return "a list of the early allocator is full and cannot grow"sv;
    case EarlyErrorKind::kNodeConflict:
      return "the same memory is reported on two nodes"sv;
    case EarlyErrorKind::kNotReserved:
      return "memory that is to be freed is not reserved"sv;
    case EarlyErrorKind::kAcceptFailed:
      return "memory for the early request could not be accepted"sv;
  }
  return "unknown error of the early allocator"sv;
}

RangeList::Done RangeList::add(PhysRange range, NodeId node) {
  if (range.empty()) {
    return {};
  }
  // All entries that touch or overlap; of those only touching, the ones on other nodes stay.
  std::size_t first = first_ending_after(range.begin());
  if (first > 0 && storage_[first - 1].range.end() == range.begin() &&
      storage_[first - 1].node == node) {
    --first;
  }
  std::size_t last = first_from(range.end());
  if (last < count_ && storage_[last].range.begin() == range.end() && storage_[last].node == node) {
    ++last;
  }
  PhysRange united = range;
  for (const EarlyRange& entry : storage_.subspan(first, last - first)) {
    if (entry.node != node) {
      return std::unexpected{EarlyErrorKind::kNodeConflict};
    }
    united = *PhysRange::make(std::min(united.begin(), entry.range.begin()),
                              std::max(united.end(), entry.range.end()));
  }
  if (first == last && room() == 0) {
    return std::unexpected{EarlyErrorKind::kNoRoom};
  }
  replace(first, last, std::array{EarlyRange{.range = united, .node = node}});
  return {};
}

RangeList::Done RangeList::remove(PhysRange range) {
  if (range.empty()) {
    return {};
  }
  if (!contains(range)) {
    return std::unexpected{EarlyErrorKind::kNotReserved};
  }
  const std::size_t index = first_ending_after(range.begin());
  const EarlyRange old = storage_[index];
  std::array<EarlyRange, 2> rest{};
  std::size_t pieces = 0;
  for (const PhysRange piece : {*PhysRange::make(old.range.begin(), range.begin()),
                                *PhysRange::make(range.end(), old.range.end())}) {
    if (!piece.empty()) {
      rest[pieces++] = {.range = piece, .node = old.node};
    }
  }
  if (pieces > 1 && room() == 0) {
    return std::unexpected{EarlyErrorKind::kNoRoom};
  }
  replace(index, index + 1, std::span{rest}.first(pieces));
  return {};
}

RangeList::Done RangeList::assign(PhysRange range, NodeId node) {
  if (range.empty()) {
    return {};
  }
  std::size_t cuts = 0;
  for (const PhysAddr end : {range.begin(), range.end()}) {
    const std::size_t index = first_ending_after(end);
    cuts += index < count_ && storage_[index].range.begin() < end ? 1 : 0;
  }
  if (cuts > room()) {
    return std::unexpected{EarlyErrorKind::kNoRoom};
  }
  split_at(range.begin());
  split_at(range.end());
  const std::size_t last = first_from(range.end());
  for (std::size_t i = first_ending_after(range.begin()); i < last; ++i) {
    storage_[i].node = node;
  }
  merge_neighbours();
  return {};
}

void RangeList::move_to(std::span<EarlyRange> storage) {
  ACCEDE_ASSERT(storage.size() > storage_.size());
  std::copy_n(storage_.begin(), count_, storage.begin());
  storage_ = storage;
}

std::size_t RangeList::first_ending_after(PhysAddr address) const {
  const auto list = entries();
  const auto at = std::partition_point(
      list.begin(), list.end(),
      [address](const EarlyRange& entry) { return entry.range.end() <= address; });
  return static_cast<std::size_t>(at - list.begin());
}

std::size_t RangeList::first_from(PhysAddr address) const {
  const auto list = entries();
  const auto at = std::partition_point(
      list.begin(), list.end(),
      [address](const EarlyRange& entry) { return entry.range.begin() < address; });
  return static_cast<std::size_t>(at - list.begin());
}

bool RangeList::overlaps(PhysRange range) const {
  const std::size_t index = first_ending_after(range.begin());
  return index < count_ && storage_[index].range.overlaps(range);
}

bool RangeList::contains(PhysRange range) const {
  const std::size_t index = first_ending_after(range.begin());
  return index < count_ && storage_[index].range.contains(range);
}

bool RangeList::invariants() const {
  if (count_ > storage_.size()) {
    return false;
  }
  for (std::size_t i = 0; i < count_; ++i) {
    if (storage_[i].range.empty()) {
      return false;
    }
    if (i == 0) {
      continue;
    }
    const EarlyRange& before = storage_[i - 1];
    const bool touches = before.range.end() == storage_[i].range.begin();
    if (before.range.end() > storage_[i].range.begin() ||
        (touches && before.node == storage_[i].node)) {
      return false;
    }
  }
  return true;
}

/// Puts `with` in the place of the entries [first, last). Precondition: it fits.
void RangeList::replace(std::size_t first, std::size_t last, std::span<const EarlyRange> with) {
  const std::size_t count = count_ - (last - first) + with.size();
  ACCEDE_ASSERT(count <= storage_.size());
  const std::size_t to = first + with.size();
  const auto tail = storage_.subspan(last, count_ - last);
  if (to < last) {
    std::copy(tail.begin(), tail.end(), storage_.subspan(to).begin());
  } else {
    std::copy_backward(tail.begin(), tail.end(), storage_.first(count).end());
  }
  std::copy(with.begin(), with.end(), storage_.subspan(first).begin());
  count_ = count;
}

void RangeList::split_at(PhysAddr address) {
  const std::size_t index = first_ending_after(address);
  if (index == count_ || storage_[index].range.begin() >= address) {
    return;
  }
  const EarlyRange old = storage_[index];
  replace(index, index + 1,
          std::array{
              EarlyRange{.range = *PhysRange::make(old.range.begin(), address), .node = old.node},
              EarlyRange{.range = *PhysRange::make(address, old.range.end()), .node = old.node}});
}

void RangeList::merge_neighbours() {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < count_; ++i) {
    const EarlyRange entry = storage_[i];
    if (kept > 0 && storage_[kept - 1].node == entry.node &&
        storage_[kept - 1].range.end() == entry.range.begin()) {
      storage_[kept - 1].range =
          *PhysRange::make(storage_[kept - 1].range.begin(), entry.range.end());
    } else {
      storage_[kept++] = entry;
    }
  }
  count_ = kept;
}

std::optional<EarlyRange> EarlyRanges::next_free(PhysAddr from) const {
  const auto memory = memory_.entries();
  const auto reserved = reserved_.entries();
  for (std::size_t i = memory_.first_ending_after(from); i < memory.size(); ++i) {
    PhysAddr at = std::max(from, memory[i].range.begin());
    PhysAddr end = memory[i].range.end();
    for (std::size_t r = reserved_.first_ending_after(at); r < reserved.size() && at < end; ++r) {
      if (reserved[r].range.begin() > at) {
        end = std::min(end, reserved[r].range.begin());
        break;
      }
      at = reserved[r].range.end();
    }
    if (at < end) {
      return EarlyRange{.range = *PhysRange::make(at, end), .node = memory[i].node};
    }
  }
  return std::nullopt;
}

std::optional<EarlyRange> EarlyRanges::previous_free(PhysAddr end) const {
  const auto memory = memory_.entries();
  const auto reserved = reserved_.entries();
  for (std::size_t i = memory_.first_from(end); i-- > 0;) {
    PhysAddr at = std::min(end, memory[i].range.end());
    PhysAddr begin = memory[i].range.begin();
    for (std::size_t r = reserved_.first_from(at); r-- > 0 && begin < at;) {
      if (reserved[r].range.end() < at) {
        begin = std::max(begin, reserved[r].range.end());
        break;
      }
      at = reserved[r].range.begin();
    }
    if (begin < at) {
      return EarlyRange{.range = *PhysRange::make(begin, at), .node = memory[i].node};
    }
  }
  return std::nullopt;
}

void EarlyRanges::for_each_free(NodeId node, FunctionRef<void(const EarlyRange&)> visit) const {
  PhysAddr from;
  while (const auto gap = next_free(from)) {
    if (node == kAnyNode || gap->node == node) {
      visit(*gap);
    }
    from = gap->range.end();
  }
}

Bytes EarlyRanges::free_bytes(NodeId node) const {
  Bytes sum;
  for_each_free(node, [&sum](const EarlyRange& gap) { sum += gap.range.size(); });
  return sum;
}

std::optional<PhysRange> EarlyRanges::find_free(Bytes size, Bytes align, const EarlyPlace& place,
                                                PhysRange excluded) const {
  ACCEDE_ASSERT(size != Bytes{0} && std::has_single_bit(align.value()));
  const bool down = place.direction == Direction::kTopDown;
  PhysAddr at = down ? place.limits.end() : place.limits.begin();
  while (const auto gap = down ? previous_free(at) : next_free(at)) {
    const PhysRange inside = gap->range.intersect(place.limits);
    if (inside.empty()) {
      break;
    }
    if (place.node == kAnyNode || gap->node == place.node) {
      if (const auto found = fit_around(inside, excluded, size, align, place.direction)) {
        return found;
      }
    }
    at = down ? gap->range.begin() : gap->range.end();
  }
  return std::nullopt;
}

}  // namespace accede::guest
