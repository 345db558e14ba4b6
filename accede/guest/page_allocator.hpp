// The page allocator: zones, CPU caches, and acceptance outside every lock.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/spin_lock.hpp"
#include "accede/guest/acceptor.hpp"
#include "accede/guest/alloc_result.hpp"
#include "accede/guest/cpu_cache.hpp"
#include "accede/guest/hooks.hpp"
#include "accede/guest/page_info.hpp"
#include "accede/guest/policies.hpp"
#include "accede/guest/zone.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

namespace accede::guest {

/// The page allocator of a guest.
///
/// Each request is served, in this order, from the CPU's cache, from the accepted memory of a zone,
/// by accepting a block of that zone, and then from the next zone: the node's own zones in the
/// order of the span, then the others. Memory is accepted after the zone's lock is dropped and
/// before its caller sees it. A request fails when nothing is free, accepted or not, in any zone
/// and nobody is about to finish accepting; and when the platform refuses the memory it chose: such
/// a failure may be an attack and is never hidden by memory from elsewhere. A refused block is
/// tried again only after all others, so the next request finds another.
///
/// Invariants (invariants()): those of Zone; every page that is free, cached or allocated is
/// accepted, and so is what code may read behind its end (the guard); page information lies in
/// accepted memory.
///
/// Thread-safe, setting up aside. Locks: a CPU cache's, a zone's, each held alone, with interrupts
/// off, never across a platform call.
template <class Acceptor, AcceptancePolicy Policy, AllocatorHooks Hooks = SingleCpuHooks>
class PageAllocator {
 public:
  using Result = std::expected<PhysAddr, AllocError>;
  using AcceptResult = std::expected<void, AcceptError>;

  /// All outlive the object; zones and caches must be freshly constructed.
  /// Preconditions: 1 <= zones <= 64; a cache for every CPU number that cpu() returns.
  PageAllocator(Acceptor& acceptor, std::span<Zone> zones, std::span<CpuCache> caches, Hooks& hooks)
      : acceptor_{acceptor},
        zones_{zones},
        caches_{caches},
        hooks_{hooks},
        unit_order_{std::min(
            kMaxOrder.value(),
            static_cast<unsigned>(std::countr_zero(acceptor.table().unit().value())) - 12)} {
    ACCEDE_ASSERT(!zones.empty() && zones.size() <= Background::kMaxZones && !caches.empty());
  }
  PageAllocator(const PageAllocator&) = delete;
  PageAllocator& operator=(const PageAllocator&) = delete;

  // --- Setting up: one CPU, unless it says otherwise ---

  /// Opens the zone `index` (zones of a node: the one to be used first comes first). `metadata`
  /// (Zone::metadata_bytes) is accepted memory at the physical address `where`.
  [[gnu::cold]] void open_zone(unsigned index, PhysRange span, unsigned node,
                               std::span<std::byte> metadata, PhysAddr where) {
    ACCEDE_ASSERT(index < zones_.size());
    zones_[index].open(span, node, metadata);
    metadata_bytes_ += Zone::metadata_bytes(span);
    acceptor_ok_ = acceptor_ok_ && !acceptor_.contains_unaccepted(
                                       *PhysRange::make(where, Zone::metadata_bytes(span)));
  }
  /// Tells which node a CPU belongs to; until then it belongs to that of zone 0.
  [[gnu::cold]] void assign_cpu(unsigned cpu, unsigned node) {
    for (unsigned i = 0; i < zones_.size(); ++i) {
      if (zones_[i].node() == node) {
        caches_[cpu].zone = static_cast<std::uint16_t>(i);
        return;
      }
    }
  }

