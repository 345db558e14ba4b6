// A histogram of durations with bounded error and no allocation.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace accede {

/// Counts durations in ticks. Buckets are logarithmic with 16 steps an octave, so a quantile is
/// exact below 32 ticks and at most 1/16 too high above. Not thread-safe.
class LatencyHistogram {
 public:
  static constexpr unsigned kStepBits = 4;
  static constexpr std::size_t kSteps = 1U << kStepBits;
  static constexpr std::size_t kBuckets = (64 - kStepBits + 1) * kSteps;

  void add(std::uint64_t ticks) {
    ++counts_[bucket_of(ticks)];
    ++count_;
    max_ = std::max(max_, ticks);
  }

  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::uint64_t max() const { return max_; }
  [[nodiscard]] std::uint64_t count_in(std::size_t bucket) const { return counts_[bucket]; }

  /// The upper bound of the smallest bucket that has at least `per_10000` / 10000 of all durations
  /// at or below it; 0 when nothing was counted.
  [[nodiscard]] std::uint64_t quantile(std::uint64_t per_10000) const {
    // Divided first: counts times 10000 could overflow.
    const std::uint64_t rank =
        count_ / 10'000 * per_10000 + (count_ % 10'000 * per_10000 + 9'999) / 10'000;
    std::uint64_t seen = 0;
    for (std::size_t bucket = 0; bucket < kBuckets; ++bucket) {
      seen += counts_[bucket];
      if (seen >= rank && seen != 0) {
        return std::min(upper_bound(bucket), max_);
      }
    }
    return max_;
  }

  [[nodiscard]] static constexpr std::size_t bucket_of(std::uint64_t ticks) {
    if (ticks < 2 * kSteps) {
      return ticks;
    }
    const auto shift = static_cast<unsigned>(std::bit_width(ticks)) - kStepBits - 1;
    return shift * kSteps + (ticks >> shift);
  }
  /// The largest duration that falls into `bucket`.
  [[nodiscard]] static constexpr std::uint64_t upper_bound(std::size_t bucket) {
    if (bucket < 2 * kSteps) {
      return bucket;
    }
    const auto shift = static_cast<unsigned>(bucket / kSteps) - 1;
    const std::uint64_t step = bucket % kSteps + kSteps;
    return (step << shift) + ((1ULL << shift) - 1);
  }

 private:
  std::array<std::uint64_t, kBuckets> counts_{};
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
};

static_assert(LatencyHistogram::bucket_of(~0ULL) == LatencyHistogram::kBuckets - 1);
static_assert(LatencyHistogram::upper_bound(LatencyHistogram::kBuckets - 1) == ~0ULL);
static_assert(LatencyHistogram::bucket_of(32) == 32 && LatencyHistogram::bucket_of(33) == 32);

}  // namespace accede
