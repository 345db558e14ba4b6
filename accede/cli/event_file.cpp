#include "accede/cli/event_file.hpp"

#include "accede/base/byte_reader.hpp"

#include <algorithm>

namespace accede::cli {
namespace {

using emulator::Event;

template <class T>
void append(std::string& text, std::span<const T> values) {
  const auto raw = std::as_bytes(values);
  std::ranges::transform(raw, std::back_inserter(text),
                         [](std::byte byte) { return static_cast<char>(byte); });
}

std::string bad_section(std::size_t offset, std::string_view why) {
  return "section at offset " + std::to_string(offset) + ": " + std::string{why};
}

std::string_view problem(const EventFileHeader& header) {
  if (header.magic != kEventFileMagic) {
    return "not an event log";
  }
  if (header.version != kEventFileVersion || header.event_bytes != sizeof(Event) ||
      header.header_bytes < sizeof(EventFileHeader)) {
    return "a version that this command does not know";
  }
  return "";
}

}  // namespace

std::string event_file_section(const ReportSnapshot& snapshot, std::string_view description) {
  const EventFileHeader header{
      .magic = kEventFileMagic,
      .version = kEventFileVersion,
      .header_bytes = sizeof(EventFileHeader),
      .event_bytes = sizeof(Event),
      .description_bytes = static_cast<std::uint32_t>(description.size()),
      .event_count = snapshot.events.size(),
      .event_dropped = snapshot.header.event_dropped,
      .tsc_hz = snapshot.header.tsc_hz,
      .tsc_takeover = snapshot.header.tsc_takeover,
  };
  std::string section;
  append(section, std::span{&header, 1});
  section += description;
  append(section, std::span<const Event>{snapshot.events});
  return section;
}

std::expected<std::vector<EventFileSection>, std::string> parse_event_file(
    std::span<const std::byte> file) {
  const ByteReader reader{file};
  std::vector<EventFileSection> sections;
  std::size_t offset = 0;
  while (offset < file.size()) {
    const auto header = reader.read_struct<EventFileHeader>(offset);
    if (!header) {
      return std::unexpected{bad_section(offset, "cut off")};
    }
    if (const auto text = problem(*header); !text.empty()) {
      return std::unexpected{bad_section(offset, text)};
    }
    const std::size_t text_begin = offset + header->header_bytes;
    const auto description = reader.slice(text_begin, header->description_bytes);
    const std::size_t events_begin = text_begin + header->description_bytes;
    if (!description || header->event_count > (file.size() - events_begin) / sizeof(Event)) {
      return std::unexpected{bad_section(offset, "cut off")};
    }
    EventFileSection section{.header = *header, .description = {}, .events = {}};
    std::ranges::transform(*description, std::back_inserter(section.description),
                           [](std::byte byte) { return static_cast<char>(byte); });
    section.events.resize(header->event_count);
    std::ranges::copy(file.subspan(events_begin, section.events.size() * sizeof(Event)),
                      std::as_writable_bytes(std::span{section.events}).begin());
    offset = events_begin + section.events.size() * sizeof(Event);
    sections.push_back(std::move(section));
  }
  return sections;
}

}  // namespace accede::cli
