// The free memory of one zone: a buddy system that keeps accepted and unaccepted blocks apart.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/spin_lock.hpp"
#include "accede/guest/page_info.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace accede::guest {

/// A block of a zone.
struct Block {
  Frame frame = kNoFrame;
  Order order;

  friend bool operator==(Block, Block) = default;
};

/// The largest aligned block that begins at `begin` and ends at `end` or before.
/// Precondition: begin < end.
[[nodiscard]] Block largest_block(Frame begin, Frame end);

/// From which end unaccepted memory is taken. Whoever needs memory now takes from the top: the
/// guard unit of a block is then the block above it, accepted before, so that a step costs one
/// unit. Whoever works ahead takes from the bottom, so that the two never wait for each other.
enum class ZoneEnd : std::uint8_t { kTop, kBottom };

/// Pages of a zone by what they are. `free` counts accepted pages on the zone's lists; what CPU
/// caches hold is not in it.
struct ZoneCounters {
  PageCount managed;
  PageCount free;
  PageCount unaccepted;
  PageCount accepting;
};

/// The blocks of one zone. Every block is accepted as a whole or unaccepted as a whole; blocks of
/// different kinds never merge. The lists link heads in the page information, never in the pages,
/// so nothing here touches memory that the zone manages.
///
/// Invariants (invariants() checks them): every block on a list has a head with its state and order
/// and kNone on its other pages; blocks are aligned to their size and do not overlap; a free block
/// and its buddy are not both free; the counters equal the lists.
///
/// Thread-safety: the caller holds lock() for every member except construction, counters() and
/// where something else is said. Longest critical section: 10 splits or merges; the contiguous
/// search looks at as many heads as its caller asks for.
class Zone {
 public:
  Zone() = default;
  Zone(const Zone&) = delete;
  Zone& operator=(const Zone&) = delete;

  /// Bytes of page information for a zone that spans `span`, to be 4-byte aligned.
  [[nodiscard]] static Bytes metadata_bytes(PhysRange span);

  /// Gives the zone its span and the storage for its page information, which need not be cleared
  /// and outlives the zone. No memory is in it yet.
  /// Preconditions: not called before; at most 16 TiB; `metadata` is large enough and 4-byte
  /// aligned.
  [[gnu::cold]] void open(PhysRange span, unsigned node, std::span<std::byte> metadata);

  [[nodiscard]] SpinLock& lock() { return lock_; }
  [[nodiscard]] PhysRange span() const { return span_; }
  [[nodiscard]] unsigned node() const { return node_; }
  [[nodiscard]] bool contains(PhysAddr address) const { return span_.contains(address); }
  [[nodiscard]] Frame frame_of(PhysAddr address) const {
    return static_cast<Frame>((address - base_).value() >> 12);
  }
  [[nodiscard]] PhysAddr address_of(Frame frame) const {
    return base_ + PageCount{number(frame)}.bytes();
  }
  [[nodiscard]] PhysRange range_of(Block block) const {
    return *PhysRange::make(address_of(block.frame), block.order.bytes());
  }
  [[nodiscard]] PageInfo& info(Frame frame) { return pages_[number(frame)]; }
  [[nodiscard]] const PageInfo& info(Frame frame) const { return pages_[number(frame)]; }

  /// Clears the page information of a range that is about to be added. Needs no lock, but nobody
  /// may add memory of the same 4 MiB at the same time.
  void prepare(PhysRange pages);
  /// Adds a block that was prepared. Free blocks merge.
  void add(Block block, PageState state);

  /// Takes an accepted block out, splitting a larger one if need be. Its head says kAllocated.
  [[nodiscard]] std::optional<Frame> take(Order order);
  /// Takes a block out to be accepted: of `order` if a block is that large, else the largest there
  /// is. Its head says kAccepting.
  [[nodiscard]] std::optional<Block> take_unaccepted(Order order, ZoneEnd end);
  /// The end of an accept: the block becomes free and merges.
  void accepted(Block block);
  /// The accept failed: the block is unaccepted as before, and tried from `end` only after all that
  /// was never refused and all that was refused before it.
  void not_accepted(Block block, ZoneEnd end);
  /// Puts a block that was taken out of use back among the unaccepted ones.
  void add_back_unaccepted(Block block) { push(block, PageState::kUnaccepted, ZoneEnd::kTop); }
  /// Frees a block that is on no list. Its head may say anything.
  void put(Block block);

  /// True when some block is unaccepted. Needs no lock: a hint.
  [[nodiscard]] bool has_unaccepted() const {
    return unaccepted_pages_.load(std::memory_order_relaxed) != 0;
  }

  /// True when every page of [begin, end) is free or unaccepted. `resume` then says
  /// nothing; else it is the first frame after the block that is in the way.
  [[nodiscard]] bool all_free(Frame begin, Frame end, Frame& resume) const;
  /// Takes exactly the pages [begin, end) out: what sticks out of the blocks at the ends stays.
  /// The pages become blocks of the largest orders whose heads say kAllocated where the memory is
  /// accepted, else kAccepting. Precondition: all_free().
  void take_range(Frame begin, Frame end);
  /// The block that `frame` lies in, by its head.
  [[nodiscard]] Block block_of(Frame frame) const;
  /// Changes the head of a block that is on no list. kAccepting blocks leave that counter.
  void settle(Block block, PageState state);

  /// A snapshot, exact under the lock.
  [[nodiscard]] ZoneCounters counters() const;
  /// Calls nothing outside, changes nothing; holds no lock. Only while no other call runs.
  [[nodiscard, gnu::cold]] bool invariants() const;

 private:
  static constexpr std::size_t kOrders = 11;

  struct List {
    Frame first = kNoFrame;
    Frame last = kNoFrame;
    std::uint64_t blocks = 0;
  };
  using Lists = std::array<List, kOrders>;

  [[nodiscard]] List& list(PageState state, Order order) {
    Lists& lists = state == PageState::kFree      ? free_
                   : state == PageState::kRefused ? refused_
                                                  : unaccepted_;
    return lists[order.value()];
  }
  [[nodiscard]] std::atomic<std::uint64_t>& counter(PageState state) {
    return state == PageState::kFree ? free_pages_ : unaccepted_pages_;
  }
  void push(Block block, PageState state, ZoneEnd end);
  void remove(Block block, PageState state);
  /// The block at `end` of a list.
  [[nodiscard]] static Block block_at(const Lists& lists, unsigned order, ZoneEnd end);
  /// Of the blocks of `order` or more that stand at `end` of their lists the one nearest to that
  /// end of the zone; else the largest there is.
  [[nodiscard]] static std::optional<Block> nearest(const Lists& lists, Order order, ZoneEnd end);
  /// Cuts `block`, which is on no list, down to `order` and puts the rest on the lists. What stays
  /// is the highest part or the lowest.
  [[nodiscard]] Block cut(Block block, Order order, PageState state, ZoneEnd stays);
  void take_part(Block block, Frame begin, Frame end);
  [[nodiscard, gnu::cold]] bool list_sound(const List& list, Order order, PageState state) const;

  SpinLock lock_;
  PhysRange span_;
  PhysAddr base_;  ///< of frame 0: span_.begin() aligned down to the largest block
  unsigned node_ = 0;
  std::span<PageInfo> pages_;
  Lists free_{};
  Lists unaccepted_{};
  Lists refused_{};
  std::atomic<std::uint64_t> managed_ = 0;
  std::atomic<std::uint64_t> free_pages_ = 0;
  std::atomic<std::uint64_t> unaccepted_pages_ = 0;
  std::atomic<std::uint64_t> accepting_pages_ = 0;
};

}  // namespace accede::guest