  /// Prepares the page information of a part of a zone, holes included. Every part must be prepared
  /// before memory of the same 4 MiB is added, and all of a zone before one of its addresses is
  /// given to free(), allocate_contiguous(), take_out() or invariants() look through it. Any CPU,
  /// at the same time as anything else.
  void prepare(PhysRange pages) {
    for (Zone& zone : zones_) {
      const PhysRange part = zone.span().intersect(pages);
      if (!part.empty()) {
        zone.prepare(part);
      }
    }
  }
  /// Adds free memory, which may be unaccepted. Blocks too small to be kept unaccepted, and with an
  /// eager policy all, are accepted before they are added. Any CPU, at the same time as anything
  /// else; the part of `pages` outside all zones is ignored. On a failure of the platform the block
  /// it happened in is left unaccepted, the rest is added, and the first error returned.
  /// Precondition: prepared, not added before, page aligned.
  std::expected<void, AcceptError> add(PhysRange pages) {
    std::expected<void, AcceptError> result;
    for (Zone& zone : zones_) {
      PhysRange rest = zone.span().intersect(pages);
      while (!rest.empty()) {
        const Block block = largest_block(zone.frame_of(rest.begin()), zone.frame_of(rest.end()));
        if (const auto added = add_block(zone, block); !added && result) {
          result = added;
        }
        rest = *PhysRange::make(zone.range_of(block).end(), rest.end());
      }
    }
    return result;
  }

  // --- Allocating ---

  /// A block of 2^order pages. Its content is what the platform leaves (zero on TDX, undefined on
  /// SNP) or what its last owner left.
  [[nodiscard]] Result allocate(Order order, AllocOptions options = {}) {
    if constexpr (Policy::kChecksEveryRequest) {
      accept_while_wanted(options);
    }
    if (order == Order{0} && options.node == AllocOptions::kOwnNode) {
      CpuCache& cache = caches_[hooks_.cpu()];
      const Held held{hooks_, cache.lock};
      if (cache.count != 0) {
        Zone& zone = zones_[cache.zone];
        const Frame frame = cache.frames[--cache.count];
        zone.info(frame).set_head({.state = PageState::kAllocated, .order = Order{0}});
        return zone.address_of(frame);
      }
    }
    return allocate_from_zones(order, options);
  }

  /// Fills `pages` with single pages; returns how many there were. An error only when there was
  /// not even one.
  [[nodiscard]] std::expected<std::size_t, AllocError> allocate_bulk(std::span<PhysAddr> pages,
                                                                     AllocOptions options = {}) {
    if constexpr (Policy::kChecksEveryRequest) {
      accept_while_wanted(options);
    }
    std::size_t done = 0;
    std::array<Frame, 64> frames;
    while (done < pages.size()) {
      const auto want = std::span{frames}.first(std::min(frames.size(), pages.size() - done));
      const auto batch = take_from_zones(Order{0}, want, options);
      if (!batch) {
        if (done == 0) {
          return std::unexpected{batch.error()};
        }
        break;
      }
      for (const Frame frame : want.first(batch->count)) {
        pages[done++] = zones_[batch->zone].address_of(frame);
      }
    }
    return done;
  }

  /// `pages` contiguous pages, aligned to `alignment`, of any number. Looks through whole zones:
  /// slow, and for few callers. Free with free_contiguous().
  [[nodiscard, gnu::cold]] std::expected<PhysRange, AllocError> allocate_contiguous(
      PageCount pages, Bytes alignment = Bytes{4096}, AllocOptions options = {}) {
    ACCEDE_ASSERT(pages.value() != 0 && std::has_single_bit(alignment.value()));
    drain_caches();
    std::optional<AllocError> error;
    const unsigned home = home_zone(options);
    for (unsigned i = 0; i < zones_.size(); ++i) {
      const unsigned index = zone_at(home, i);
      Zone& zone = zones_[index];
      PhysAddr from = zone.span().begin();
      while (const auto range = take_run(zone, from, pages, alignment, options, error)) {
        if (const auto accepted = accept_run(zone, *range); !accepted) {
          error = {.kind = AllocErrorKind::kAcceptFailed, .accept = accepted.error()};
          break;
        }
        tell_policy(index, pages);
        return *range;
      }
    }
    return std::unexpected{error.value_or(AllocError{.kind = AllocErrorKind::kOutOfMemory})};
  }

  // --- Freeing ---

