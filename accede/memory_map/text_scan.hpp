// Small total parsers on text.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/memory_map/region.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace accede::memory_map {

/// Takes what it reads off the front of a text.
class TextScan {
 public:
  explicit TextScan(std::string_view text) : rest_{text} {}

  [[nodiscard]] std::string_view rest() const { return rest_; }
  [[nodiscard]] bool at_end() const { return rest_.empty(); }

  /// Blanks and tabs; how many.
  std::size_t skip_blanks();
  /// Whether `word` was there; else nothing is taken.
  bool skip(std::string_view word);
  /// A hexadecimal number without prefix, at most 64 bits; else nothing is taken.
  [[nodiscard]] std::optional<std::uint64_t> hex_digits();
  /// `0x` and a hexadecimal number, or a decimal number.
  [[nodiscard]] std::optional<std::uint64_t> number();
  /// A number with an optional suffix K, M, G, T, P, E (binary), as Linux's parameters have it.
  [[nodiscard]] std::optional<std::uint64_t> size();

 private:
  std::string_view rest_;
};

/// `0x1000-0x1fff`, as the kernel prints ranges.
[[nodiscard]] std::string text_of(PhysRange range);

/// [first, last] as a range; nothing when it wraps or ends at 2^64.
[[nodiscard]] std::optional<PhysRange> range_to_last(std::uint64_t first, std::uint64_t last);

/// The error of an input with more than kMostRanges.
[[nodiscard]] ReadError too_many_ranges(std::size_t line);

/// Calls `use(line, number)` with each line, counted from 1 and without its end, until it returns
/// false.
template <class Use>
void for_each_line(std::string_view text, Use use) {
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) {
      line.remove_suffix(1);
    }
    if (!use(line, number)) {
      return;
    }
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
  }
}

}  // namespace accede::memory_map
