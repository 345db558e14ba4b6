// /proc/iomem.
#pragma once

#include "accede/memory_map/region.hpp"

#include <expected>
#include <string_view>
#include <vector>

namespace accede::memory_map {

/// Reads `  100000000-87fffffff : System RAM` lines; indented ones lie in the one above. What lies
/// in RAM (kernel, crash kernel) is RAM still; RAM inside a device's range is memory that a driver
/// gave to the kernel. Devices and windows without memory are left out. Sorted and disjoint.
///
/// Errors: a line of another form, a range that ends before it begins, overlaps, more than
/// kMostRanges, and a file that an ordinary user read, in which every address is 0.
[[nodiscard]] std::expected<std::vector<Region>, ReadError> read_iomem(std::string_view text);

}  // namespace accede::memory_map
