// Codes as people type them, and every way to read one.
#pragma once

#include "accede/cli/decode_reading.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace accede::cli {

/// A code of the command line: `[FAMILY:]NUMBER` or `[sev-term:]SET:CODE`.
struct CodeQuery {
  std::string text;          ///< as typed
  std::string family;        ///< empty: every family
  std::uint64_t value = 0;   ///< of a number
  bool is_set_code = false;  ///< `value` is set in bits 15:8 and code in bits 7:0
};

/// Decimal, or hexadecimal after 0x; 64 bits. Nothing for anything else, and for a family that does
/// not exist.
[[nodiscard]] std::optional<CodeQuery> parse_code(std::string_view text);

/// The most specific first; empty when the code is unknown.
[[nodiscard]] std::vector<Reading> readings_of(const CodeQuery& query);

/// The prefixes, separated by blanks, in the order of readings_of.
[[nodiscard]] std::string family_names();

}  // namespace accede::cli
