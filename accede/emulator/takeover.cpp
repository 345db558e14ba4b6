// The emulator's entry: checks what the launcher says, builds, takes over the processor.

#include "accede/emulator/takeover.hpp"

#include "accede/emulator/console.hpp"
#include "accede/emulator/cpu.hpp"
#include "accede/emulator/firmware_tables.hpp"
#include "accede/emulator/guest_state.hpp"
#include "accede/emulator/host_context.hpp"
#include "accede/emulator/machine_builder.hpp"
#include "accede/emulator/world_switch.hpp"

#include <algorithm>

namespace accede::emulator {

using namespace std::string_view_literals;
namespace {

constexpr std::size_t kEvents = 128 * 1024;
constexpr Bytes kStackBytes = 64_KiB;

/// One CPU's pages. The VMCBs and the host save area must be page aligned.
struct alignas(4096) VcpuPages {
  Vmcb vmcb;
  Vmcb idle_vmcb;
  std::array<std::byte, 4096> host_save_area;
  std::array<std::byte, kStackBytes.value()> stack;
  HostContext host;
  Vcpu vcpu;
};

/// A sorted list of disjoint ranges.
struct RangeList {
  std::array<PhysRange, LaunchInfo::kMaxRanges + 1> ranges;
  std::size_t count = 0;

