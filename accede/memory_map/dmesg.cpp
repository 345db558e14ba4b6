#include "accede/memory_map/dmesg.hpp"

#include "accede/memory_map/region_list.hpp"
#include "accede/memory_map/text_scan.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>

namespace accede::memory_map {
namespace {

/// What stands before the ranges of the maps: as the firmware, a loader, `memmap=` or MTRRs have
/// it.
constexpr std::array<std::string_view, 7> kMapWords{
    "BIOS-e820:", "BIOS-e801:", "BIOS-88:", "Xen:", "reserve setup_data:", "user:", "modified:"};
constexpr std::string_view kUpdate = "e820: update";
constexpr std::string_view kRemove = "e820: remove";

struct Line {
  std::string_view word;  ///< one of the above
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::string_view what;

  [[nodiscard]] bool of_map() const { return word != kUpdate && word != kRemove; }
};

/// Whether `text` ends with `word`, behind a time stamp, a log's date or a quotation mark.
bool ends_with_word(std::string_view text, std::string_view word) {
  constexpr std::string_view kBefore = " \t]>";
  return text.ends_with(word) &&
         (text.size() == word.size() ||
          kBefore.find(text[text.size() - word.size() - 1]) != std::string_view::npos);
}

std::optional<std::string_view> word_before(std::string_view text) {
  constexpr std::string_view kBlanks = " \t";
  text = text.substr(0, text.find_last_not_of(kBlanks) + 1);
  for (const std::string_view word : {kUpdate, kRemove}) {
    if (ends_with_word(text, word)) {
      return word;
    }
  }
  const auto* const word = std::ranges::find_if(
      kMapWords, [&](std::string_view candidate) { return ends_with_word(text, candidate); });
  return word == kMapWords.end() ? std::nullopt : std::optional{*word};
}

/// `WORD [mem 0xFIRST-0xLAST] WHAT`; `[gap ...]` lines say that nothing is there.
std::optional<Line> parse(std::string_view row) {
  constexpr std::string_view kMem = "[mem 0x";
  const auto at = row.find(kMem);
  if (at == std::string_view::npos) {
    return std::nullopt;
  }
  const auto word = word_before(row.substr(0, at));
  TextScan scan{row.substr(at + kMem.size())};
  const auto first = scan.hex_digits();
  if (!word || !first || !scan.skip("-0x")) {
    return std::nullopt;
  }
  const auto last = scan.hex_digits();
  if (!last || !scan.skip("]")) {
    return std::nullopt;
  }
  scan.skip_blanks();
  return Line{.word = *word, .first = *first, .last = *last, .what = scan.rest()};
}

RegionKind kind_of(std::string_view what) {
  if (what.starts_with("usable") || what.starts_with("System RAM")) {
    return RegionKind::kRam;
  }
  if (what.starts_with("persistent")) {
    return RegionKind::kPersistent;
  }
  if (what.starts_with("soft reserved") || what.starts_with("Soft Reserved")) {
    return RegionKind::kSpecificPurpose;
  }
  return RegionKind::kReserved;
}

/// The maps of a log, the last one kept.
class Builder {
 public:
  /// Nothing, or why the line is wrong.
  std::optional<std::string> add(const Line& line) {
    const auto range = range_to_last(line.first, line.last);
    if (!range) {
      return "the range ends before it begins, or at 2^64";
    }
    if (!line.of_map()) {
      change(line, *range);
      return std::nullopt;
    }
    if (begins_a_map(line, *range)) {
      word_ = line.word;
      regions_.clear();
      ranges_ = 0;
    }
    ++ranges_;
    regions_.push_back({.range = *range, .kind = kind_of(line.what)});
    return std::nullopt;
  }

  /// Lines that count, of the last map.
  [[nodiscard]] std::size_t ranges() const { return ranges_; }

  [[nodiscard]] std::vector<Region> take() { return std::move(regions_); }

 private:
  /// Linux prints its maps in ascending order. A log may go on with another start of the machine.
  [[nodiscard]] bool begins_a_map(const Line& line, PhysRange range) const {
    return line.word != word_ || regions_.empty() || range.begin() <= regions_.back().range.begin();
  }

  /// `e820: update [mem ...] usable ==> reserved`, `e820: remove [mem ...] usable`. Only what the
  /// first word says changes.
  void change(const Line& line, PhysRange range) {
    constexpr std::string_view kArrow = "==> ";
    ++ranges_;
    std::optional<RegionKind> to;
    if (line.word == kUpdate) {
      const auto arrow = line.what.find(kArrow);
      to = kind_of(arrow == std::string_view::npos ? line.what
                                                   : line.what.substr(arrow + kArrow.size()));
    }
    // Without a word it is about everything.
    const auto from = line.what.empty() ? std::nullopt : std::optional{kind_of(line.what)};
    retype(regions_, range, from, to);
  }

  std::string_view word_;
  std::vector<Region> regions_;
  std::size_t ranges_ = 0;
};

}  // namespace

bool has_e820_lines(std::string_view text) {
  bool found = false;
  for_each_line(text, [&](std::string_view row, std::size_t) {
    const auto line = parse(row);
    found = line && line->of_map();
    return !found;
  });
  return found;
}

std::expected<std::vector<Region>, ReadError> read_dmesg(std::string_view text) {
  Builder builder;
  std::optional<ReadError> error;
  for_each_line(text, [&](std::string_view row, std::size_t number) {
    const auto line = parse(row);
    const auto wrong = line ? builder.add(*line) : std::nullopt;
    if (wrong) {
      error = {.line = number, .message = *wrong};
    } else if (builder.ranges() > kMostRanges) {
      error = too_many_ranges(number);
    }
    return !error;
  });
  if (error) {
    return std::unexpected{*std::move(error)};
  }
  auto regions = sorted_regions(builder.take());
  if (regions && regions->empty()) {
    return std::unexpected{ReadError{.line = 0, .message = "there is no E820 map in it"}};
  }
  return regions;
}

std::expected<std::vector<PhysRange>, ReadError> read_cmr_lines(std::string_view text) {
  std::vector<PhysRange> ranges;
  std::optional<ReadError> error;
  for_each_line(text, [&](std::string_view row, std::size_t number) {
    const auto word = row.find("CMR");
    const auto open = row.find("[0x", word == std::string_view::npos ? row.size() : word);
    if (open == std::string_view::npos) {
      return true;
    }
    TextScan scan{row.substr(open + 1)};
    const auto begin = scan.number();
    const bool comma = scan.skip(",");
    scan.skip_blanks();
    const auto end = scan.number();
    if (!begin || !comma || !end || !scan.skip(")")) {
      error = {.line = number, .message = "no CMR: [0xBEGIN, 0xEND)"};
      return false;
    }
    const auto range = PhysRange::make(PhysAddr{*begin}, PhysAddr{*end});
    if (!range) {
      error = {.line = number, .message = "the range ends before it begins"};
      return false;
    }
    // A log may go on with another start of the machine.
    if (!ranges.empty() && range->begin() <= ranges.front().begin()) {
      ranges.clear();
    }
    ranges.push_back(*range);
    if (ranges.size() > kMostRanges) {
      error = too_many_ranges(number);
    }
    return !error;
  });
  if (error) {
    return std::unexpected{*std::move(error)};
  }
  return ranges;
}

}  // namespace accede::memory_map