  [[nodiscard]] std::expected<void, FreeError> free(PhysAddr address, Order order) {
    const auto index = zone_of(address);
    if (!index || !address.is_aligned(Bytes{4096})) {
      return std::unexpected{FreeError::kNotOurs};
    }
    Zone& zone = zones_[*index];
    const Frame frame = zone.frame_of(address);
    CpuCache& cache = caches_[hooks_.cpu()];
    const bool cached = order == Order{0} && cache.zone == *index;
    const BlockHead now{.state = cached ? PageState::kCached : PageState::kNone, .order = order};
    if (!zone.info(frame).change_head({.state = PageState::kAllocated, .order = order}, now)) {
      const bool allocated = zone.info(frame).head().state == PageState::kAllocated;
      return std::unexpected{allocated ? FreeError::kWrongOrder : FreeError::kWrongState};
    }
    if (cached) {
      put_in_cache(zone, cache, frame);
    } else {
      const Held held{hooks_, zone.lock()};
      zone.put({.frame = frame, .order = order});
    }
    return {};
  }

  /// Frees what allocate_contiguous() or take_out() returned, wholly. An error changes nothing.
  [[nodiscard, gnu::cold]] std::expected<void, FreeError> free_contiguous(PhysRange range) {
    const auto index = zone_of(range.begin());
    if (!index || !page_aligned(range) || range.empty() || !zones_[*index].span().contains(range)) {
      return std::unexpected{FreeError::kNotOurs};
    }
    Zone& zone = zones_[*index];
    const Held held{hooks_, zone.lock()};
    bool whole = true;
    for_blocks(zone, range, [&](Block block, PageState state) {
      whole = whole && (state == PageState::kAllocated || state == PageState::kTakenOut) &&
              range.contains(zone.range_of(block));
    });
    if (!whole) {
      return std::unexpected{FreeError::kWrongState};
    }
    for_blocks(zone, range, [&](Block block, PageState state) {
      if (state == PageState::kTakenOut) {
        zone.add_back_unaccepted(block);
      } else {
        zone.info(block.frame).set_head({});
        zone.put(block);
      }
    });
    return {};
  }

  /// Gives all pages in CPU caches back to their zones.
  void drain_caches() {
    for (CpuCache& cache : caches_) {
      drain(cache, CpuCache::kCapacity);
    }
  }

  // --- Taking memory out of use, accepting ahead ---

  /// Takes exactly `range` out of use, if all of it is free: for off-lining, for a device, for a
  /// crash kernel. Unaccepted parts are accepted first or, with `accept` false, stay as they are.
  /// False: something in it is in use, or it does not lie in one zone. Give it back with
  /// free_contiguous(). Precondition: page aligned.
  [[nodiscard, gnu::cold]] std::expected<bool, AcceptError> take_out(PhysRange range, bool accept) {
    ACCEDE_ASSERT(page_aligned(range));
    const auto index = zone_of(range.begin());
    if (!index || range.empty() || !zones_[*index].span().contains(range)) {
      return false;
    }
    drain_caches();
    Zone& zone = zones_[*index];
    {
      const Held held{hooks_, zone.lock()};
      Frame resume{};
      const Frame begin = zone.frame_of(range.begin());
      const Frame end = zone.frame_of(range.end());
      if (!zone.all_free(begin, end, resume)) {
        return false;
      }
      zone.take_range(begin, end);
      if (!accept) {
        settle_run(zone, range, PageState::kTakenOut);
      }
    }
    if (const auto accepted = accept ? accept_run(zone, range) : AcceptResult{}; !accepted) {
      return std::unexpected{accepted.error()};
    }
    tell_policy(*index, PageCount{range.size() / Bytes{4096}});
    return true;
  }

  /// Accepts one block of about `order` of a zone ahead of need. Returns the bytes of the block
  /// that became free; 0: there is nothing left.
  [[nodiscard]] std::expected<Bytes, AcceptError> accept_ahead(unsigned zone_index, Order order,
                                                               ZoneEnd end) {
    Zone& zone = zones_[zone_index];
    const auto block = take_unaccepted(zone, order, end);
    if (!block) {
      return Bytes{0};
    }
    if (const auto accepted = accept_block(zone, *block, end, {}); !accepted) {
      return std::unexpected{accepted.error()};
    }
    return block->order.bytes();
  }

  /// Accepts everything that is left, as one of any number of CPUs that do so; returns what this
  /// one accepted.
  [[nodiscard]] std::expected<Bytes, AcceptError> accept_everything() {
    Bytes done;
    for (unsigned i = 0; i < zones_.size(); ++i) {
      for (;;) {
        const auto step = accept_ahead(i, kMaxOrder, ZoneEnd::kBottom);
        if (!step) {
          return std::unexpected{step.error()};
        }
        if (*step == Bytes{0}) {
          break;
        }
        done += *step;
      }
    }
    return done;
  }

