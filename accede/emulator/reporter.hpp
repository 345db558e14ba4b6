// Counting, logging and telling: everything the emulator says to the outside.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/spin_lock.hpp"
#include "accede/emulator/report_layout.hpp"

#include <atomic>
#include <span>
#include <string_view>

namespace accede::emulator {

/// Name of a violation in reports (the `kind` of the command's `fault` object), or of an event.
[[nodiscard]] std::string_view name(EventKind kind);

/// Builds one line of JSON in a fixed buffer. What does not fit is cut inside a string, so that
/// the line stays valid JSON. Thread-compatible.
class JsonLine {
 public:
  /// Begins `{"event":"<event>"`.
  explicit JsonLine(std::string_view event);

  JsonLine& text(std::string_view key, std::string_view value);
  JsonLine& number(std::string_view key, std::uint64_t value);
  JsonLine& hex(std::string_view key, std::uint64_t value);

  /// The finished line with its newline.
  [[nodiscard]] std::string_view finish();

 private:
  static constexpr std::size_t kReserve = 8;  ///< for the closing `"}\n`

  void put(char c);
  void key(std::string_view key);
  void quoted(std::string_view value);

  std::array<char, 1024> buffer_;
  std::size_t used_ = 0;
};

/// Writes to the report area (report_layout.hpp). All vCPUs share one; counters are plain
/// additions through atomic_ref, the log and the violations are under a short lock. The host reads
/// the area without asking.
class Reporter {
 public:
  /// `area` is 8-byte aligned and outlives the reporter; its contents are overwritten. Without
  /// `log_events` the event log stays empty. Precondition: the header fits.
  Reporter(std::span<std::byte> area, bool log_events);

  /// Bytes of a report area that holds `events` events.
  [[nodiscard]] static constexpr std::size_t area_bytes(std::size_t events) {
    return sizeof(ReportHeader) + events * sizeof(Event);
  }

  [[nodiscard]] ReportHeader& header() { return *header_; }
  [[nodiscard]] Counters& counters() { return header_->counters; }

  static void add(std::uint64_t& counter, std::uint64_t amount = 1) {
    std::atomic_ref{counter}.fetch_add(amount, std::memory_order_relaxed);
  }
  static void raise(std::uint64_t& maximum, std::uint64_t value);

  /// Appends to the log, or lengthens the last event when this one continues it.
  void event(EventKind kind, std::uint8_t detail, PhysRange range, std::uint64_t tsc,
             std::uint16_t vcpu);

  /// Counts a broken rule under its kind and place.
  void violation(const Violation& violation);

 private:
  ReportHeader* header_;
  std::span<Event> log_;
  SpinLock lock_;
};

}  // namespace accede::emulator
