// What the launcher does in the firmware's place once the machine is a confidential guest: accepts
// memory or leaves it, offers the protocols, and negotiates at ExitBootServices.
#pragma once

#include "accede/efi/firmware.hpp"
#include "accede/efi/launcher_config.hpp"
#include "accede/efi/memory_plan.hpp"
#include "accede/efi/platform.hpp"
#include "accede/firmware/negotiation.hpp"

namespace accede::efi {

/// The state in which the configured firmware starts.
[[nodiscard]] firmware::Negotiation negotiation_of(const LauncherConfig& config,
                                                   firmware::HostWish wish);

/// What the configured firmware does as a guest, and leaves for the kernel. Until the plan's memory
/// is accepted, no service of the firmware is called. All arguments outlive
/// boot services. Once per program.
[[nodiscard]] Result<void> play_firmware(const Firmware& firmware, const LauncherConfig& config,
                                         const MemoryPlan& plan, MachinePlatform& platform,
                                         firmware::Negotiation& negotiation);

}  // namespace accede::efi
