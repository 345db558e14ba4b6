// Starting what a disk boots by itself.
#pragma once

#include "accede/efi/firmware.hpp"

#include <string_view>

namespace accede::efi {

/// Loads `path` (backslashes) from the first volume that has it and is not the one that we were
/// started from, as the firmware's boot manager does: the image knows its volume and its path, and
/// finds its other files. Its load options are empty. Errors: there is none, or the firmware does
/// not take it.
[[nodiscard]] Result<abi::efi::Handle> load_from_other_volume(const Firmware& firmware,
                                                              std::string_view path);

}  // namespace accede::efi
