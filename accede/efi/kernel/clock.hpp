// Time since the machine became the kernel's, from the time stamp counter.
#pragma once

#include "accede/base/assert.hpp"

#include <cstdint>

namespace accede::efi::kernel {

/// Converts counter ticks to nanoseconds and back; rounds down, exact at any length (the seconds
/// and the rest are converted apart, so nothing needs more than 64 bits). A value type.
class Clock {
 public:
  /// Below this a remainder times 10^9 fits 64 bits.
  static constexpr std::uint64_t kMaxHz = 18'000'000'000;

  [[nodiscard]] static constexpr bool is_possible(std::uint64_t tsc_hz) {
    return tsc_hz != 0 && tsc_hz <= kMaxHz;
  }

  /// `tsc_entry`: the counter at time 0. Precondition: is_possible(tsc_hz).
  constexpr Clock(std::uint64_t tsc_hz, std::uint64_t tsc_entry) : hz_{tsc_hz}, entry_{tsc_entry} {
    ACCEDE_ASSERT(is_possible(tsc_hz));
  }

  /// The counter now. Not ordered against loads and stores around it.
  [[nodiscard]] static std::uint64_t ticks();
  /// Nanoseconds since tsc_entry; 0 while the counter is below it.
  [[nodiscard]] std::uint64_t now_ns() const;

  /// A duration of `ticks` in nanoseconds. Precondition: below 584 years.
  [[nodiscard]] constexpr std::uint64_t ns_of(std::uint64_t ticks) const {
    return ticks / hz_ * kNsPerSecond + ticks % hz_ * kNsPerSecond / hz_;
  }
  /// A duration of `ns` nanoseconds in ticks. Precondition: the result fits 64 bits.
  [[nodiscard]] constexpr std::uint64_t ticks_of(std::uint64_t ns) const {
    return ns / kNsPerSecond * hz_ + ns % kNsPerSecond * hz_ / kNsPerSecond;
  }

  /// Waits at least `ns` nanoseconds without giving up the CPU.
  void spin(std::uint64_t ns) const;

 private:
  static constexpr std::uint64_t kNsPerSecond = 1'000'000'000;

  std::uint64_t hz_;
  std::uint64_t entry_;
};

}  // namespace accede::efi::kernel
