// Placing the resident emulator and handing the processor over to it.
#pragma once

#include "accede/efi/firmware.hpp"
#include "accede/efi/high_memory.hpp"
#include "accede/efi/launcher_config.hpp"

namespace accede::efi {

/// Loads the emulator image that is part of this program into reserved memory and starts it. When
/// this returns a value, the caller is the emulator's guest: a TD.
[[nodiscard]] Result<void> start_emulator(const Firmware& firmware, const LauncherConfig& config,
                                          const MemoryPlan& plan);

}  // namespace accede::efi
