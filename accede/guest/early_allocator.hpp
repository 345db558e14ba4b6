// Memory for a kernel before it has a page allocator (the part of Linux's memblock).
#pragma once

#include "accede/base/assert.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/guest/acceptor.hpp"
#include "accede/guest/early_ranges.hpp"
#include "accede/guest/memory_map.hpp"
#include "accede/guest/unaccepted_table.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <expected>
#include <new>
#include <span>

namespace accede::guest {

/// What makes memory usable: an Acceptor, or a stand-in for it.
template <class A>
concept RangeAcceptor = requires(A& acceptor, PhysRange range) {
  { acceptor.accept(range) } -> std::same_as<std::expected<Bytes, AcceptError>>;
};

struct EarlyError {
  EarlyErrorKind kind;
  AcceptError accept{};  ///< kAcceptFailed: what the platform said
};

/// Hands out memory by the byte and accepts exactly what it hands out, the guard unit by the
/// acceptor. Its lists begin in storage of the embedder and grow into the managed memory, which is
/// accepted like everything else that is used.
///
/// Order of use: add memory, reserve what is in use (kernel, initrd, table), allow_growth(),
/// allocate; at last the page allocator takes what ranges().for_each_free() names. What stays
/// reserved then stays with its users; the allocator must not be called any more.
///
/// Invariants: those of EarlyRanges; storage in managed memory is reserved.
/// Thread-compatible: it is for the boot CPU. Holds no lock.
template <RangeAcceptor Acceptor>
class EarlyAllocator {
 public:
  using Done = std::expected<void, EarlyError>;
  using Result = std::expected<PhysRange, EarlyError>;

  /// All outlive the object, except that storage is not used any more once a list has grown.
  /// `memory` and `reserved` may have any size; 128 entries each are plenty for most machines.
  EarlyAllocator(Acceptor& acceptor, PhysWindow window, std::span<EarlyRange> memory,
                 std::span<EarlyRange> reserved)
      : acceptor_{acceptor}, window_{window}, ranges_{memory, reserved} {}
  EarlyAllocator(const EarlyAllocator&) = delete;
  EarlyAllocator& operator=(const EarlyAllocator&) = delete;

  /// From here on the lists may grow into free memory of `mapped`, which the window reaches. Call
  /// it when all that is in use is reserved: the lists would take what is not.
  void allow_growth(PhysRange mapped = kAllMemory) { growth_ = mapped.intersect(kAllMemory); }

  /// Adds RAM, accepted or not. Errors: kNodeConflict, kNoRoom, kAcceptFailed.
  [[nodiscard, gnu::cold]] Done add_memory(PhysRange range, NodeId node = NodeId{0}) {
    return change_memory([&] { return ranges_.memory().add(range, node); });
  }
  /// Adds the usable and the unaccepted regions. On an error those before it are there.
  [[nodiscard, gnu::cold]] Done add_memory(const MemoryMap& map, NodeId node = NodeId{0}) {
    for (const MemoryRegion& region : map.regions()) {
      if (region.kind != MemoryKind::kUsable && region.kind != MemoryKind::kUnaccepted) {
        continue;
      }
      if (const Done done = add_memory(region.range, node); !done) {
        return done;
      }
    }
    return {};
  }
  /// Moves the memory inside `range` to `node`, as the firmware's affinity table says; what is not
  /// memory is ignored. Errors: kNoRoom, kAcceptFailed.
  [[nodiscard, gnu::cold]] Done assign_node(PhysRange range, NodeId node) {
    return change_memory([&] { return ranges_.memory().assign(range, node); });
  }

  /// Takes `range` out of the free memory: somebody uses it. It may be reserved already, and it
  /// may lie outside the memory. Accepts nothing: who uses it already had it accepted.
  /// Errors: kNoRoom, kAcceptFailed.
  [[nodiscard, gnu::cold]] Done reserve(PhysRange range) {
    if (const Done room = make_room(reserved_book(), range); !room) {
      return room;
    }
    return as_done(ranges_.reserved().add(range, NodeId{0}));
  }
  /// reserve() of all pages that `range` touches. Precondition: the last one does not end at 2^64.
  [[nodiscard, gnu::cold]] Done reserve_pages(PhysRange range) {
    if (range.empty()) {
      return {};
    }
    return reserve(*PhysRange::make(range.begin().align_down(kPage), range.end().align_up(kPage)));
  }
  /// Reserves the pages of the unaccepted table, to its last byte whatever its alignment.
  [[nodiscard, gnu::cold]] Done reserve_table(const UnacceptedTable& table) {
    return reserve_pages(*PhysRange::make(table.where(), Bytes{table.bytes().size()}));
  }

