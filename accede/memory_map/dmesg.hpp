// The memory map that Linux prints when it starts.
#pragma once

#include "accede/memory_map/region.hpp"

#include <expected>
#include <string_view>
#include <vector>

namespace accede::memory_map {

/// Reads the E820 lines of a kernel log, with or without time stamps, and skips every other line.
/// A log can show several maps (`BIOS-e820:`, `reserve setup_data:`, `user:`, ..., and those of
/// several starts): the last one counts, with the changes that the kernel reports after it
/// (`e820: update`, `e820: remove`). Sorted and disjoint. Errors: no map, a range that ends before
/// it begins, overlaps, more than kMostRanges.
[[nodiscard]] std::expected<std::vector<Region>, ReadError> read_dmesg(std::string_view text);

/// Whether a line of an E820 map is in the text.
[[nodiscard]] bool has_e820_lines(std::string_view text);

/// Reads the lines about CMRs that kernels with debugging output for TDX print:
/// `... CMR: [0x100000, 0x77800000)`. In their order. Errors: a range that ends before it begins,
/// another form, more than kMostRanges.
[[nodiscard]] std::expected<std::vector<PhysRange>, ReadError> read_cmr_lines(
    std::string_view text);

}  // namespace accede::memory_map
