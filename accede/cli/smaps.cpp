#include "accede/cli/smaps.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>

namespace accede::cli {
namespace {

constexpr std::uint64_t kMergeSlack = 64ULL << 20;

std::optional<std::uint64_t> parse(std::string_view text, int base) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc{} && end == text.data() + text.size() ? std::optional{value}
                                                                  : std::nullopt;
}

/// Size of the mapping that `line` opens (`7f00-7f80 rw-p 00000000 00:00 0`); nothing for a line
/// of another form.
std::optional<std::uint64_t> mapping_size(std::string_view line) {
  const std::size_t dash = line.find('-');
  const std::size_t blank = line.find(' ');
  if (dash == std::string_view::npos || blank == std::string_view::npos || blank < dash) {
    return std::nullopt;
  }
  const auto begin = parse(line.substr(0, dash), 16);
  const auto end = parse(line.substr(dash + 1, blank - dash - 1), 16);
  return begin && end && *begin < *end ? std::optional{*end - *begin} : std::nullopt;
}

/// Bytes of a line `Rss:   123 kB`.
std::optional<std::uint64_t> resident(std::string_view line) {
  constexpr std::string_view kName = "Rss:";
  constexpr std::string_view kUnit = " kB";
  if (!line.starts_with(kName) || !line.ends_with(kUnit)) {
    return std::nullopt;
  }
  line.remove_prefix(kName.size());
  line.remove_suffix(kUnit.size());
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  const auto kibibytes = parse(line, 10);
  return kibibytes ? std::optional{*kibibytes * 1024} : std::nullopt;
}

}  // namespace

std::optional<Bytes> find_guest_ram(std::string_view smaps, Bytes guest_ram) {
  std::uint64_t mapping = 0;
  std::uint64_t best_excess = std::numeric_limits<std::uint64_t>::max();
  std::optional<Bytes> best;
  while (!smaps.empty()) {
    const std::string_view line = smaps.substr(0, smaps.find('\n'));
    smaps.remove_prefix(std::min(line.size() + 1, smaps.size()));
    if (const auto size = mapping_size(line)) {
      mapping = *size;
    } else if (const auto bytes = resident(line); bytes && mapping >= guest_ram.value()) {
      const std::uint64_t excess = mapping - guest_ram.value();
      if (excess <= kMergeSlack && excess < best_excess) {
        best_excess = excess;
        best = Bytes{*bytes};
      }
    }
  }
  return best;
}

std::optional<Bytes> backed_guest_ram(pid_t process, Bytes guest_ram) {
  std::ifstream file{"/proc/" + std::to_string(process) + "/smaps"};
  const std::string text{std::istreambuf_iterator<char>{file}, {}};
  return find_guest_ram(text, guest_ram);
}

}  // namespace accede::cli
