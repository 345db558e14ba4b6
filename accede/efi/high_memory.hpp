// The memory above 4 GiB that the firmware side of the emulator keeps unaccepted.
#pragma once

#include "accede/efi/firmware.hpp"
#include "accede/efi/launcher_config.hpp"
#include "accede/firmware/negotiation.hpp"

#include <span>

namespace accede::efi {

inline constexpr PhysAddr k4GiB{4_GiB .value()};

/// What is RAM, and which part of it a guest starts without having accepted. Sorted, disjoint.
struct MemoryPlan {
  std::array<PhysRange, 64> ram;
  std::size_t ram_count = 0;
  std::array<PhysRange, 64> pending;
  std::size_t pending_count = 0;

  [[nodiscard]] std::span<const PhysRange> ram_ranges() const { return {ram.data(), ram_count}; }
  [[nodiscard]] std::span<const PhysRange> pending_ranges() const {
    return {pending.data(), pending_count};
  }
};

/// Lists the machine's RAM, and as pending what lies above 4 GiB and is free. Below 4 GiB, RAM is
/// taken to reach from 0 to the end of the highest memory that the firmware lists there, but for
/// the legacy hole.
[[nodiscard]] Result<MemoryPlan> survey_memory(const Firmware& firmware);

/// Takes the pending memory of `plan` away from the firmware, as an OS loader's own memory type, so
/// that nobody touches it.
[[nodiscard]] Result<void> claim_pending(const Firmware& firmware, const MemoryPlan& plan);

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