  // --- Looking ---

  [[nodiscard]] std::size_t zone_count() const { return zones_.size(); }
  [[nodiscard]] const Zone& zone(unsigned index) const { return zones_[index]; }
  /// The counters of a zone under its lock: exact, and ordered with whatever else takes the lock.
  [[nodiscard]] ZoneCounters exact_counters(unsigned zone_index) {
    Zone& zone = zones_[zone_index];
    const Held held{hooks_, zone.lock()};
    return zone.counters();
  }
  /// Of the zones of a node, or of all.
  [[nodiscard]] MemoryCounters counters(std::optional<unsigned> node = std::nullopt) const {
    MemoryCounters sum;
    for (unsigned i = 0; i < zones_.size(); ++i) {
      if (!node || zones_[i].node() == *node) {
        const ZoneCounters zone = zones_[i].counters();
        sum.total += zone.managed.bytes();
        // With what is being accepted: free memory does not dip while somebody waits for it.
        sum.free += zone.free.bytes() + zone.unaccepted.bytes() + zone.accepting.bytes() +
                    cached(i).bytes();
        sum.unaccepted += zone.unaccepted.bytes();
      }
    }
    return sum;
  }
  /// Pages in CPU caches, of one zone.
  [[nodiscard]] PageCount cached(unsigned zone) const {
    std::uint64_t pages = 0;
    for (CpuCache& cache : caches_) {
      if (cache.zone == zone) {
        const Held held{hooks_, cache.lock};
        pages += cache.count;
      }
    }
    return PageCount{pages};
  }
  /// Requests that had to accept memory or wait for somebody who did.
  [[nodiscard]] std::uint64_t accept_waits() const {
    return accept_waits_.load(std::memory_order_relaxed);
  }
  /// Page information of all zones.
  [[nodiscard]] Bytes metadata() const { return metadata_bytes_; }
  /// Order of the table's unit, at most kMaxOrder: the least that is accepted at a time.
  [[nodiscard]] Order unit_order() const { return unit_order_; }
  [[nodiscard]] Acceptor& acceptor() { return acceptor_; }
  [[nodiscard]] Policy& policy() { return policy_; }
  [[nodiscard]] Hooks& hooks() { return hooks_; }

  /// See the class. Only while no other call runs.
  [[nodiscard, gnu::cold]] bool invariants() const {
    if (!acceptor_ok_) {
      return false;
    }
    for (const Zone& zone : zones_) {
      if (!zone.invariants()) {
        return false;
      }
      bool accepted = true;
      for_blocks(zone, zone.span(), [&](Block block, PageState state) {
        const bool usable = state == PageState::kFree || state == PageState::kCached ||
                            state == PageState::kAllocated;
        accepted = accepted && !(usable && acceptor_.contains_unaccepted(zone.range_of(block)));
      });
      if (!accepted) {
        return false;
      }
    }
    return true;
  }

 private:
  struct Batch {
    unsigned zone;
    std::size_t count;
  };
  /// What a zone had for a request: pages (count > 0), or nothing and a reason.
  struct Taken {
    std::size_t count = 0;
    bool would_accept = false;  ///< no-wait, and only unaccepted memory is left
    bool in_flight = false;     ///< another CPU is accepting the last of it
  };

  [[nodiscard]] unsigned home_zone(AllocOptions options) const {
    if (options.node != AllocOptions::kOwnNode) {
      for (unsigned i = 0; i < zones_.size(); ++i) {
        if (zones_[i].node() == options.node) {
          return i;
        }
      }
    }
    return caches_[hooks_.cpu()].zone;
  }
  /// The n-th zone to try: those of the home's node from home on, then the rest.
  [[nodiscard]] unsigned zone_at(unsigned home, unsigned n) const {
    const unsigned node = zones_[home].node();
    for (const bool own : {true, false}) {
      for (unsigned i = 0; i < zones_.size(); ++i) {
        if ((zones_[i].node() == node) == own && n-- == 0) {
          return i;
        }
      }
    }
    return home;
  }
  [[nodiscard]] static bool page_aligned(PhysRange range) {
    return range.begin().is_aligned(Bytes{4096}) && range.end().is_aligned(Bytes{4096});
  }
  [[nodiscard]] std::optional<unsigned> zone_of(PhysAddr address) const {
    for (unsigned i = 0; i < zones_.size(); ++i) {
      if (zones_[i].contains(address)) {
        return i;
      }
    }
    return std::nullopt;
  }

