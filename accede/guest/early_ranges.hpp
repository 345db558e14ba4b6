// Which memory there is and which of it is taken, before there is a page allocator.
#pragma once

#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

namespace accede::guest {

using namespace std::string_view_literals;

/// A NUMA node as the firmware numbers it (ACPI proximity domain).
enum class NodeId : std::uint32_t {};
/// In a request: whichever node has it.
inline constexpr NodeId kAnyNode{std::numeric_limits<std::uint32_t>::max()};

enum class Direction : std::uint8_t { kTopDown, kBottomUp };

/// All memory but the first page, whose address could be taken for "none".
inline constexpr PhysRange kAllMemory =
    *PhysRange::make(PhysAddr{4096}, PhysAddr{std::numeric_limits<std::uint64_t>::max()});

/// Where an allocation may lie.
struct EarlyPlace {
  PhysRange limits = kAllMemory;
  NodeId node = kAnyNode;  ///< strict: no other node is tried
  Direction direction = Direction::kTopDown;
};

/// An entry of the two lists.
struct EarlyRange {
  PhysRange range;
  NodeId node{};  ///< of memory; NodeId{0} in the list of reservations

  friend bool operator==(const EarlyRange&, const EarlyRange&) = default;
};

enum class EarlyErrorKind : std::uint8_t {
  kOutOfMemory,   ///< no free range fits the request
  kNoRoom,        ///< a list is full and cannot grow
  kNodeConflict,  ///< memory is reported twice, on two nodes
  kNotReserved,   ///< a part of what is to be freed is free already
  kAcceptFailed,  ///< the platform did not accept the memory
};
[[nodiscard]] std::string_view to_string(EarlyErrorKind kind);

/// A sorted list of ranges in storage that somebody else owns. Invariants: entries ascend, are not
/// empty, do not overlap, and entries that touch are on different nodes. Thread-compatible.
class RangeList {
 public:
  using Done = std::expected<void, EarlyErrorKind>;

  explicit RangeList(std::span<EarlyRange> storage) : storage_{storage} {}
  RangeList(const RangeList&) = delete;
  RangeList& operator=(const RangeList&) = delete;

  [[nodiscard]] std::span<const EarlyRange> entries() const { return storage_.first(count_); }
  [[nodiscard]] std::size_t capacity() const { return storage_.size(); }
  /// Entries that can be added.
  [[nodiscard]] std::size_t room() const { return storage_.size() - count_; }

  /// Unites the list with `range`; needs room for one entry at most. An empty range is fine.
  /// Errors: kNodeConflict (a part is there on another node), kNoRoom.
  [[nodiscard, gnu::cold]] Done add(PhysRange range, NodeId node);
  /// Takes `range` out; needs room for one entry at most. An empty range is fine.
  /// Errors: kNotReserved (not all of it is in one entry), kNoRoom.
  [[nodiscard, gnu::cold]] Done remove(PhysRange range);
  /// Moves what lies in `range` to `node`; needs room for two entries at most. Error: kNoRoom.
  [[nodiscard, gnu::cold]] Done assign(PhysRange range, NodeId node);

  /// Moves the entries to `storage`. Precondition: it is larger than the old storage, and its
  /// elements are alive.
  [[gnu::cold]] void move_to(std::span<EarlyRange> storage);

  /// Index of the first entry that ends behind `address`; the count of entries when there is none.
  [[nodiscard, gnu::cold]] std::size_t first_ending_after(PhysAddr address) const;
  /// Index of the first entry that begins at or behind `address`.
  [[nodiscard, gnu::cold]] std::size_t first_from(PhysAddr address) const;
  [[nodiscard, gnu::cold]] bool overlaps(PhysRange range) const;
  /// True when one entry contains all of `range`.
  [[nodiscard, gnu::cold]] bool contains(PhysRange range) const;

  [[nodiscard, gnu::cold]] bool invariants() const;

 private:
  [[gnu::cold]] void replace(std::size_t first, std::size_t last, std::span<const EarlyRange> with);
  [[gnu::cold]] void split_at(PhysAddr address);
  [[gnu::cold]] void merge_neighbours();

  std::span<EarlyRange> storage_;
  std::size_t count_ = 0;
};

/// The memory and the reservations. Free is what is in the first list and not in the second.
/// Reservations may lie outside the memory (tables of the firmware, memory added later): they take
/// effect where there is memory. Thread-compatible.
class EarlyRanges {
 public:
  /// The storage outlives the object or its replacement (RangeList::move_to).
  EarlyRanges(std::span<EarlyRange> memory, std::span<EarlyRange> reserved)
      : memory_{memory}, reserved_{reserved} {}

  [[nodiscard]] RangeList& memory() { return memory_; }
  [[nodiscard]] const RangeList& memory() const { return memory_; }
  [[nodiscard]] RangeList& reserved() { return reserved_; }
  [[nodiscard]] const RangeList& reserved() const { return reserved_; }

  /// The lowest free range at or behind `from`, cut there, and its node. Maximal otherwise.
  [[nodiscard, gnu::cold]] std::optional<EarlyRange> next_free(PhysAddr from) const;
  /// The highest free range below `end`, cut there, and its node. Maximal otherwise.
  [[nodiscard, gnu::cold]] std::optional<EarlyRange> previous_free(PhysAddr end) const;
  /// Calls `visit` with every free range of `node` (or of any), ascending.
  [[gnu::cold]] void for_each_free(NodeId node, FunctionRef<void(const EarlyRange&)> visit) const;
  [[nodiscard, gnu::cold]] Bytes free_bytes(NodeId node = kAnyNode) const;

  /// The free range of `size` bytes at a multiple of `align` that is first in the direction of
  /// `place`, on one node, without a byte of `excluded`.
  /// Precondition: `size` is not 0, `align` is a power of two.
  [[nodiscard, gnu::cold]] std::optional<PhysRange> find_free(Bytes size, Bytes align,
                                                              const EarlyPlace& place,
                                                              PhysRange excluded = {}) const;

  [[nodiscard, gnu::cold]] bool invariants() const {
    return memory_.invariants() && reserved_.invariants();
  }

 private:
  RangeList memory_;
  RangeList reserved_;
};

}  // namespace accede::guest
