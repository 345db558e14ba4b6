// Figures and words that the steps of a boot are made of; used by steps_text.cpp alone.
#pragma once

#include "accede/base/units.hpp"
#include "accede/cli/report_area.hpp"
#include "accede/cli/run_result.hpp"
#include "accede/cli/size_text.hpp"
#include "accede/emulator/report_layout.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace accede::cli {

[[nodiscard]] inline const emulator::ReportHeader* header_of(
    const std::optional<Measurement>& measurement) {
  return measurement && measurement->report ? &measurement->report->header : nullptr;
}

/// `later` less `earlier`. Counters only grow; a report that says otherwise gives 0.
[[nodiscard]] inline std::uint64_t growth(std::uint64_t earlier, std::uint64_t later) {
  return later - std::min(earlier, later);
}

/// What was accepted between two looks at the report area, and the time that accepting took.
struct Accepted {
  Bytes bytes;
  Bytes to_private;  ///< of `bytes`: memory that had been shared
  double seconds = 0;
};

[[nodiscard]] inline std::optional<Accepted> accepted_between(const emulator::ReportHeader* earlier,
                                                              const emulator::ReportHeader* later) {
  if (earlier == nullptr || later == nullptr) {
    return std::nullopt;
  }
  const emulator::Counters& from = earlier->counters;
  const emulator::Counters& to = later->counters;
  const std::uint64_t bytes = growth(total_accepted(from), total_accepted(to));
  const std::uint64_t converted = growth(from.to_private_bytes, to.to_private_bytes);
  return Accepted{
      .bytes = Bytes{bytes},
      .to_private = Bytes{std::min(bytes, converted)},
      .seconds = seconds_of(growth(total_accept_ticks(from), total_accept_ticks(to)), *later)};
}

/// ` (accepting: 0.50 s)`, when there was any.
[[nodiscard]] inline std::string accepting(double seconds) {
  return seconds > 0 ? " (accepting: " + format_seconds(seconds) + ")" : "";
}

[[nodiscard]] inline std::optional<double> between(std::optional<double> begin,
                                                   std::optional<double> end) {
  return begin && end && *begin <= *end ? std::optional{*end - *begin} : std::nullopt;
}

/// When `phase` began according to the guest's event log, in seconds since the take-over.
[[nodiscard]] inline std::optional<double> phase_begin(const ReportSnapshot& report,
                                                       emulator::Phase phase) {
  const auto found = std::ranges::find_if(report.events, [phase](const emulator::Event& event) {
    return event.kind == emulator::EventKind::kPhase &&
           event.detail == static_cast<std::uint8_t>(phase);
  });
  if (found == report.events.end() || report.header.tsc_hz == 0) {
    return std::nullopt;
  }
  return seconds_of(growth(report.header.tsc_takeover, found->tsc), report.header);
}

/// Seconds that `phase` lasted when it began first; nothing when the log does not tell.
[[nodiscard]] inline std::optional<double> first_stay(const ReportSnapshot& report,
                                                      emulator::Phase phase) {
  const auto is_phase = [](const emulator::Event& event) {
    return event.kind == emulator::EventKind::kPhase;
  };
  const auto begin = std::ranges::find_if(report.events, [&](const emulator::Event& event) {
    return is_phase(event) && event.detail == static_cast<std::uint8_t>(phase);
  });
  if (begin == report.events.end() || report.header.tsc_hz == 0) {
    return std::nullopt;
  }
  const auto end = std::find_if(begin + 1, report.events.end(), is_phase);
  return end == report.events.end()
             ? std::nullopt
             : std::optional{seconds_of(growth(begin->tsc, end->tsc), report.header)};
}

/// What a platform calls private memory that is not accepted.
[[nodiscard]] inline std::string not_accepted(Platform platform) {
  return platform == Platform::kSnp ? "not validated" : "pending";
}

/// How a run ended that did not come to its end.
[[nodiscard]] inline std::string_view ended_how(Outcome outcome) {
  switch (outcome) {
    case Outcome::kUserspace:
    case Outcome::kReady:
      return "the end of the run";
    case Outcome::kPanic:
      return "it gave up";
    case Outcome::kGuestFault:
      return "it broke a rule and was stopped";
    case Outcome::kTimeout:
      return "the time was over";
    case Outcome::kReset:
      return "the VM reset or went off";
  }
  return "the end of the run";
}

}  // namespace accede::cli
