// Accepting ahead of need: the work of an acceptor thread.
#pragma once

#include "accede/guest/page_allocator.hpp"
#include "accede/guest/reserve.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <expected>
#include <limits>
#include <optional>
#include <utility>

namespace accede::guest {

/// What one step did, and how long the thread shall sleep before the next.
struct BackgroundStep {
  static constexpr std::uint64_t kUntilWoken = std::numeric_limits<std::uint64_t>::max();
  Bytes accepted;
  std::uint64_t sleep_ns = 0;  ///< 0: go on; kUntilWoken: until the hook wake_acceptor() is called
};

/// Keeps a reserve of accepted free memory in every zone of an allocator whose policy is
/// Background. The embedder runs step() in a loop on one thread and sleeps as told; a wake-up that
/// comes while a step runs must not be lost (the sleep then ends at once).
///
/// A step accepts at most one unit, so the thread can always be stopped or moved soon. It rests so
/// that it uses no more than its share of a CPU, and steps back while its CPU has other work: then
/// whoever needs memory accepts it for itself.
///
/// Thread-compatible: one thread steps. Takes no lock beyond those of the allocator.
template <class Allocator>
class BackgroundAcceptor {
 public:
  using Result = std::expected<BackgroundStep, AcceptError>;

  /// Outlived by the allocator. Precondition: 1 <= cpu_percent <= 100.
  explicit BackgroundAcceptor(Allocator& allocator, const ReserveConfig& config = {})
      : allocator_{allocator}, config_{config} {
    ACCEDE_ASSERT(config.cpu_percent >= 1 && config.cpu_percent <= 100);
    reserves_.fill(Reserve{config});
  }

  /// An error of the platform ends the step; the memory stays unaccepted and free, and a further
  /// step tries elsewhere first.
  [[nodiscard]] Result step() {
    auto& hooks = allocator_.hooks();
    const std::uint64_t begin = hooks.now();
    const auto zone = neediest(begin);
    if (!zone) {
      return BackgroundStep{.accepted = Bytes{0}, .sleep_ns = fall_asleep()};
    }
    if (hooks.other_work()) {
      return BackgroundStep{.accepted = Bytes{0}, .sleep_ns = kStepBack};
    }
    const auto accepted = allocator_.accept_ahead(*zone, allocator_.unit_order(), ZoneEnd::kBottom);
    if (!accepted) {
      return std::unexpected{accepted.error()};
    }
    return BackgroundStep{.accepted = *accepted, .sleep_ns = rest_after(hooks.now() - begin)};
  }

  /// The reserve of a zone, for reports.
  [[nodiscard]] const Reserve& reserve(unsigned zone) const { return reserves_[zone]; }

 private:
  static constexpr std::uint64_t kStepBack = 1'000'000;
  /// Shorter sleeps cost more than they save.
  static constexpr std::uint64_t kShortestRest = 500'000;

  /// The zone that lacks most of its reserve.
  [[nodiscard]] std::optional<unsigned> neediest(std::uint64_t now) {
    std::optional<unsigned> found;
    Bytes most;
    for (unsigned i = 0; i < allocator_.zone_count(); ++i) {
      const Zone& zone = allocator_.zone(i);
      Reserve& reserve = reserves_[i];
      reserve.observe(now, PageCount{allocator_.policy().taken_pages(i)});
      const Bytes free = zone.counters().free.bytes();
      const Bytes missing = reserve.target() > free ? reserve.target() - free : Bytes{0};
      if (missing > most && zone.has_unaccepted()) {
        most = missing;
        found = i;
      }
    }
    return found;
  }

  [[nodiscard]] std::uint64_t fall_asleep() {
    auto& policy = allocator_.policy();
    for (unsigned i = 0; i < allocator_.zone_count(); ++i) {
      policy.set_low(i, PageCount{reserves_[i].low() / Bytes{4096}});
    }
    policy.set_asleep(true);
    // Somebody may have taken pages before the policy knew that we sleep. Under the zone's lock:
    // whoever takes pages later has taken the lock after us and sees that we sleep.
    for (unsigned i = 0; i < allocator_.zone_count(); ++i) {
      const ZoneCounters zone = allocator_.exact_counters(i);
      if (zone.free.bytes() < reserves_[i].low() && zone.unaccepted != PageCount{0}) {
        policy.set_asleep(false);
        return 0;
      }
    }
    return BackgroundStep::kUntilWoken;
  }

  [[nodiscard]] std::uint64_t rest_after(std::uint64_t worked_ns) {
    owed_ns_ += worked_ns * (100 - config_.cpu_percent) / config_.cpu_percent;
    return owed_ns_ >= kShortestRest ? std::exchange(owed_ns_, 0) : 0;
  }

  Allocator& allocator_;
  ReserveConfig config_;
  std::array<Reserve, Background::kMaxZones> reserves_{};
  std::uint64_t owed_ns_ = 0;
};

}  // namespace accede::guest
