// When the page allocator accepts memory: small parts that compose with it at compile time.
#pragma once

#include "accede/guest/page_info.hpp"
#include "accede/guest/zone.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <concepts>
#include <cstdint>

namespace accede::guest {

/// What the page allocator asks of a policy.
///   kKnowsUnaccepted     false: there is no unaccepted memory, and no code for it
///   kAcceptsWhenAdded    memory is accepted when it enters the allocator
///   kChecksEveryRequest  wants(zone, done) is asked at every request, and a block accepted while
///   it
///                        says yes; `done`: blocks accepted for this request (no policy of ours
///                        does; a baseline may)
///   step(wanted, unit)   order of the block to accept when a request of order `wanted` finds no
///                        accepted memory; `unit`: order of the table's unit, at most kMaxOrder
///   end()                from where in the zone
///   taken(zone, index, pages, wake)   pages left the zone's lists; `wake` wakes the acceptor
template <class P>
concept AcceptancePolicy = requires(P& policy, const Zone& zone, Order order, void (*wake)()) {
  { P::kKnowsUnaccepted } -> std::convertible_to<bool>;
  { P::kAcceptsWhenAdded } -> std::convertible_to<bool>;
  { P::kChecksEveryRequest } -> std::convertible_to<bool>;
  { policy.step(order, order) } -> std::same_as<Order>;
  { policy.end() } -> std::same_as<ZoneEnd>;
  { policy.wants(zone, 0U) } -> std::same_as<bool>;
  { policy.taken(zone, 0U, PageCount{}, wake) };
};

/// All memory is accepted: the allocator of an ordinary machine.
struct NoAcceptance {
  static constexpr bool kKnowsUnaccepted = false;
  static constexpr bool kAcceptsWhenAdded = false;
  static constexpr bool kChecksEveryRequest = false;
  [[nodiscard]] Order step(Order wanted, Order) const { return wanted; }
  [[nodiscard]] ZoneEnd end() const { return ZoneEnd::kTop; }
  [[nodiscard]] bool wants(const Zone&, unsigned) const { return false; }
  template <class Wake>
  void taken(const Zone&, unsigned, PageCount, Wake) {}
};

/// Accept one unit when a request finds no accepted memory: the least that can be accepted, and the
/// shortest wait that on-demand acceptance can have.
struct Lazy {
  static constexpr bool kKnowsUnaccepted = true;
  static constexpr bool kAcceptsWhenAdded = false;
  static constexpr bool kChecksEveryRequest = false;
  [[nodiscard]] Order step(Order wanted, Order unit) const { return std::max(wanted, unit); }
  [[nodiscard]] ZoneEnd end() const { return ZoneEnd::kTop; }
  [[nodiscard]] bool wants(const Zone&, unsigned) const { return false; }
  template <class Wake>
  void taken(const Zone&, unsigned, PageCount, Wake) {}
};

/// Accept everything while memory enters the allocator, on every CPU that takes part in that. No
/// request ever waits. Memory that is added later is accepted then.
struct Eager : Lazy {
  static constexpr bool kAcceptsWhenAdded = true;
};

/// Lazy, and an acceptor thread (BackgroundAcceptor) that keeps a reserve so that a request almost
/// never has to: this part counts what leaves the zones and wakes the thread when a reserve gets
/// low.
class Background : public Lazy {
 public:
  static constexpr unsigned kMaxZones = 64;

  template <class Wake>
  void taken(const Zone& zone, unsigned index, PageCount pages, Wake wake) {
    ZoneState& state = zones_[index];
    constexpr auto kRelaxed = std::memory_order_relaxed;
    // Every caller holds or held the zone's lock a moment ago: a lost update would only make the
    // rate a little too low, but TSan and readers deserve an exact sum.
    state.taken.fetch_add(pages.value(), kRelaxed);
    if (zone.counters().free < PageCount{state.low.load(kRelaxed)} && zone.has_unaccepted() &&
        asleep_.load(kRelaxed) && asleep_.exchange(false, std::memory_order_acq_rel)) {
      wake();
    }
  }

  /// Pages that left the zone's lists since the start. Pages that come back count again.
  [[nodiscard]] std::uint64_t taken_pages(unsigned zone) const {
    return zones_[zone].taken.load(std::memory_order_relaxed);
  }
  /// Below this many free pages the acceptor is woken.
  void set_low(unsigned zone, PageCount pages) {
    zones_[zone].low.store(pages.value(), std::memory_order_relaxed);
  }
  /// The acceptor is about to sleep (true) or runs (false).
  void set_asleep(bool asleep) { asleep_.store(asleep, std::memory_order_release); }

 private:
  struct alignas(64) ZoneState {
    std::atomic<std::uint64_t> taken = 0;
    std::atomic<std::uint64_t> low = 0;
  };
  std::array<ZoneState, kMaxZones> zones_{};
  std::atomic<bool> asleep_ = false;
};

}  // namespace accede::guest
