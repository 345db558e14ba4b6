#include "accede/cli/size_text.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <limits>

namespace accede::cli {
namespace {

/// The digits at the front of `text` as a number, taken off; nothing when there are none or they
/// do not fit.
std::optional<std::uint64_t> take_number(std::string_view& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) {
    return std::nullopt;
  }
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

/// Shift of the size suffix that is all of `text`.
std::optional<unsigned> suffix_shift(std::string_view text) {
  if (text.empty() || text == "B") {
    return 0;
  }
  constexpr std::string_view kSuffixes = "KMGT";
  const char letter = static_cast<char>(std::toupper(static_cast<unsigned char>(text.front())));
  const std::size_t index = kSuffixes.find(letter);
  const std::string_view rest = text.substr(1);
  if (index == std::string_view::npos || !(rest.empty() || rest == "B" || rest == "iB")) {
    return std::nullopt;
  }
  return static_cast<unsigned>(10 * (index + 1));
}

std::optional<std::uint64_t> nanoseconds_of(std::string_view unit) {
  struct Unit {
    std::string_view name;
    std::uint64_t nanoseconds;
  };
  constexpr std::array<Unit, 4> kUnits{
      {{"ns", 1}, {"us", 1'000}, {"ms", 1'000'000}, {"s", 1'000'000'000}}};
  const auto found = std::ranges::find(kUnits, unit, &Unit::name);
  return found == kUnits.end() ? std::nullopt : std::optional{found->nanoseconds};
}

}  // namespace

std::optional<Bytes> parse_size(std::string_view text) {
  const auto number = take_number(text);
  const auto shift = suffix_shift(text);
  if (!number || !shift || *number > (std::numeric_limits<std::uint64_t>::max() >> *shift)) {
    return std::nullopt;
  }
  return Bytes{*number << *shift};
}

std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  constexpr std::uint64_t kLongest = 3'600ULL * 1'000'000'000;
  constexpr std::size_t kMaxDecimals = 9;
  const auto whole = take_number(text);
  if (!whole || *whole > kLongest) {
    return std::nullopt;
  }
  std::uint64_t decimals = 0;
  std::uint64_t scale = 1;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    const std::size_t before = text.size();
    const auto digits = take_number(text);
    const std::size_t count = before - text.size();
    if (!digits || count > kMaxDecimals) {
      return std::nullopt;
    }
    decimals = *digits;
    for (std::size_t i = 0; i < count; ++i) {
      scale *= 10;
    }
  }
  const auto unit = nanoseconds_of(text);
  if (!unit || *whole > kLongest / *unit) {
    return std::nullopt;
  }
  const std::uint64_t total = *whole * *unit + decimals * *unit / scale;
  const bool vanished = total == 0 && (*whole != 0 || decimals != 0);
  if (total > kLongest || vanished) {
    return std::nullopt;
  }
  return std::chrono::nanoseconds{total};
}

std::string format_fixed(double value, int decimals) {
  std::array<char, 400> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value,
                                 std::chars_format::fixed, decimals)
                       .ptr;
  return {text.data(), end};
}

std::string format_hex(std::uint64_t value) {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value, 16).ptr;
  return "0x" + std::string{digits.data(), end};
}

std::string format_size(Bytes size) {
  constexpr std::array<std::string_view, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  if (size == Bytes{0}) {
    return "0";
  }
  auto value = static_cast<double>(size.value());
  std::size_t unit = 0;
  // 1023.5: what would be printed as 1024 is the next unit.
  while (value >= 1023.5 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  const bool whole = value == static_cast<double>(static_cast<std::uint64_t>(value));
  const int decimals = whole || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return format_fixed(value, decimals) + " " + std::string{kUnits[unit]};
}

std::string format_seconds(std::optional<double> seconds) {
  return seconds ? format_fixed(*seconds, 2) + " s" : "-";
}

}  // namespace accede::cli