  [[nodiscard]] bool add(PhysRange range) {
    if (count == ranges.size()) {
      return false;
    }
    ranges[count++] = range;
    return true;
  }
  [[nodiscard]] std::span<const PhysRange> view() const { return {ranges.data(), count}; }
};

/// Everything that lives as long as the machine.
struct Emulator {
  RangeList ram;      ///< without the emulator's own memory: the guest must never get that
  RangeList pending;  ///< likewise
  Personality personality = Personality::kTdx;
  PermissionMaps* maps = nullptr;
  VcpuPages* vcpu_pages = nullptr;
  Reporter* reporter = nullptr;
  const MachineMap* machine = nullptr;
  AnyMonitor monitor;
  std::uint64_t report_bytes = 0;
};

// Exceptions and world_switch.S arrive without context; one emulator runs on one machine.
Emulator* g_emulator = nullptr;

std::int64_t number(EntryError error) {
  return static_cast<std::int64_t>(error);
}

bool has_svm() {
  constexpr std::uint32_t kExtendedFeatures = 0x8000'0001;
  constexpr std::uint32_t kSvmFeatures = 0x8000'000A;
  return cpu::cpuid(0x8000'0000, 0).eax >= kSvmFeatures &&
         (cpu::cpuid(kExtendedFeatures, 0).ecx & (1U << 2)) != 0 &&
         (cpu::cpuid(kSvmFeatures, 0).edx & 1U) != 0;
}

/// The ranges of `from` without `hidden`; nothing when they are not sorted, disjoint, page aligned
/// and not empty.
std::optional<RangeList> checked_ranges(std::span<const LaunchInfo::Range> from, PhysRange hidden) {
  RangeList list;
  PhysAddr last;
  const std::array<PhysRange, 1> holes{hidden};
  for (const LaunchInfo::Range& raw : from) {
    const auto range = PhysRange::make(PhysAddr{raw.begin}, PhysAddr{raw.end});
    if (!range || range->empty() || range->begin() < last || !range->begin().is_aligned(4_KiB) ||
        !range->end().is_aligned(4_KiB) ||
        !for_each_gap(*range, holes, [&](PhysRange part) { return list.add(part); })) {
      return std::nullopt;
    }
    last = range->end();
  }
  return list;
}

Bytes total(std::span<const PhysRange> ranges) {
  Bytes sum;
  for (const PhysRange& range : ranges) {
    sum += range.size();
  }
  return sum;
}

void describe_machine(Emulator& emulator, const LaunchInfo& info, PhysRange hidden) {
  ReportHeader& header = emulator.reporter->header();
  const Bytes pending = total(emulator.pending.view());
  header.tsc_hz = info.tsc_hz;
  header.lazy_bytes = pending.value();
  header.hidden_bytes = hidden.size().value();
  header.launch_bytes = (total(emulator.ram.view()) - pending).value();
}

/// Everything but the vCPU's state. The root of the nested tables, or nothing when the memory is
/// too small.
std::optional<PhysAddr> build(Emulator& emulator, const LaunchInfo& info, Arena& arena,
                              PhysRange hidden) {
  const auto report = arena.take(Bytes{Reporter::area_bytes(kEvents)}, 4_KiB);
  if (report.empty()) {
    return std::nullopt;
  }
  emulator.report_bytes = report.size();
  emulator.reporter = arena.create<Reporter>(report, info.log_events != 0);
  emulator.maps = arena.create<PermissionMaps>();
  emulator.vcpu_pages = arena.create<VcpuPages>();
  auto* const machine = arena.create<MachineMap>(emulator.ram.view(), hidden);
  if (emulator.reporter == nullptr || emulator.maps == nullptr || emulator.vcpu_pages == nullptr ||
      machine == nullptr) {
    return std::nullopt;
  }
  emulator.machine = machine;
  describe_machine(emulator, info, hidden);
  MachineParts parts{.info = info,
                     .arena = arena,
                     .ram = emulator.ram.view(),
                     .pending = emulator.pending.view(),
                     .reporter = *emulator.reporter,
                     .machine = *machine,
                     .vcpu = emulator.vcpu_pages->vcpu};
  const auto monitor =
      emulator.personality == Personality::kSnp ? build_snp(parts) : build_tdx(parts);
  if (!monitor) {
    return std::nullopt;
  }
  emulator.monitor = *monitor;
  return parts.tables->root();
}

Vcpu* prepare_vcpu(Emulator& emulator, PhysAddr nested_root, const LaunchFrame& frame) {
  VcpuPages& pages = *emulator.vcpu_pages;
  Vcpu& vcpu = pages.vcpu;
  vcpu.stack_top = reinterpret_cast<std::uintptr_t>(&pages.stack) + pages.stack.size();
  vcpu.vmcb = &pages.vmcb;
  vcpu.vmcb_pa = reinterpret_cast<std::uintptr_t>(&pages.vmcb);
  vcpu.idle_vmcb_pa = reinterpret_cast<std::uintptr_t>(&pages.idle_vmcb);
  emulator.maps->build(kReportPort, emulator.monitor.msrs);
  set_intercepts(pages.vmcb.control, *emulator.maps, nested_root.value());
  capture_caller(vcpu, frame);
  pages.host.build();
  // NXE: without it nested page faults do not tell fetches from reads.
  cpu::write_msr(kMsrEfer, cpu::read_msr(kMsrEfer) | kEferSvme | kEferNxe);
  cpu::write_msr(kMsrVmHsavePa, reinterpret_cast<std::uintptr_t>(&pages.host_save_area));
  return &vcpu;
}

}  // namespace
}  // namespace accede::emulator

using namespace accede;
using namespace std::string_view_literals;
using namespace accede::emulator;

std::int64_t emulator_prepare(const LaunchInfo* info, LaunchFrame* frame) {
  if (info->version != LaunchInfo::kVersion || info->ram_count == 0 ||
      info->ram_count > LaunchInfo::kMaxRanges || info->pending_count > LaunchInfo::kMaxRanges ||
      (info->personality != Personality::kTdx && info->personality != Personality::kSnp)) {
    return number(EntryError::kBadLaunchInfo);
  }
  if (!has_svm()) {
    return number(EntryError::kNoSvm);
  }
  constexpr std::uint64_t kCr4La57 = 1ULL << 12;
  if (info->personality == Personality::kSnp && (cpu::read_cr4() & kCr4La57) != 0) {
    return number(EntryError::kFiveLevels);
  }
  const auto hidden = PhysRange::make(PhysAddr{info->hidden.begin}, PhysAddr{info->hidden.end});
  if (!hidden || info->image.end > info->hidden.end || info->image.end < info->hidden.begin) {
    return number(EntryError::kBadLaunchInfo);
  }
  Arena arena{*PhysRange::make(PhysAddr{info->image.end}, hidden->end())};
  auto* const emulator = arena.create<Emulator>();
  if (emulator == nullptr) {
    return number(EntryError::kNoMemory);
  }
  const auto ram = checked_ranges({info->ram.data(), info->ram_count}, *hidden);
  const auto pending = checked_ranges({info->pending.data(), info->pending_count}, *hidden);
  if (!ram || ram->count == 0 || !pending) {
    return number(EntryError::kBadLaunchInfo);
  }
  emulator->ram = *ram;
  emulator->pending = *pending;
  if (ram->view().back().end() > kHostMapEnd) {
    return number(EntryError::kMemoryTooHigh);
  }
  emulator->personality = info->personality;
  const std::optional<PhysAddr> nested_root = build(*emulator, *info, arena, *hidden);
  if (!nested_root) {
    return number(EntryError::kNoMemory);
  }
  g_emulator = emulator;
  return reinterpret_cast<std::intptr_t>(prepare_vcpu(*emulator, *nested_root, *frame));
}

void emulator_start(Vcpu* vcpu) {
  VcpuPages& pages = *g_emulator->vcpu_pages;
  // GIF stays clear from here on: interrupts and NMIs wait for the guest.
  asm volatile("clgi");
  pages.host.enter();
  build_idle_guest(pages.idle_vmcb, *g_emulator->maps);
  if (g_emulator->personality == Personality::kSnp) {
    // The firmware could do this by itself only before memory has an encryption bit.
    set_c_bit(kIdentity, PhysAddr{vcpu->save().cr3}, *g_emulator->machine);
  }
  ReportHeader& header = g_emulator->reporter->header();
  header.tsc_takeover = cpu::read_tsc();
  JsonLine line{"takeover"sv};
  write_report(line.hex("report_gpa"sv, reinterpret_cast<std::uintptr_t>(&header))
                   .number("report_bytes"sv, g_emulator->report_bytes));
  g_emulator->monitor.run(g_emulator->monitor.monitor, *vcpu);
  cpu::stop_for_ever();
}

void emulator_exception(std::uint64_t vector, std::uint64_t rip, std::uint64_t cr2) {
  write_serial(EventKind::kEmulatorBug, cr2, rip, "an exception inside the emulator"sv);
  JsonLine line{"fault"sv};
  write_report(line.text("kind"sv, name(EventKind::kEmulatorBug))
                   .hex("gpa"sv, cr2)
                   .hex("rip"sv, rip)
                   .number("vector"sv, vector)
                   .text("state"sv, "inside the emulator"sv)
                   .text("message"sv, "an exception inside the emulator: a bug of accede"sv));
  cpu::stop_for_ever();
}
