// A machine whose guest is a TD.

#include "accede/emulator/cpu.hpp"
#include "accede/emulator/machine_builder.hpp"
#include "accede/emulator/monitor.hpp"
#include "accede/emulator/tdx_processor.hpp"

namespace accede::emulator {

std::optional<AnyMonitor> build_tdx(MachineParts& parts) {
  Arena& arena = parts.arena;
  const LaunchInfo& info = parts.info;
  // What the view's small parts leave goes half to secure EPT tables, half to nested tables.
  const Bytes others = small_parts(parts);
  if (arena.left() < others + 2_MiB) {
    return std::nullopt;
  }
  const Bytes half = Bytes{(arena.left() - others).value() / 2 / 4096 * 4096 - 8192};
  const auto sept_storage = arena.take_range(half, 4_KiB);
  if (!sept_storage || !build_view(parts, half, ViewBit::kShared)) {
    return std::nullopt;
  }
  const bool ve_disable = info.stop_on_unaccepted != 0;
  const host::SecureEptConfig sept_config{
      .gpa_width = TdxModule::kGpaw, .pending_ve_disable = ve_disable, .page_release = false};
  auto* const sept = arena.create<host::SecureEpt>(
      sept_config, std::span{reinterpret_cast<std::byte*>(sept_storage->begin().value()),
                             static_cast<std::size_t>(sept_storage->size().value())});
  if (sept == nullptr || sept->finalize() != 0) {
    return std::nullopt;
  }
  auto* const memory =
      arena.create<host::TdMemory>(*sept, *parts.attributes, parts.ram, backing_of(info), Bytes{0});
  auto* const pages = memory == nullptr ? nullptr : arena.create<TdPages>(*parts.view, *memory);
  if (pages == nullptr) {
    return std::nullopt;
  }
  auto* const vmcalls = arena.create<VmcallHandler>(parts.machine, *pages, parts.reporter);
  const TdxModule::Config config{.sept_ve_disable = ve_disable,
                                 .vcpus = 1,
                                 .tsc_hz = info.tsc_hz,
                                 .xfam = cpu::cpuid(0xD, 0).eax};
  auto* const module = vmcalls == nullptr ? nullptr
                                          : arena.create<TdxModule>(config, *pages, *parts.memory,
                                                                    *vmcalls, parts.reporter);
  auto* const processor =
      module == nullptr ? nullptr : arena.create<TdxProcessor>(*module, *pages, *parts.memory);
  auto* const monitor =
      processor == nullptr ? nullptr : arena.create<Monitor<TdxProcessor>>(*processor);
  if (monitor == nullptr ||
      !adopt_memory(parts, [&](PhysRange in_use) { return pages->adopt(in_use); })) {
    return std::nullopt;
  }
  return any_monitor(*monitor, TdxProcessor::kMsrs);
}

}  // namespace accede::emulator
