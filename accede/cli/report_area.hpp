// The emulator's report area, read out of a VM.
#pragma once

#include "accede/cli/failure.hpp"
#include "accede/emulator/report_layout.hpp"

#include <cstddef>
#include <expected>
#include <span>
#include <string_view>
#include <vector>

namespace accede::cli {

/// A copy of the area as it was at one moment, checked: `violation_slots` and `event_count` are
/// within what is there.
struct ReportSnapshot {
  emulator::ReportHeader header{};
  std::vector<emulator::Event> events;
};

/// Most of a report area that is ever read.
inline constexpr std::size_t kMaxReportBytes = 256U << 20;

/// Checks and copies. The error says what is wrong with the area: the guest cannot reach it, so a
/// bad area is a bug of the emulator or a version that does not fit.
[[nodiscard]] std::expected<ReportSnapshot, std::string_view> parse_report_area(
    std::span<const std::byte> area);

/// `accepted_bytes` of all phases.
[[nodiscard]] std::uint64_t total_accepted(const emulator::Counters& counters);

/// TSC ticks that all of them spent accepting.
[[nodiscard]] std::uint64_t total_accept_ticks(const emulator::Counters& counters);

/// TSC ticks of this machine in seconds; 0 when the frequency is not known.
[[nodiscard]] double seconds_of(std::uint64_t ticks, const emulator::ReportHeader& header);

/// The name that the JSON uses, e.g. `unaccepted-access`.
[[nodiscard]] std::string_view kind_name(emulator::EventKind kind);

/// What a violation means, for a person who did not write the emulator.
[[nodiscard]] std::string_view kind_meaning(emulator::EventKind kind);

/// The JSON's names of VmcallSlot and GhcbSlot; `other` for a slot that there is not.
[[nodiscard]] std::string_view vmcall_name(std::size_t slot);
[[nodiscard]] std::string_view ghcb_name(std::size_t slot);

}  // namespace accede::cli