  [[nodiscard]] Result allocate_from_zones(Order order, AllocOptions options) {
    std::array<Frame, CpuCache::kBatch> frames;
    const bool refill = order == Order{0} && options.node == AllocOptions::kOwnNode;
    const auto want = std::span{frames}.first(refill ? frames.size() : 1);
    const auto batch = take_from_zones(order, want, options);
    if (!batch) {
      return std::unexpected{batch.error()};
    }
    Zone& zone = zones_[batch->zone];
    if (batch->count > 1) {
      keep_in_cache(*batch, want.subspan(1, batch->count - 1));
    }
    return zone.address_of(frames[0]);
  }

  /// Puts pages that were just taken into the CPU's cache; what does not belong or fit there goes
  /// back to the zone.
  void keep_in_cache(Batch batch, std::span<const Frame> frames) {
    Zone& zone = zones_[batch.zone];
    CpuCache& cache = caches_[hooks_.cpu()];
    if (cache.zone == batch.zone) {
      const Held held{hooks_, cache.lock};
      // From the back: the cache gives out its last page first, and those shall ascend.
      while (!frames.empty() && cache.count < CpuCache::kCapacity) {
        zone.info(frames.back()).set_head({.state = PageState::kCached, .order = Order{0}});
        cache.frames[cache.count++] = frames.back();
        frames = frames.first(frames.size() - 1);
      }
    }
    if (!frames.empty()) {
      const Held held{hooks_, zone.lock()};
      for (const Frame frame : frames) {
        zone.put({.frame = frame, .order = Order{0}});
      }
    }
  }

  [[nodiscard]] std::expected<Batch, AllocError> take_from_zones(Order order, std::span<Frame> out,
                                                                 AllocOptions options) {
    const unsigned home = home_zone(options);
    bool waited = false;
    bool drained = false;
    for (;;) {
      Taken state;
      for (unsigned n = 0; n < zones_.size(); ++n) {
        const unsigned index = zone_at(home, n);
        const auto taken = take_from_zone(index, order, out, options);
        if (!taken) {
          return std::unexpected{
              AllocError{.kind = AllocErrorKind::kAcceptFailed, .accept = taken.error()}};
        }
        if (taken->count != 0) {
          return Batch{.zone = index, .count = taken->count};
        }
        state.would_accept |= taken->would_accept;
        state.in_flight |= taken->in_flight;
      }
      if (state.would_accept) {
        return std::unexpected{AllocError{.kind = AllocErrorKind::kWouldAccept}};
      }
      if (!state.in_flight && drained) {
        return std::unexpected{AllocError{.kind = AllocErrorKind::kOutOfMemory}};
      }
      if (!state.in_flight) {
        // Nothing is left but what CPU caches hold, and that counts as free.
        drain_caches();
        drained = true;
        continue;
      }
      if (!waited) {
        waited = true;
        accept_waits_.fetch_add(1, std::memory_order_relaxed);
      }
      hooks_.relax();
    }
  }

  [[nodiscard]] std::expected<Taken, AcceptError> take_from_zone(unsigned index, Order order,
                                                                 std::span<Frame> out,
                                                                 AllocOptions options) {
    Zone& zone = zones_[index];
    Taken taken;
    bool more = false;
    {
      const Held held{hooks_, zone.lock()};
      taken.count = take_frames(zone, order, out);
      // Under the lock: a moment later it may all be with another CPU, or even free.
      const ZoneCounters now = zone.counters();
      more = now.unaccepted != PageCount{0} || now.accepting != PageCount{0};
    }
    if constexpr (Policy::kKnowsUnaccepted) {
      if (taken.count == 0) [[unlikely]] {
        const auto accepted = accept_for(zone, order, out, options, more);
        if (!accepted) {
          return accepted;
        }
        taken = *accepted;
      }
    }
    if (taken.count != 0) {
      tell_policy(index, PageCount{taken.count << order.value()});
    }
    return taken;
  }

