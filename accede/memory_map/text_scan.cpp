#include "accede/memory_map/text_scan.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

namespace accede::memory_map {
namespace {

std::optional<std::uint64_t> take_number(std::string_view& text, int base) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{}) {
    return std::nullopt;
  }
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

std::string hex(std::uint64_t value) {
  std::string digits(16, '0');
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value, 16).ptr;
  digits.resize(static_cast<std::size_t>(end - digits.data()));
  return "0x" + digits;
}

}  // namespace

std::size_t TextScan::skip_blanks() {
  const std::size_t blanks = std::min(rest_.find_first_not_of(" \t"), rest_.size());
  rest_.remove_prefix(blanks);
  return blanks;
}

bool TextScan::skip(std::string_view word) {
  if (!rest_.starts_with(word)) {
    return false;
  }
  rest_.remove_prefix(word.size());
  return true;
}

std::optional<std::uint64_t> TextScan::hex_digits() {
  return take_number(rest_, 16);
}

std::optional<std::uint64_t> TextScan::number() {
  TextScan after = *this;
  if (after.skip("0x") || after.skip("0X")) {
    const auto value = after.hex_digits();
    if (value) {
      *this = after;
    }
    return value;
  }
  return take_number(rest_, 10);
}

std::optional<std::uint64_t> TextScan::size() {
  TextScan after = *this;
  const auto value = after.number();
  if (!value) {
    return std::nullopt;
  }
  unsigned shift = 0;
  constexpr std::string_view kSuffixes = "KMGTPE";
  if (!after.at_end()) {
    const char upper = static_cast<char>(after.rest().front() & ~0x20);
    if (const auto suffix = kSuffixes.find(upper); suffix != std::string_view::npos) {
      shift = 10 * (static_cast<unsigned>(suffix) + 1);
      after.rest_.remove_prefix(1);
    }
  }
  if (*value > std::numeric_limits<std::uint64_t>::max() >> shift) {
    return std::nullopt;
  }
  *this = after;
  return *value << shift;
}

std::string text_of(PhysRange range) {
  const std::uint64_t first = range.begin().value();
  return hex(first) + "-" + hex(range.empty() ? first : range.end().value() - 1);
}

std::optional<PhysRange> range_to_last(std::uint64_t first, std::uint64_t last) {
  if (last < first || last == std::numeric_limits<std::uint64_t>::max()) {
    return std::nullopt;
  }
  return PhysRange::make(PhysAddr{first}, PhysAddr{last + 1});
}

ReadError too_many_ranges(std::size_t line) {
  return {.line = line, .message = "more than " + std::to_string(kMostRanges) + " ranges"};
}

}  // namespace accede::memory_map
