// The firmware's memory map as everybody sees it once some memory is left unaccepted.
#pragma once

#include "accede/efi/firmware.hpp"
#include "accede/efi/launcher_config.hpp"
#include "accede/firmware/negotiation.hpp"

namespace accede::efi {

/// Our memory type for memory that was claimed from the firmware: in the range that UEFI leaves to
/// OS loaders.
inline constexpr auto kClaimed = static_cast<abi::efi::MemoryType>(0x8000'ACCE);

/// From now on the firmware's memory map shows claimed memory as type 15 (unaccepted) and tells the
/// configured lie. ExitBootServices asks `negotiation`, which outlives boot services; when that
/// says so it calls `accept_everything`, which returns only when all claimed memory is accepted,
/// fails with a stale key, and the map shows that memory as conventional.
void show_as_unaccepted(const Firmware& firmware, MapLie lie, firmware::Negotiation& negotiation,
                        void (*accept_everything)());

/// Keeps `count` single pages of the memory below 4 GiB from everybody, at least 1 MiB
/// apart: a map with that many holes.
[[nodiscard]] Result<void> punch_holes(const Firmware& firmware, std::uint64_t count);

}  // namespace accede::efi
