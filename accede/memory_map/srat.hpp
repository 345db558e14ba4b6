// The firmware's affinity table, /sys/firmware/acpi/tables/SRAT.
#pragma once

#include "accede/memory_map/region.hpp"
#include "accede/memory_map/region_list.hpp"

#include <cstddef>
#include <expected>
#include <span>
#include <vector>

namespace accede::memory_map {

/// Reads the enabled memory ranges of a table, sorted; its checksum is checked. Structures of other
/// kinds are skipped. Errors, with the offset in the message: not a SRAT, cut off, a wrong
/// checksum, a structure that is too short or leaves the table, ranges that wrap, or that
/// overlap and are of different nodes, more than kMostRanges.
[[nodiscard]] std::expected<std::vector<NodeRange>, ReadError> read_srat(
    std::span<const std::byte> table);

}  // namespace accede::memory_map
