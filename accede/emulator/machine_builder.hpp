// Building the emulator's objects in the memory that the launcher reserved.
#pragma once

#include "accede/base/function_ref.hpp"
#include "accede/emulator/arena.hpp"
#include "accede/emulator/guest_memory.hpp"
#include "accede/emulator/guest_view.hpp"
#include "accede/host/page_attributes.hpp"

#include <cstdint>
#include <optional>
#include <span>

namespace accede::emulator {

inline constexpr PhysWindow kIdentity{};

/// A Monitor of some personality, and the MSRs that it must see.
struct AnyMonitor {
  void* monitor = nullptr;
  void (*run)(void* monitor, Vcpu& vcpu) = nullptr;
  std::span<const std::uint32_t> msrs;
};

/// What every personality stands on. The objects live for ever.
struct MachineParts {
  const LaunchInfo& info;
  Arena& arena;
  std::span<const PhysRange> ram;      ///< without the emulator's own memory
  std::span<const PhysRange> pending;  ///< likewise: not accepted yet
  Reporter& reporter;
  const MachineMap& machine;
  Vcpu& vcpu;

  // Set by build_view().
  host::PageAttributes* attributes = nullptr;
  NestedPageTable* tables = nullptr;
  GuestView* view = nullptr;
  GuestMemory* memory = nullptr;

  [[nodiscard]] PhysRange described() const {
    return *PhysRange::make(PhysAddr{0}, ram.back().end());
  }
};

/// For objects that are created after the large parts have taken the rest.
inline constexpr Bytes kSmallObjects = 64_KiB;

/// Page attributes and the tables of touched pages. False: the memory is too small.
[[nodiscard]] bool build_view(MachineParts& parts, Bytes table_bytes, ViewBit view_bit);

/// Memory that is in use at launch goes to `adopt` as it is; devices are mapped. What is pending is
/// not there yet. False: a part failed.
[[nodiscard]] bool adopt_memory(const MachineParts& parts, FunctionRef<bool(PhysRange)> adopt);

/// The personalities. Nothing: the memory is too small.
[[nodiscard]] std::optional<AnyMonitor> build_tdx(MachineParts& parts);
[[nodiscard]] std::optional<AnyMonitor> build_snp(MachineParts& parts);

/// Calls `use` with the parts of `range` that no range of `holes` (sorted) covers, until it returns
/// false.
template <class Use>
bool for_each_part(PhysRange range, std::span<const PhysRange> holes, Use use) {
  PhysAddr at = range.begin();
  for (const PhysRange& hole : holes) {
    const PhysRange cut = hole.intersect(range);
    if (cut.empty()) {
      continue;
    }
    if (at < cut.begin() && !use(*PhysRange::make(at, cut.begin()))) {
      return false;
    }
    at = std::max(at, cut.end());
  }
  return at >= range.end() || use(*PhysRange::make(at, range.end()));
}

/// Runs `monitor` through a pointer that does not say what it is.
template <class Monitor>
AnyMonitor any_monitor(Monitor& monitor, std::span<const std::uint32_t> msrs) {
  return {.monitor = &monitor,
          .run = [](void* self, Vcpu& vcpu) { static_cast<Monitor*>(self)->run(vcpu); },
          .msrs = msrs};
}

}  // namespace accede::emulator
