// A machine whose guest is an SEV-SNP guest.

#include "accede/emulator/machine_builder.hpp"
#include "accede/emulator/monitor.hpp"
#include "accede/emulator/snp_processor.hpp"

namespace accede::emulator {
namespace {

constexpr std::uint32_t kAsid = 1;

/// The guest's memory as its host keeps it.
host::SnpMemory* build_memory(MachineParts& parts) {
  Arena& arena = parts.arena;
  const auto rmp_storage = arena.take(host::Rmp::storage_bound(parts.described()), 4_KiB);
  const Bytes others = small_parts(parts);
  if (rmp_storage.empty() || arena.left() < others + 2_MiB) {
    return nullptr;
  }
  const Bytes tables = Bytes{(arena.left() - others).value() / 4096 * 4096 - 16384};
  if (!build_view(parts, tables, ViewBit::kPrivate)) {
    return nullptr;
  }
  auto* const rmp = arena.create<host::Rmp>(parts.described(), rmp_storage);
  const host::SnpMemoryConfig config{.asid = kAsid, .backing = backing_of(parts.info)};
  return rmp == nullptr ? nullptr
                        : arena.create<host::SnpMemory>(*rmp, *parts.attributes, parts.ram, config);
}

}  // namespace

std::optional<AnyMonitor> build_snp(MachineParts& parts) {
  Arena& arena = parts.arena;
  host::SnpMemory* const memory = build_memory(parts);
  const SnpPages::Config config{.stop_on_unaccepted = parts.info.stop_on_unaccepted != 0};
  auto* const pages =
      memory == nullptr ? nullptr : arena.create<SnpPages>(config, *parts.view, *memory);
  if (pages == nullptr) {
    return std::nullopt;
  }
  auto* const own =
      arena.create<SnpVcpu>(parts.vcpu, DeviceAccess{parts.machine}, *pages, parts.reporter);
  auto* const by_index = arena.create<std::array<SnpVcpu*, 1>>(std::array{own});
  if (own == nullptr || by_index == nullptr) {
    return std::nullopt;
  }
  auto* const processor = arena.create<SnpProcessor>(*pages, *parts.memory, *by_index);
  auto* const monitor =
      processor == nullptr ? nullptr : arena.create<Monitor<SnpProcessor>>(*processor);
  if (monitor == nullptr ||
      !adopt_memory(parts, [&](PhysRange in_use) { return pages->adopt(in_use); })) {
    return std::nullopt;
  }
  return any_monitor(*monitor, SnpProcessor::kMsrs);
}

}  // namespace accede::emulator
