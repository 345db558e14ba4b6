// How much accepted free memory to keep: arithmetic only.
#pragma once

#include "accede/base/units.hpp"

#include <algorithm>
#include <cstdint>

namespace accede::guest {

/// Settings of a background acceptor. The defaults are for a platform that accepts at 1 to 2 GB/s.
struct ReserveConfig {
  Bytes floor = 8_MiB;                    ///< reserve of a zone from which nothing is taken
  Bytes ceiling = 192_MiB;                ///< reserve of a zone at most
  std::uint64_t horizon_ns = 20'000'000;  ///< the reserve lasts so long at the recent rate
  std::uint64_t window_ns = 10'000'000;   ///< the rate is measured over at least so long
  std::uint64_t memory_ns = 100'000'000;  ///< a rate that fell is forgotten in about this time
  unsigned cpu_percent = 90;              ///< of one CPU, at most: 1 to 100
};

/// The reserve of one zone: follows the rate at which pages are taken, at once when it rises,
/// slowly when it falls. Thread-compatible.
class Reserve {
 public:
  explicit Reserve(const ReserveConfig& config) : config_{config} {}
  Reserve() = default;

  /// Tells how many pages were taken since the start, as of `now` (nanoseconds, not falling).
  void observe(std::uint64_t now_ns, PageCount taken) {
    if (!started_) {
      started_ = true;
      since_ns_ = now_ns;
      before_ = taken;
      return;
    }
    const std::uint64_t elapsed = now_ns - since_ns_;
    if (elapsed < config_.window_ns) {
      return;
    }
    const std::uint64_t bytes = (taken.value() - before_.value()) * 4096;
    // In bytes per millisecond: no product below comes near 2^64 for any real memory.
    const std::uint64_t seen = bytes * 1000 / std::max<std::uint64_t>(elapsed / 1000, 1);
    if (seen >= rate_) {
      rate_ = seen;
    } else {
      const std::uint64_t share = std::min(elapsed, config_.memory_ns);
      rate_ -=
          (rate_ - seen) * (share / 1000) / std::max<std::uint64_t>(config_.memory_ns / 1000, 1);
    }
    since_ns_ = now_ns;
    before_ = taken;
  }

  /// Bytes that are taken in a millisecond, by recent experience.
  [[nodiscard]] Bytes per_millisecond() const { return Bytes{rate_}; }

  /// Accepted free memory to aim for.
  [[nodiscard]] Bytes target() const {
    const Bytes wanted = Bytes{rate_} * (config_.horizon_ns / 1'000'000);
    return std::clamp(wanted, config_.floor, std::max(config_.floor, config_.ceiling));
  }
  /// Below this the acceptor shall wake: seven eighths of the target.
  [[nodiscard]] Bytes low() const { return Bytes{target().value() / 8 * 7}; }

 private:
  ReserveConfig config_;
  bool started_ = false;
  std::uint64_t since_ns_ = 0;
  PageCount before_;
  std::uint64_t rate_ = 0;
};

}  // namespace accede::guest