  /// `size` bytes at a multiple of `align`, reserved and accepted; on one node. The content is the
  /// platform's or the last user's. Errors: kOutOfMemory, kNoRoom, kAcceptFailed: then nothing is
  /// reserved. Precondition: `size` is not 0, `align` is a power of two.
  [[nodiscard, gnu::cold]] Result allocate(Bytes size, Bytes align, const EarlyPlace& place = {}) {
    if (const Done room = make_room(reserved_book(), PhysRange{}); !room) {
      return std::unexpected{room.error()};
    }
    const auto found = ranges_.find_free(size, align, place);
    if (!found) {
      return std::unexpected{EarlyError{.kind = EarlyErrorKind::kOutOfMemory}};
    }
    // The reservation goes first: it can fail without anything to undo on the platform.
    if (const Done done = as_done(ranges_.reserved().add(*found, NodeId{0})); !done) {
      return std::unexpected{done.error()};
    }
    if (const Done accepted = accept(*found); !accepted) {
      const auto removed = ranges_.reserved().remove(*found);
      ACCEDE_ASSERT(removed.has_value());  // it was added with the room that removing it needs
      return std::unexpected{accepted.error()};
    }
    return *found;
  }

  /// Gives `range` back; it stays accepted. It may be a part of an allocation or several that
  /// touch. Errors: kNotReserved, kNoRoom (a part in the middle needs an entry), kAcceptFailed.
  /// Precondition: no list lies in it.
  [[nodiscard, gnu::cold]] Done free(PhysRange range) {
    ACCEDE_ASSERT(!range.overlaps(memory_home_) && !range.overlaps(reserved_home_));
    // Before a list grows: it could grow into what is not reserved.
    if (!range.empty() && !ranges_.reserved().contains(range)) {
      return std::unexpected{EarlyError{.kind = EarlyErrorKind::kNotReserved}};
    }
    if (const Done room = make_room(reserved_book(), PhysRange{}); !room) {
      return room;
    }
    return as_done(ranges_.reserved().remove(range));
  }

  [[nodiscard]] const EarlyRanges& ranges() const { return ranges_; }
  /// Managed memory that the lists occupy.
  [[nodiscard]] Bytes bookkeeping() const { return memory_home_.size() + reserved_home_.size(); }

  [[nodiscard, gnu::cold]] bool invariants() const {
    const auto kept = [this](PhysRange home) {
      return home.empty() || !ranges_.find_free(home.size(), Bytes{1}, {.limits = home});
    };
    return ranges_.invariants() && kept(memory_home_) && kept(reserved_home_);
  }

 private:
  /// A list and where in managed memory its storage lies (empty: with the embedder).
  struct Book {
    RangeList& list;
    PhysRange& home;
  };

  /// Entries to have free before a change: one for the change itself, or two to assign a node, and
  /// for the list of reservations two more, because growing the other list reserves and frees.
  static constexpr std::size_t kSpare = 4;
  static constexpr Bytes kPage{4096};

  Book reserved_book() { return {ranges_.reserved(), reserved_home_}; }
  Book memory_book() { return {ranges_.memory(), memory_home_}; }

  static Done as_done(const RangeList::Done& done) {
    if (!done) {
      return std::unexpected{EarlyError{.kind = done.error()}};
    }
    return {};
  }

  [[gnu::cold]] Done accept(PhysRange range) {
    if (const auto accepted = acceptor_.accept(range); !accepted) {
      return std::unexpected{
          EarlyError{.kind = EarlyErrorKind::kAcceptFailed, .accept = accepted.error()}};
    }
    return {};
  }

  template <class Change>
  Done change_memory(Change change) {
    for (const Book book : {reserved_book(), memory_book()}) {
      if (const Done room = make_room(book, PhysRange{}); !room) {
        return room;
      }
    }
    return as_done(change());
  }

  /// Grows the list to twice its size and whole pages when it is nearly full, away from `excluded`,
  /// which is about to be reserved. Without memory for that the change goes on and fails only when
  /// it does need room; a failure of the platform is reported always.
  [[gnu::cold]] Done make_room(Book book, PhysRange excluded) {
    if (book.list.room() >= kSpare || growth_.empty()) {
      return {};
    }
    const bool reservations = &book.list == &ranges_.reserved();
    if (!reservations && ranges_.reserved().room() < 2) {
      return {};
    }
    const Bytes least{book.list.capacity() * 2 * sizeof(EarlyRange)};
    const Bytes size = kPage * (least / kPage + 1);
    const auto place = ranges_.find_free(size, kPage, {.limits = growth_}, excluded);
    if (!place) {
      return {};
    }
    if (const Done accepted = accept(*place); !accepted) {
      return accepted;
    }
    move(book, *place);
    return {};
  }

  [[gnu::cold]] void move(Book book, PhysRange place) {
    const auto entries = static_cast<std::size_t>(place.size() / Bytes{sizeof(EarlyRange)});
    EarlyRange* const first = window_.pointer<EarlyRange>(place.begin());
    for (std::size_t i = 0; i < entries; ++i) {
      new (first + i) EarlyRange{};
    }
    book.list.move_to({first, entries});
    const auto reserved = ranges_.reserved().add(place, NodeId{0});
    const auto freed = ranges_.reserved().remove(book.home);
    ACCEDE_ASSERT(reserved.has_value() && freed.has_value());
    book.home = place;
  }

  Acceptor& acceptor_;
  PhysWindow window_;
  EarlyRanges ranges_;
  PhysRange growth_;
  PhysRange memory_home_;
  PhysRange reserved_home_;
};

}  // namespace accede::guest
