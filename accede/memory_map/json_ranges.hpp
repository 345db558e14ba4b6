// Memory ranges as JSON.
#pragma once

#include "accede/memory_map/region.hpp"

#include <expected>
#include <string_view>
#include <vector>

namespace accede::memory_map {

/// Reads `[{"base":4294967296,"size":"0x1000000000","node":0,"kind":"ram"}, ...]`. Numbers may be
/// texts, hexadecimal with 0x or decimal. `node` and `kind` (ram, reserved, pmem, pmem-ram,
/// specific-purpose, cxl-ram) may lack; a kind that lacks is ram. Unknown fields are ignored. In
/// their order, unchecked but for themselves. Errors name the element, counted from 0; more than
/// kMostRanges are one.
[[nodiscard]] std::expected<std::vector<Region>, ReadError> read_json_ranges(std::string_view text);

}  // namespace accede::memory_map
