// Starting a kernel's EFI image (or any UEFI application) as its own boot loader would.
#pragma once

#include "accede/base/function_ref.hpp"
#include "accede/efi/firmware.hpp"
#include "accede/efi/launcher_config.hpp"

namespace accede::efi {

/// Loads the configured kernel with its command line, offers the initrd through LoadFile2, and
/// calls `before_start` right before the image runs. With a configured loader that is started
/// instead, and told where kernel and initrd are. What a disk boots by itself finds its own initrd
/// and command line. Returns what the image returned; a kernel does
/// not return.
[[nodiscard]] Result<std::uint64_t> start_kernel(const Firmware& firmware,
                                                 const LauncherConfig& config,
                                                 FunctionRef<void()> before_start);

}  // namespace accede::efi
