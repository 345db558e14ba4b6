#include "accede/memory_map/recognise.hpp"

#include "accede/memory_map/dmesg.hpp"
#include "accede/memory_map/iomem.hpp"
#include "accede/memory_map/json_ranges.hpp"
#include "accede/memory_map/region_list.hpp"
#include "accede/memory_map/text_scan.hpp"

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>

namespace accede::memory_map {
namespace {

std::unexpected<ReadError> wrong(std::string message) {
  return std::unexpected{ReadError{.line = 0, .message = std::move(message)}};
}

std::string_view text_of_bytes(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A kernel log begins with a bracket too: of its time stamp.
bool looks_like_json(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const auto open = text.find_first_not_of(kBlanks);
  if (open == std::string_view::npos || text[open] != '[') {
    return open != std::string_view::npos && text[open] == '{';
  }
  const auto next = text.find_first_not_of(kBlanks, open + 1);
  return next != std::string_view::npos && (text[next] == '{' || text[next] == ']');
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

/// Whether the first line that is not blank begins as those of /proc/iomem: `FIRST-LAST :`.
bool looks_like_iomem(std::string_view text) {
  bool like = false;
  for_each_line(text, [&](std::string_view line, std::size_t) {
    TextScan scan{line};
    scan.skip_blanks();
    like = scan.hex_digits() && scan.skip("-") && scan.hex_digits();
    return is_blank(line);
  });
  return like;
}

}  // namespace

std::expected<std::vector<Region>, ReadError> read_memory_map(std::span<const std::byte> file) {
  const std::string_view text = text_of_bytes(file);
  if (is_blank(text)) {
    return wrong("is empty");
  }
  if (text.find('\0') != std::string_view::npos) {
    return wrong("binary data: a memory map is JSON, /proc/iomem or a kernel log");
  }
  std::expected<std::vector<Region>, ReadError> regions;
  if (looks_like_json(text)) {
    regions = read_json_ranges(text);
    if (regions) {
      regions = sorted_regions(*std::move(regions));
    }
  } else if (has_e820_lines(text)) {
    regions = read_dmesg(text);
  } else if (looks_like_iomem(text)) {
    regions = read_iomem(text);
  } else {
    return wrong("neither JSON, nor /proc/iomem, nor a kernel log with an E820 map");
  }
  if (regions && regions->empty()) {
    return wrong("there is no memory in it");
  }
  return regions;
}

std::expected<std::vector<PhysRange>, ReadError> read_cmrs(std::span<const std::byte> file) {
  const std::string_view text = text_of_bytes(file);
  if (is_blank(text)) {
    return wrong("is empty");
  }
  if (text.find('\0') != std::string_view::npos) {
    return wrong("binary data: CMRs are JSON or lines of a kernel log");
  }
  if (!looks_like_json(text)) {
    auto ranges = read_cmr_lines(text);
    if (ranges && ranges->empty()) {
      return wrong("neither JSON nor a line with `CMR: [0xBEGIN, 0xEND)` in it");
    }
    return ranges;
  }
  const auto regions = read_json_ranges(text);
  if (!regions) {
    return std::unexpected{regions.error()};
  }
  if (regions->empty()) {
    return wrong("there is no CMR in it");
  }
  std::vector<PhysRange> ranges;
  std::ranges::transform(*regions, std::back_inserter(ranges), &Region::range);
  return ranges;
}

}  // namespace accede::memory_map
