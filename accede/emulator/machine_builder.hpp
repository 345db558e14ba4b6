// Building the emulator's objects in the memory that the launcher reserved.
#pragma once

#include "accede/base/function_ref.hpp"
#include "accede/emulator/arena.hpp"
#include "accede/emulator/guest_memory.hpp"
#include "accede/emulator/guest_view.hpp"
#include "accede/host/page_attributes.hpp"
#include "accede/host/td_memory.hpp"

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

/// What build_view() takes besides the tables, and what small objects take that are created after
/// the large parts have taken the rest.
[[nodiscard]] Bytes small_parts(const MachineParts& parts);

/// The page size in which the host backs private memory.
[[nodiscard]] inline host::Backing backing_of(const LaunchInfo& info) {
  return info.back_with_4k != 0 ? host::Backing::k4K : host::Backing::k2M;
}

/// Page attributes and the tables of touched pages. False: the memory is too small.
[[nodiscard]] bool build_view(MachineParts& parts, Bytes table_bytes, ViewBit view_bit);

/// Memory that is in use at launch goes to `adopt` as it is; devices are mapped. What is pending is
/// not there yet. False: a part failed.
[[nodiscard]] bool adopt_memory(const MachineParts& parts, FunctionRef<bool(PhysRange)> adopt);

/// The personalities. Nothing: the memory is too small.
[[nodiscard]] std::optional<AnyMonitor> build_tdx(MachineParts& parts);
[[nodiscard]] std::optional<AnyMonitor> build_snp(MachineParts& parts);

/// Runs `monitor` through a pointer that does not say what it is.
template <class Monitor>
AnyMonitor any_monitor(Monitor& monitor, std::span<const std::uint32_t> msrs) {
  return {.monitor = &monitor,
          .run = [](void* self, Vcpu& vcpu) { static_cast<Monitor*>(self)->run(vcpu); },
          .msrs = msrs};
}

}  // namespace accede::emulator
