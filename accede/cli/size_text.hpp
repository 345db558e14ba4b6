// Sizes and durations as people write and read them.
#pragma once

#include "accede/base/units.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace accede::cli {

/// `4G`, `512M`, `4096` (bytes); suffixes K, M, G, T in either case, binary, with an optional `iB`
/// or `B`. Nothing for anything else, signs, fractions and what does not fit 64 bits included.
[[nodiscard]] std::optional<Bytes> parse_size(std::string_view text);

/// `700ns`, `1400us`, `1.4ms`, `2s`: a number, at most nine decimals, and a unit. Nothing for
/// anything else, and for what is longer than an hour or shorter than a nanosecond but not 0.
[[nodiscard]] std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text);

/// Three significant digits and a binary unit: `3.82 GiB`, `512 MiB`, `0`.
[[nodiscard]] std::string format_size(Bytes size);

/// `3.41 s`; nothing known: `-`.
[[nodiscard]] std::string format_seconds(std::optional<double> seconds);

/// `0x1f`.
[[nodiscard]] std::string format_hex(std::uint64_t value);

/// Fixed point with `decimals` digits.
[[nodiscard]] std::string format_fixed(double value, int decimals);

}  // namespace accede::cli
