// Clocks and statistics of the benchmarks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <span>
#include <vector>

namespace accede::bench {

[[nodiscard]] inline std::uint64_t read_clock(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(time.tv_nsec);
}
/// Monotonic nanoseconds.
[[nodiscard]] inline std::uint64_t now_ns() {
  return read_clock(CLOCK_MONOTONIC);
}
/// CPU time of the calling thread in nanoseconds.
[[nodiscard]] inline std::uint64_t thread_cpu_ns() {
  return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

struct Percentiles {
  std::uint64_t p50 = 0;
  std::uint64_t p99 = 0;
  std::uint64_t p9995 = 0;
  std::uint64_t p9999 = 0;
  std::uint64_t max = 0;
};

/// Of latencies in nanoseconds, which are reordered. Precondition: not empty.
[[nodiscard]] inline Percentiles percentiles(std::span<std::uint32_t> samples) {
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double share) {
    const auto index = static_cast<std::size_t>(share * static_cast<double>(samples.size()));
    return std::uint64_t{samples[std::min(index, samples.size() - 1)]};
  };
  return {.p50 = at(0.5),
          .p99 = at(0.99),
          .p9995 = at(0.9995),
          .p9999 = at(0.9999),
          .max = samples.back()};
}

/// Precondition: not empty.
[[nodiscard]] inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace accede::bench
