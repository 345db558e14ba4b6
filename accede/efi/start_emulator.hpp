// Placing the resident emulator and handing the processor over to it.
#pragma once

#include "accede/efi/firmware.hpp"
#include "accede/efi/launcher_config.hpp"
#include "accede/efi/memory_plan.hpp"

namespace accede::efi {

/// The emulator's memory with its image in it, ready to be entered.
struct PlacedEmulator {
  PhysRange hidden;
  Bytes image_bytes;
  std::uint64_t entry;   ///< offset in the image
  std::uint64_t tsc_hz;  ///< time stamp counter ticks a second
};

/// Puts the emulator image that is part of this program into reserved memory that is large enough
/// for a machine with that RAM and the platform of `config`; below 4 GiB if it fits there, where no
/// memory is missed that a kernel would have to accept.
[[nodiscard]] Result<PlacedEmulator> place_emulator(const Firmware& firmware,
                                                    const LauncherConfig& config,
                                                    const RangeList& ram);

/// Starts the emulator. When this returns a value, the caller is its guest, on the platform of
/// `config`, that has not accepted the pending memory of `plan`.
[[nodiscard]] Result<void> enter_emulator(const PlacedEmulator& emulator,
                                          const LauncherConfig& config, const MemoryPlan& plan);

}  // namespace accede::efi
