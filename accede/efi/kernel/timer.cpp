#include "accede/efi/kernel/timer.hpp"

#include <algorithm>

namespace accede::efi::kernel {

using namespace std::string_view_literals;
namespace {

constexpr std::uint16_t kFirstPicMask = 0x21;
constexpr std::uint16_t kSecondPicMask = 0xA1;

constexpr std::uint32_t kSoftwareEnable = 1U << 8;  // spurious interrupt vector register
constexpr std::uint32_t kMasked = 1U << 16;         // local vector table
constexpr std::uint32_t kPeriodic = 1U << 17;       // LVT timer
constexpr std::uint32_t kDivideBy16 = 0b0011;

}  // namespace

std::string_view to_string(TimerError error) {
  switch (error) {
    case TimerError::kNoApic:
      return "there is no local APIC"sv;
    case TimerError::kRefused:
      return "the host refuses an access to the local APIC"sv;
    case TimerError::kNotCounting:
      return "the local APIC's timer does not count"sv;
  }
  return "unknown"sv;
}

std::optional<Timer::Reading> Timer::read_counter() const {
  const std::uint64_t before = Clock::ticks();
  const std::optional<std::uint32_t> value = apic_->read(ApicRegister::kTimerCurrent);
  const std::uint64_t after = Clock::ticks();
  if (!value) {
    return std::nullopt;
  }
  return Reading{.value = *value, .before = before, .after = after};
}

std::expected<std::uint32_t, TimerError> Timer::ticks_a_period(const Clock& clock) const {
  constexpr std::uint64_t kMeasureNs = 10'000'000;
  constexpr std::uint32_t kFrom = ~0U;
  // A host that takes the CPU away in the middle of a reading spoils it: then once more. When none
  // is good, the longest counts: interrupts that come faster than they are handled would leave no
  // time for anything else.
  constexpr unsigned kTries = 8;
  std::uint64_t period = 0;
  for (unsigned tries = 0; tries < kTries; ++tries) {
    if (!apic_->write(ApicRegister::kTimerInitial, kFrom)) {
      return std::unexpected{TimerError::kRefused};
    }
    const std::optional<Reading> first = read_counter();
    clock.spin(kMeasureNs);
    const std::optional<Reading> last = read_counter();
    if (!first || !last) {
      return std::unexpected{TimerError::kRefused};
    }
    const std::uint64_t least = last->before - first->after;
    const std::uint64_t most = last->after - first->before;
    const std::uint64_t counted = first->value - std::min(last->value, first->value);
    const std::uint64_t measured = counted * kPeriodNs / clock.ns_of(least);
    if (most - least <= least / 16) {
      period = measured;
      break;
    }
    period = std::max(period, measured);
  }
  // Slower than 1 MHz or faster than a bus: a counter that stood still or ran out.
  constexpr std::uint64_t kLeast = 1'000'000 / (1'000'000'000 / kPeriodNs);
  constexpr std::uint64_t kMost = 10'000'000'000 / (1'000'000'000 / kPeriodNs);
  if (period < kLeast || period > kMost) {
    return std::unexpected{TimerError::kNotCounting};
  }
  return static_cast<std::uint32_t>(period);
}

std::expected<void, TimerError> Timer::start(Traps& traps, const Clock& clock, HostLink host) {
  const PortIo ports{host};
  ports.out8(kFirstPicMask, 0xFF);
  ports.out8(kSecondPicMask, 0xFF);
  apic_ = LocalApic::find(host);
  if (!apic_) {
    return std::unexpected{TimerError::kNoApic};
  }
  traps.set_handler(kVector, &Timer::acknowledge, this);
  traps.set_stray_handler(&Timer::acknowledge, this);
  traps.set_handler(kSpuriousVector, [](void*) {}, nullptr);  // is not acknowledged
  for (const ApicRegister entry : {ApicRegister::kLvtThermal, ApicRegister::kLvtPerformance,
                                   ApicRegister::kLvtLint1, ApicRegister::kLvtError}) {
    apic_->write(entry, kMasked);  // not every APIC has all of them
  }
  // LINT0 is where the 8259s come in.
  if (!apic_->write(ApicRegister::kSpurious, kSoftwareEnable | kSpuriousVector) ||
      !apic_->write(ApicRegister::kLvtLint0, kMasked) ||
      !apic_->write(ApicRegister::kLvtTimer, kMasked | kVector) ||
      !apic_->write(ApicRegister::kTimerDivide, kDivideBy16)) {
    return std::unexpected{TimerError::kRefused};
  }
  const auto period = ticks_a_period(clock);
  if (!period) {
    return std::unexpected{period.error()};
  }
  if (!apic_->write(ApicRegister::kLvtTimer, kPeriodic | kVector) ||
      !apic_->write(ApicRegister::kTimerInitial, *period)) {
    return std::unexpected{TimerError::kRefused};
  }
  return {};
}

void Timer::stop() {
  if (apic_) {
    apic_->write(ApicRegister::kLvtTimer, kMasked | kVector);
    apic_->write(ApicRegister::kTimerInitial, 0);
  }
}

/// A tick has done its work by waking the CPU; what the firmware left behind must not block what
/// has a lower priority.
void Timer::acknowledge(void* self) {
  static_cast<Timer*>(self)->apic_->end_of_interrupt();
}

}  // namespace accede::efi::kernel
