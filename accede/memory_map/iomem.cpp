#include "accede/memory_map/iomem.hpp"

#include "accede/memory_map/region_list.hpp"
#include "accede/memory_map/text_scan.hpp"

#include <algorithm>
#include <optional>
#include <string>

namespace accede::memory_map {
namespace {

struct Line {
  std::size_t indent = 0;
  PhysRange range;
  std::string_view name;
  bool all_zero = false;
};

std::expected<Line, std::string> parse(std::string_view text) {
  TextScan scan{text};
  Line line;
  line.indent = scan.skip_blanks();
  const auto first = scan.hex_digits();
  if (!first || !scan.skip("-")) {
    return std::unexpected{"no line of /proc/iomem: FIRST-LAST : NAME"};
  }
  const auto last = scan.hex_digits();
  scan.skip_blanks();
  if (!last || !scan.skip(":")) {
    return std::unexpected{"no line of /proc/iomem: FIRST-LAST : NAME"};
  }
  const auto range = range_to_last(*first, *last);
  if (!range) {
    return std::unexpected{"the range ends before it begins, or at 2^64"};
  }
  scan.skip_blanks();
  line.range = *range;
  line.name = scan.rest();
  line.all_zero = *first == 0 && *last == 0;
  return line;
}

bool is_ram(std::string_view name) {
  return name == "System RAM" || name.starts_with("System RAM (");
}

std::optional<RegionKind> kind_of(std::string_view name) {
  if (is_ram(name)) {
    return RegionKind::kRam;
  }
  if (name.starts_with("Persistent Memory")) {
    return RegionKind::kPersistent;
  }
  if (name == "Soft Reserved") {
    return RegionKind::kSpecificPurpose;
  }
  if (name == "Reserved" || name == "reserved" || name == "Unusable memory" ||
      name.starts_with("ACPI ")) {
    return RegionKind::kReserved;
  }
  return std::nullopt;
}

/// The regions so far, and which of the lines above the next one may lie in.
class Builder {
 public:
  void add(const Line& line) {
    while (!inside_.empty() && inside_.back().indent >= line.indent) {
      inside_.pop_back();
    }
    const Around around = what_is_around();
    auto kind = kind_of(line.name);
    if (kind && !around.kind) {
      kind = kind == RegionKind::kRam && around.cxl ? RegionKind::kCxlRam : kind;
      outer_.push_back({.range = line.range, .kind = *kind});
    } else if (kind == RegionKind::kRam) {
      kind = ram_inside(*around.kind, around.cxl);
      if (kind != around.kind) {
        inner_.push_back({.range = line.range, .kind = *kind});
      }
    }
    inside_.push_back(
        {.indent = line.indent, .kind = kind, .cxl = line.name.starts_with("CXL Window")});
  }

  [[nodiscard]] std::size_t ranges() const { return outer_.size() + inner_.size(); }

  [[nodiscard]] std::expected<std::vector<Region>, ReadError> take() {
    auto outer = sorted_regions(std::move(outer_));
    if (!outer) {
      return outer;
    }
    auto inner = sorted_regions(std::move(inner_));
    if (!inner) {
      return inner;
    }
    return sorted_regions(overlaid(*outer, *inner));
  }

 private:
  struct Outer {
    std::size_t indent;
    std::optional<RegionKind> kind;
    bool cxl;
  };

  struct Around {
    std::optional<RegionKind> kind;  ///< of the nearest line around that has one
    bool cxl = false;
  };

  [[nodiscard]] Around what_is_around() const {
    Around around;
    for (const Outer& outer : inside_) {
      around.kind = outer.kind ? outer.kind : around.kind;
      around.cxl = around.cxl || outer.cxl;
    }
    return around;
  }

  /// What RAM is that a line shows inside a range of kind `around`: a driver gave it to the kernel.
  [[nodiscard]] static RegionKind ram_inside(RegionKind around, bool cxl) {
    switch (around) {
      case RegionKind::kPersistent:
        return RegionKind::kPersistentRam;
      case RegionKind::kSpecificPurpose:
        return RegionKind::kCxlRam;
      case RegionKind::kReserved:
        return cxl ? RegionKind::kCxlRam : RegionKind::kRam;
      default:
        return around;
    }
  }

  std::vector<Region> outer_;
  std::vector<Region> inner_;  ///< RAM inside ranges of another kind
  std::vector<Outer> inside_;
};

}  // namespace

std::expected<std::vector<Region>, ReadError> read_iomem(std::string_view text) {
  Builder builder;
  std::optional<ReadError> error;
  bool any = false;
  bool all_zero = true;
  for_each_line(text, [&](std::string_view row, std::size_t number) {
    if (row.find_first_not_of(" \t") == std::string_view::npos) {
      return true;
    }
    const auto line = parse(row);
    if (!line) {
      error = {.line = number, .message = line.error()};
      return false;
    }
    any = true;
    all_zero = all_zero && line->all_zero;
    builder.add(*line);
    if (builder.ranges() > kMostRanges) {
      error = too_many_ranges(number);
    }
    return !error;
  });
  if (error) {
    return std::unexpected{*std::move(error)};
  }
  if (any && all_zero) {
    return std::unexpected{ReadError{
        .line = 0, .message = "every address is 0: /proc/iomem shows addresses to root only"}};
  }
  return builder.take();
}

}  // namespace accede::memory_map
