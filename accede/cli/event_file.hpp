// The file that `accede boot --events FILE` writes.
//
// One section a run, appended to each other. All numbers are little-endian.
//   EventFileHeader                      `header_bytes` long: later versions may append fields
//   description                          `description_bytes` of JSON: the run's object of --json
//   emulator::Event[event_count]         `event_bytes` each, in order of `tsc`
#pragma once

#include "accede/cli/failure.hpp"
#include "accede/cli/report_area.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace accede::cli {

struct EventFileHeader {
  std::array<char, 8> magic;        ///< `kEventFileMagic`
  std::uint32_t version;            ///< `kEventFileVersion`
  std::uint32_t header_bytes;       ///< of this structure
  std::uint32_t event_bytes;        ///< of one event
  std::uint32_t description_bytes;  ///< of the JSON text behind the header
  std::uint64_t event_count;
  std::uint64_t event_dropped;  ///< events that found the emulator's log full
  std::uint64_t tsc_hz;
  std::uint64_t tsc_takeover;  ///< time stamp when the emulator took over
};
static_assert(sizeof(EventFileHeader) == 56 && offsetof(EventFileHeader, event_count) == 24);

inline constexpr std::array<char, 8> kEventFileMagic{'A', 'C', 'C', 'E', 'V', 'E', 'N', 'T'};
inline constexpr std::uint32_t kEventFileVersion = 1;

/// One section.
[[nodiscard]] std::string event_file_section(const ReportSnapshot& snapshot,
                                             std::string_view description);

/// A section as read back.
struct EventFileSection {
  EventFileHeader header{};
  std::string description;
  std::vector<emulator::Event> events;
};

/// All sections of a file. The error names what is wrong and the offset of the bad section.
[[nodiscard]] std::expected<std::vector<EventFileSection>, std::string> parse_event_file(
    std::span<const std::byte> file);

}  // namespace accede::cli
