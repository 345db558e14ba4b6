#include "accede/emulator/machine_builder.hpp"

namespace accede::emulator {

Bytes small_parts(const MachineParts& parts) {
  constexpr Bytes kSmallObjects = 64_KiB;
  return host::PageAttributes::storage_bound(parts.described()) +
         TouchedPages::storage_bound(parts.ram.back().end()) + kSmallObjects;
}

bool build_view(MachineParts& parts, Bytes table_bytes, ViewBit view_bit) {
  Arena& arena = parts.arena;
  const PhysAddr ram_end = parts.ram.back().end();
  const auto attribute_storage =
      arena.take(host::PageAttributes::storage_bound(parts.described()), 4_KiB);
  const auto touched_storage = arena.take(TouchedPages::storage_bound(ram_end), 4_KiB);
  const auto table_storage = arena.take_range(table_bytes, 4_KiB);
  if (attribute_storage.empty() || touched_storage.empty() || !table_storage) {
    return false;
  }
  parts.attributes = arena.create<host::PageAttributes>(parts.described(), attribute_storage);
  auto* const pool =
      arena.create<PagePool>(kIdentity, table_storage->begin(), table_storage->end());
  auto* const touched = arena.create<TouchedPages>(std::span{
      reinterpret_cast<std::uint64_t*>(touched_storage.data()), touched_storage.size() / 8});
  const std::optional<PhysAddr> root = pool == nullptr ? std::nullopt : pool->allocate();
  if (parts.attributes == nullptr || touched == nullptr || !root) {
    return false;
  }
  // Firmware ran below 4 GiB before anything was pending there: what it gave back is not zero.
  constexpr auto kLow = PhysRange::make(PhysAddr{}, 4_GiB);
  for (const PhysRange& pending : parts.pending) {
    touched->mark(pending.intersect(*kLow));
  }
  parts.tables = arena.create<NestedPageTable>(kIdentity, *pool, *root, view_bit);
  if (parts.tables == nullptr) {
    return false;
  }
  // accept_cost_ns is at most 1e9 and tsc_hz below 2^34: the product fits.
  const AcceptCost cost{parts.info.accept_cost_ns * parts.info.tsc_hz / 1'000'000'000};
  parts.view = arena.create<GuestView>(kIdentity, parts.machine, *touched, *parts.tables,
                                       parts.reporter, cost);
  parts.memory = arena.create<GuestMemory>(kIdentity, parts.machine, *parts.tables);
  return parts.view != nullptr && parts.memory != nullptr;
}

bool adopt_memory(const MachineParts& parts, FunctionRef<bool(PhysRange)> adopt) {
  for (const PhysRange& range : parts.ram) {
    if (!for_each_gap(range, parts.pending, adopt)) {
      return false;
    }
  }
  return parts.view->map_low_devices();
}

}  // namespace accede::emulator
