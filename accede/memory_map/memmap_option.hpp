// Linux's `memmap=` parameter. Source: Linux Documentation/admin-guide/kernel-parameters.txt.
#pragma once

#include "accede/memory_map/region.hpp"

#include <expected>
#include <string_view>
#include <vector>

namespace accede::memory_map {

/// Applies options to a map (sorted, disjoint; stays so), in their order, separated by commas or
/// blanks, each with or without `memmap=`:
///
/// | option      | what lies from S on, N bytes                      |
/// |-------------|---------------------------------------------------|
/// | N@S         | is RAM where it is nothing else                   |
/// | N#S, N$S    | is kept: ACPI data, reserved                      |
/// | N!S         | is persistent memory                              |
/// | N%S-OLD+NEW | of E820 type OLD becomes type NEW                 |
/// | N%S-OLD     | of E820 type OLD is gone                          |
/// | N%S+NEW     | is of type NEW, as with the signs above           |
/// | N           | RAM from N on is gone                             |
/// | exactmap    | all that was there before is gone                 |
///
/// Where kinds overlap the larger E820 type counts (add_kind()). The types 2 to 5 are one here.
///
/// Errors: another form, a size of 0 before a sign, what ends beyond 2^64. Nothing is changed then.
[[nodiscard]] std::expected<void, ReadError> apply_memmap(std::string_view options,
                                                          std::vector<Region>& regions);

}  // namespace accede::memory_map
