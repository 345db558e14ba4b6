// Building the emulator in the memory that the launcher reserved, and taking over the processor.

#include "accede/emulator/takeover.hpp"

#include "accede/emulator/arena.hpp"
#include "accede/emulator/console.hpp"
#include "accede/emulator/cpu.hpp"
#include "accede/emulator/guest_state.hpp"
#include "accede/emulator/monitor.hpp"
#include "accede/emulator/world_switch.hpp"

#include <algorithm>

namespace accede::emulator {

using namespace std::string_view_literals;
namespace {

constexpr std::size_t kEvents = 128 * 1024;
constexpr Bytes kStackBytes = 64_KiB;
constexpr PhysWindow kIdentity{};

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

/// Everything that lives as long as the machine, in construction order.
struct Emulator {
  RangeList ram;      ///< without the emulator's own memory: the guest must never get that
  RangeList pending;  ///< likewise
  PermissionMaps* maps = nullptr;
  VcpuPages* vcpu_pages = nullptr;
  Monitor* monitor = nullptr;
  Reporter* reporter = nullptr;
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

/// Calls `use` with the parts of `range` that no range of `holes` (sorted) covers.
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
        !for_each_part(*range, holes, [&](PhysRange part) { return list.add(part); })) {
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

/// Builds everything but the vCPU. Null when the memory is too small.
class Builder {
 public:
  Builder(const LaunchInfo& info, Arena& arena, Emulator& emulator, PhysRange hidden)
      : info_{info},
        arena_{arena},
        emulator_{emulator},
        ram_{emulator.ram.view()},
        pending_{emulator.pending.view()},
        hidden_{hidden} {}

  [[nodiscard]] bool build() {
    const auto report = arena_.take(Bytes{Reporter::area_bytes(kEvents)}, 4_KiB);
    if (report.empty()) {
      return false;
    }
    emulator_.report_bytes = report.size();
    emulator_.reporter = arena_.create<Reporter>(report, info_.log_events != 0);
    emulator_.maps = arena_.create<PermissionMaps>();
    emulator_.vcpu_pages = arena_.create<VcpuPages>();
    machine_ = arena_.create<MachineMap>(ram_, hidden_);
    if (emulator_.reporter == nullptr || emulator_.maps == nullptr ||
        emulator_.vcpu_pages == nullptr || machine_ == nullptr) {
      return false;
    }
    describe_machine();
    return build_memory() && build_monitor() && adopt_memory();
  }

 private:
  void describe_machine() {
    ReportHeader& header = emulator_.reporter->header();
    header.tsc_hz = info_.tsc_hz;
    header.lazy_bytes = total(pending_).value();
    header.hidden_bytes = hidden_.size().value();
    header.launch_bytes = (total(ram_) - total(pending_)).value();
  }

  [[nodiscard]] bool build_memory() {
    const PhysAddr ram_end = ram_.back().end();
    const PhysRange described = *PhysRange::make(PhysAddr{0}, ram_end);
    const auto attribute_storage =
        arena_.take(host::PageAttributes::storage_bound(described), 4_KiB);
    const auto touched_storage = arena_.take(TouchedPages::storage_bound(ram_end), 4_KiB);
    auto* const attributes = attribute_storage.empty() ? nullptr
                                                       : arena_.create<host::PageAttributes>(
                                                             described, attribute_storage);
    // What is left goes half to secure EPT tables, half to nested tables; small objects follow.
    constexpr Bytes kSmallObjects = 64_KiB;
    if (attributes == nullptr || touched_storage.empty() || arena_.left() < 2_MiB) {
      return false;
    }
    const Bytes half = Bytes{(arena_.left() - kSmallObjects).value() / 2 / 4096 * 4096 - 8192};
    const auto sept_storage = arena_.take_range(half, 4_KiB);
    const auto table_storage = arena_.take_range(half, 4_KiB);
    if (!sept_storage || !table_storage) {
      return false;
    }
    const std::span sept_bytes{reinterpret_cast<std::byte*>(sept_storage->begin().value()),
                               static_cast<std::size_t>(sept_storage->size().value())};
    const host::SecureEptConfig sept_config{.gpa_width = TdxModule::kGpaw,
                                            .pending_ve_disable = info_.stop_on_unaccepted != 0,
                                            .page_release = false};
    sept_ = arena_.create<host::SecureEpt>(sept_config, sept_bytes);
    pool_ = arena_.create<PagePool>(kIdentity, table_storage->begin(), table_storage->end());
    touched_ = arena_.create<TouchedPages>(std::span{
        reinterpret_cast<std::uint64_t*>(touched_storage.data()), touched_storage.size() / 8});
    if (sept_ == nullptr || pool_ == nullptr || touched_ == nullptr || sept_->finalize() != 0) {
      return false;
    }
    memory_ = arena_.create<host::TdMemory>(
        *sept_, *attributes, ram_,
        info_.back_with_4k != 0 ? host::Backing::k4K : host::Backing::k2M, Bytes{0});
    const std::optional<PhysAddr> root = pool_->allocate();
    tables_ = root ? arena_.create<NestedPageTable>(kIdentity, *pool_, *root) : nullptr;
    return memory_ != nullptr && tables_ != nullptr;
  }

  [[nodiscard]] bool build_monitor() {
    Reporter& reporter = *emulator_.reporter;
    // accept_cost_ns is at most 1e9 and tsc_hz below 2^34: the product fits.
    const AcceptCost cost{info_.accept_cost_ns * info_.tsc_hz / 1'000'000'000};
    pages_ = arena_.create<GuestPages>(kIdentity, *machine_, *memory_, *touched_, *tables_,
                                       reporter, cost);
    auto* const guest = arena_.create<GuestMemory>(kIdentity, *machine_, *tables_);
    if (pages_ == nullptr || guest == nullptr) {
      return false;
    }
    auto* const vmcalls = arena_.create<VmcallHandler>(*machine_, *pages_, reporter);
    const TdxModule::Config config{.sept_ve_disable = info_.stop_on_unaccepted != 0,
                                   .vcpus = 1,
                                   .tsc_hz = info_.tsc_hz,
                                   .xfam = cpu::cpuid(0xD, 0).eax};
    if (vmcalls == nullptr) {
      return false;
    }
    auto* const module = arena_.create<TdxModule>(config, *pages_, *guest, *vmcalls, reporter);
    emulator_.monitor =
        module == nullptr ? nullptr : arena_.create<Monitor>(*module, *pages_, *guest, reporter);
    return emulator_.monitor != nullptr;
  }

  /// What is in use at launch is accepted as it is; what is pending is not there yet.
  [[nodiscard]] bool adopt_memory() {
    for (const PhysRange& range : ram_) {
      const bool adopted =
          for_each_part(range, pending_, [&](PhysRange in_use) { return pages_->adopt(in_use); });
      if (!adopted) {
        return false;
      }
    }
    return pages_->map_low_devices();
  }

 public:
  [[nodiscard]] NestedPageTable& tables() { return *tables_; }

 private:
  const LaunchInfo& info_;
  Arena& arena_;
  Emulator& emulator_;
  std::span<const PhysRange> ram_;
  std::span<const PhysRange> pending_;
  PhysRange hidden_;
  MachineMap* machine_ = nullptr;
  host::SecureEpt* sept_ = nullptr;
  host::TdMemory* memory_ = nullptr;
  TouchedPages* touched_ = nullptr;
  PagePool* pool_ = nullptr;
  NestedPageTable* tables_ = nullptr;
  GuestPages* pages_ = nullptr;
};

Vcpu* prepare_vcpu(Emulator& emulator, const NestedPageTable& tables, const LaunchFrame& frame) {
  VcpuPages& pages = *emulator.vcpu_pages;
  Vcpu& vcpu = pages.vcpu;
  vcpu.stack_top = reinterpret_cast<std::uintptr_t>(&pages.stack) + pages.stack.size();
  vcpu.vmcb = &pages.vmcb;
  vcpu.vmcb_pa = reinterpret_cast<std::uintptr_t>(&pages.vmcb);
  vcpu.idle_vmcb_pa = reinterpret_cast<std::uintptr_t>(&pages.idle_vmcb);
  emulator.maps->build(kReportPort);
  set_intercepts(pages.vmcb.control, *emulator.maps, tables.root().value());
  capture_caller(vcpu, frame);
  pages.host.build();
  cpu::write_msr(kMsrEfer, cpu::read_msr(kMsrEfer) | kEferSvme);
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
      info->ram_count > LaunchInfo::kMaxRanges || info->pending_count > LaunchInfo::kMaxRanges) {
    return number(EntryError::kBadLaunchInfo);
  }
  if (!has_svm()) {
    return number(EntryError::kNoSvm);
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
  Builder builder{*info, arena, *emulator, *hidden};
  if (!builder.build()) {
    return number(EntryError::kNoMemory);
  }
  g_emulator = emulator;
  return reinterpret_cast<std::intptr_t>(prepare_vcpu(*emulator, builder.tables(), *frame));
}

void emulator_start(Vcpu* vcpu) {
  VcpuPages& pages = *g_emulator->vcpu_pages;
  // GIF stays clear from here on: interrupts and NMIs wait for the guest.
  asm volatile("clgi");
  pages.host.enter();
  build_idle_guest(pages.idle_vmcb, *g_emulator->maps);
  ReportHeader& header = g_emulator->reporter->header();
  header.tsc_takeover = cpu::read_tsc();
  JsonLine line{"takeover"sv};
  write_report(line.hex("report_gpa"sv, reinterpret_cast<std::uintptr_t>(&header))
                   .number("report_bytes"sv, g_emulator->report_bytes));
  g_emulator->monitor->run(*vcpu);
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