  void tell_policy(unsigned index, PageCount taken) {
    policy_.taken(zones_[index], index, taken, [this] { hooks_.wake_acceptor(); });
  }

  [[nodiscard]] std::size_t take_frames(Zone& zone, Order order, std::span<Frame> out) {
    std::size_t count = 0;
    while (count < out.size()) {
      const auto frame = zone.take(order);
      if (!frame) {
        break;
      }
      out[count++] = *frame;
    }
    return count;
  }

  /// The zone has no accepted block of that order: accept until it has. `more`: it had unaccepted
  /// memory, or some that was being accepted.
  [[nodiscard]] std::expected<Taken, AcceptError> accept_for(Zone& zone, Order order,
                                                             std::span<Frame> out,
                                                             AllocOptions options, bool more) {
    Taken taken;
    if (options.no_wait) {
      taken.would_accept = more;
      return taken;
    }
    bool counted = false;
    while (taken.count == 0) {
      const auto block = take_unaccepted(zone, policy_.step(order, unit_order_), policy_.end());
      if (!block) {
        const Held held{hooks_, zone.lock()};
        taken.count = take_frames(zone, order, out);
        taken.in_flight = zone.counters().accepting != PageCount{0} || zone.has_unaccepted();
        return taken;
      }
      if (!counted) {
        counted = true;
        accept_waits_.fetch_add(1, std::memory_order_relaxed);
      }
      const auto got = accept_block(zone, *block, policy_.end(), out, order);
      if (!got) {
        return std::unexpected{got.error()};
      }
      taken.count = *got;
    }
    return taken;
  }

  [[nodiscard]] std::optional<Block> take_unaccepted(Zone& zone, Order order, ZoneEnd end) {
    if (!zone.has_unaccepted()) {
      return std::nullopt;
    }
    const Held held{hooks_, zone.lock()};
    return zone.take_unaccepted(order, end);
  }

  /// Accepts a block that was taken out, makes it free, and takes frames for `out` in the same
  /// breath, so that whoever accepts cannot starve. Returns how many frames.
  [[nodiscard]] std::expected<std::size_t, AcceptError> accept_block(Zone& zone, Block block,
                                                                     ZoneEnd end,
                                                                     std::span<Frame> out,
                                                                     Order order = {}) {
    const auto accepted = acceptor_.accept(zone.range_of(block));
    const Held held{hooks_, zone.lock()};
    if (!accepted) {
      zone.not_accepted(block, end);
      return std::unexpected{accepted.error()};
    }
    zone.accepted(block);
    return take_frames(zone, order, out);
  }

  void accept_while_wanted(AllocOptions options) {
    if (options.no_wait) {
      return;
    }
    const unsigned index = home_zone(options);
    const Zone& zone = zones_[index];
    for (unsigned done = 0; policy_.wants(zone, done); ++done) {
      const auto step = accept_ahead(index, policy_.step(Order{0}, unit_order_), policy_.end());
      if (!step || *step == Bytes{0}) {
        return;
      }
      accept_waits_.fetch_add(1, std::memory_order_relaxed);
    }
  }

  void put_in_cache(Zone& zone, CpuCache& cache, Frame frame) {
    {
      const Held held{hooks_, cache.lock};
      if (cache.count < CpuCache::kCapacity) {
        cache.frames[cache.count++] = frame;
        return;
      }
    }
    drain(cache, CpuCache::kBatch);
    const Held held{hooks_, zone.lock()};
    zone.put({.frame = frame, .order = Order{0}});
  }

  void drain(CpuCache& cache, unsigned most) {
    std::array<Frame, CpuCache::kCapacity> frames;
    unsigned count = 0;
    {
      const Held held{hooks_, cache.lock};
      // The oldest pages go: the newest are warm.
      count = std::min<unsigned>(most, cache.count);
      std::copy_n(cache.frames.begin(), count, frames.begin());
      std::copy(cache.frames.begin() + count, cache.frames.begin() + cache.count,
                cache.frames.begin());
      cache.count = static_cast<std::uint16_t>(cache.count - count);
    }
    if (count != 0) {
      Zone& zone = zones_[cache.zone];
      const Held held{hooks_, zone.lock()};
      for (const Frame frame : std::span{frames}.first(count)) {
        zone.put({.frame = frame, .order = Order{0}});
      }
    }
  }

