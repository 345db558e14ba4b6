// What the testbed counts.
#pragma once

#include <atomic>
#include <cstdint>

namespace accede::testbed {

/// Machine-independent figures of a run, as they stood at one time.
struct Counters {
  std::uint64_t instructions = 0;  ///< TDCALL or PVALIDATE, executed to their end
  std::uint64_t accepts_4k = 0;    ///< pages that became the guest's
  std::uint64_t accepts_2m = 0;
  std::uint64_t accepted_bytes = 0;
  std::uint64_t refused = 0;  ///< accepts with any other answer
  std::uint64_t released_bytes = 0;
  std::uint64_t conversions = 0;  ///< MapGPA calls or page-state change requests
  std::uint64_t to_shared_bytes = 0;
  std::uint64_t to_private_bytes = 0;
  std::uint64_t host_added_bytes = 0;  ///< pages that the host gave, not accepted yet
  std::uint64_t accepts_at_once = 0;   ///< most accepts that were under way at one time
};

/// The same while they change. Thread-safe and lock-free.
struct LiveCounters {
  using Count = std::atomic<std::uint64_t>;
  Count instructions, accepts_4k, accepts_2m, accepted_bytes, refused, released_bytes, conversions,
      to_shared_bytes, to_private_bytes, host_added_bytes, accepts_at_once, accepts_now;

  static void add(Count& count, std::uint64_t value = 1) {
    count.fetch_add(value, std::memory_order_relaxed);
  }
  [[nodiscard]] Counters read() const {
    return {.instructions = instructions,
            .accepts_4k = accepts_4k,
            .accepts_2m = accepts_2m,
            .accepted_bytes = accepted_bytes,
            .refused = refused,
            .released_bytes = released_bytes,
            .conversions = conversions,
            .to_shared_bytes = to_shared_bytes,
            .to_private_bytes = to_private_bytes,
            .host_added_bytes = host_added_bytes,
            .accepts_at_once = accepts_at_once};
  }
};

/// An accept that is under way, for `accepts_at_once`.
class AcceptUnderWay {
 public:
  explicit AcceptUnderWay(LiveCounters& counters) : counters_{counters} {
    const std::uint64_t now = counters_.accepts_now.fetch_add(1, std::memory_order_relaxed) + 1;
    std::uint64_t most = counters_.accepts_at_once.load(std::memory_order_relaxed);
    while (now > most &&
           !counters_.accepts_at_once.compare_exchange_weak(most, now, std::memory_order_relaxed)) {
    }
  }
  ~AcceptUnderWay() { counters_.accepts_now.fetch_sub(1, std::memory_order_relaxed); }
  AcceptUnderWay(const AcceptUnderWay&) = delete;
  AcceptUnderWay& operator=(const AcceptUnderWay&) = delete;

 private:
  LiveCounters& counters_;
};

}  // namespace accede::testbed
