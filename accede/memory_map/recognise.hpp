// Files that describe memory, whatever their form.
#pragma once

#include "accede/memory_map/region.hpp"

#include <cstddef>
#include <expected>
#include <span>
#include <vector>

namespace accede::memory_map {

/// A memory map: JSON ranges, /proc/iomem, or E820 lines of a kernel log, known by its content.
/// Sorted, disjoint, not empty.
[[nodiscard]] std::expected<std::vector<Region>, ReadError> read_memory_map(
    std::span<const std::byte> file);

/// CMRs: JSON ranges, or lines of a kernel log. In their order and not checked against each other:
/// that is the module's part.
[[nodiscard]] std::expected<std::vector<PhysRange>, ReadError> read_cmrs(
    std::span<const std::byte> file);

}  // namespace accede::memory_map