  std::expected<void, AcceptError> add_block(Zone& zone, Block block) {
    PageState state = PageState::kFree;
    std::expected<void, AcceptError> result;
    if constexpr (Policy::kKnowsUnaccepted) {
      const PhysRange range = zone.range_of(block);
      if (acceptor_.contains_unaccepted(range)) {
        state = PageState::kUnaccepted;
        if (Policy::kAcceptsWhenAdded || block.order < unit_order_) {
          const auto accepted = acceptor_.accept(range);
          if (accepted) {
            state = PageState::kFree;
          } else {
            result = std::unexpected{accepted.error()};
          }
        }
      }
    }
    const Held held{hooks_, zone.lock()};
    zone.add(block, state);
    return result;
  }

  /// Takes the first run of free pages of a zone from `from` on out; a few hundred candidates for
  /// each time the lock is held.
  [[nodiscard, gnu::cold]] std::optional<PhysRange> take_run(Zone& zone, PhysAddr& from,
                                                             PageCount pages, Bytes alignment,
                                                             AllocOptions options,
                                                             std::optional<AllocError>& error) {
    constexpr unsigned kCandidates = 256;
    for (;;) {
      const Held held{hooks_, zone.lock()};
      for (unsigned i = 0; i < kCandidates; ++i) {
        const auto range = PhysRange::make(from.align_up(alignment), pages.bytes());
        if (!range || !zone.span().contains(*range)) {
          return std::nullopt;
        }
        Frame resume{};
        const Frame begin = zone.frame_of(range->begin());
        const Frame end = zone.frame_of(range->end());
        if (!zone.all_free(begin, end, resume)) {
          from = zone.address_of(resume);
          continue;
        }
        const auto& table = acceptor_.table();
        if (const auto missing = table.next_run(table.guarded(*range));
            options.no_wait && missing) {
          error = {.kind = AllocErrorKind::kWouldAccept};
          // Whatever begins before the end of what is missing contains some of it.
          from = missing->end();
          continue;
        }
        zone.take_range(begin, end);
        return range;
      }
    }
  }

  /// Accepts what is unaccepted in a run that was taken; the run is then allocated. On a failure
  /// all of it is given back.
  [[nodiscard, gnu::cold]] std::expected<void, AcceptError> accept_run(Zone& zone,
                                                                       PhysRange range) {
    if constexpr (Policy::kKnowsUnaccepted) {
      const auto accepted = acceptor_.accept(range);
      const Held held{hooks_, zone.lock()};
      if (!accepted) {
        for_blocks(zone, range, [&](Block block, PageState state) {
          if (state == PageState::kAccepting) {
            zone.not_accepted(block, policy_.end());
          } else {
            zone.info(block.frame).set_head({});
            zone.put(block);
          }
        });
        return std::unexpected{accepted.error()};
      }
      settle_run(zone, range, PageState::kAllocated);
    }
    return {};
  }

  static void settle_run(Zone& zone, PhysRange range, PageState state) {
    for_blocks(zone, range, [&](Block block, PageState seen) {
      if (seen == PageState::kAccepting) {
        zone.settle(block, state);
      }
    });
  }

  /// Calls `act` with every block that begins in `range` and its state; `act` may free the block.
  template <class AnyZone, class Act>
  static void for_blocks(AnyZone& zone, PhysRange range, Act act) {
    const Frame end = zone.frame_of(range.end());
    for (Frame at = zone.frame_of(range.begin()); at < end;) {
      const BlockHead head = zone.info(at).head();
      const Block block{.frame = at,
                        .order = head.state == PageState::kNone ? Order{} : head.order};
      at = at + block.order.pages();
      act(block, head.state);
    }
  }

  Acceptor& acceptor_;
  std::span<Zone> zones_;
  std::span<CpuCache> caches_;
  Hooks& hooks_;
  Policy policy_;
  Order unit_order_;
  Bytes metadata_bytes_;
  bool acceptor_ok_ = true;
  std::atomic<std::uint64_t> accept_waits_ = 0;
};

}  // namespace accede::guest
