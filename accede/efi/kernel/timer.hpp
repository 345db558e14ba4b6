// A periodic interrupt from the local APIC.
#pragma once

#include "accede/efi/kernel/clock.hpp"
#include "accede/efi/kernel/local_apic.hpp"
#include "accede/efi/kernel/port_io.hpp"
#include "accede/efi/kernel/traps.hpp"

#include <cstdint>
#include <expected>
#include <optional>
#include <string_view>

namespace accede::efi::kernel {

enum class TimerError : std::uint8_t {
  kNoApic,       ///< off, or the host does not say where it is
  kRefused,      ///< the host refuses an access
  kNotCounting,  ///< the counter does not move at a usable speed
};
[[nodiscard]] std::string_view to_string(TimerError error);

/// Wakes the CPU every period. start() and stop() with interrupts off. Must stay where it is while
/// it runs.
class Timer {
 public:
  static constexpr std::uint64_t kPeriodNs = 1'000'000;
  static constexpr std::uint8_t kVector = 0x40;
  static constexpr std::uint8_t kSpuriousVector = 0xFF;

  constexpr Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  /// Masks the 8259s and everything that the firmware left in the local vector table, finds out how
  /// fast the APIC counts (10 ms, more when the host takes the CPU away) and starts counting.
  /// Interrupts stay off: the caller enables them.
  [[nodiscard]] std::expected<void, TimerError> start(Traps& traps, const Clock& clock,
                                                      HostLink host);
  /// Stops counting. An interrupt that is pending already still comes once interrupts are enabled.
  /// Before a kexec.
  void stop();

 private:
  static void acknowledge(void* self);
  /// The timer's counter, read at some moment between two of the time stamp counter.
  struct Reading {
    std::uint32_t value;
    std::uint64_t before;
    std::uint64_t after;
  };
  [[nodiscard]] std::optional<Reading> read_counter() const;
  [[nodiscard]] std::expected<std::uint32_t, TimerError> ticks_a_period(const Clock& clock) const;

  std::optional<LocalApic> apic_;
};

}  // namespace accede::efi::kernel
