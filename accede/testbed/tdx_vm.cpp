#include "accede/testbed/tdx_vm.hpp"

#include "accede/abi/tdx.hpp"

#include <algorithm>
#include <span>

namespace accede::testbed {

using namespace std::string_view_literals;
namespace {

using abi::tdx::Operand;
using abi::tdx::PageOperand;
using abi::tdx::SeptLevel;
using abi::tdx::SeptState;
using abi::tdx::Status;
using abi::tdx::status;
using abi::tdx::TdcallLeaf;
using abi::tdx::VmcallMask;
using abi::tdx::VmcallStatus;
using host::AcceptOutcome;
using host::AcceptOutcomeKind;
using host::HostileAct;
using host::HostileDeed;
using host::HostileEvent;
using host::TouchKind;
using Gpr = CpuState::Gpr;

constexpr unsigned kTdcallBytes = 4;

/// The page that an operand names, for the script; 4 KiB when its level is not legal.
PhysRange page_of(std::uint64_t rcx) {
  const auto level = PageOperand::Level::get(rcx);
  return PhysRange::page(PageOperand::gpa(rcx),
                         level <= 2 ? static_cast<PageSize>(level) : PageSize::k4K);
}

/// The pages that a MapGPA names, for the script; empty when the request is none.
PhysRange pages_of(std::uint64_t start, std::uint64_t size) {
  constexpr std::uint64_t shared = abi::tdx::shared_bit(TdxVm::kGpaWidth);
  return PhysRange::make(PhysAddr{start & ~shared}, Bytes{size}).value_or(PhysRange{});
}

StopCause cause_of(AcceptOutcomeKind kind) {
  switch (kind) {
    case AcceptOutcomeKind::kSharedPage:
      return StopCause::kSharedPage;
    case AcceptOutcomeKind::kNotRam:
      return StopCause::kNotRam;
    default:
      return StopCause::kOutOfStorage;
  }
}

}  // namespace

std::expected<std::unique_ptr<TdxVm>, std::string> TdxVm::make(const TdxVmConfig& config,
                                                               GuestRam& ram,
                                                               host::HostileScript& script,
                                                               LiveCounters& counters) {
  const std::array<PhysRange, 1> ranges{ram.range()};
  // The worst case: every 2M region differs inside. It costs address space only.
  const std::uint64_t regions = ram.range().size() / 2_MiB + 2;
  Mapping sept = Mapping::anonymous(host::SecureEpt::storage_bound(ranges, kGpaWidth, regions));
  Mapping attributes = Mapping::anonymous(host::PageAttributes::storage_bound(ram.range()));
  if (!sept.valid() || !attributes.valid()) {
    return std::unexpected{std::string{"no address space for the page states"}};
  }
  return std::unique_ptr<TdxVm>{
      new TdxVm{config, ram, script, counters, std::move(sept), std::move(attributes)}};
}

TdxVm::TdxVm(const TdxVmConfig& config, GuestRam& ram, host::HostileScript& script,
             LiveCounters& counters, Mapping sept_storage, Mapping attribute_storage)
    : ram_{ram},
      script_{script},
      counters_{counters},
      vcpus_{config.vcpus},
      ranges_{ram.range()},
      sept_storage_{std::move(sept_storage)},
      attribute_storage_{std::move(attribute_storage)},
      sept_{{.gpa_width = kGpaWidth, .page_release = config.page_release}, sept_storage_.bytes()},
      attributes_{ram.range(), attribute_storage_.bytes()},
      memory_{sept_, attributes_, ranges_, config.backing, Bytes{0}} {
  (void)sept_.finalize();  // of a tree that is new: cannot fail
}

/// Runs `body` with hooks that keep the window in step with the model. No vCPU has a TLB of its own
/// to flush: the kernel flushes as it unmaps.
template <class Body>
auto TdxVm::with_hooks(Body&& body) {
  auto mapped = [&](PhysAddr gpa, PhysAddr /*hpa*/, PageSize size) {
    ram_.open(PhysRange::page(gpa, size));
  };
  auto gone = [&](PhysRange pages) { ram_.drop(pages); };
  auto augmented = [&](PhysAddr /*gpa*/, PageSize size) {
    LiveCounters::add(counters_.host_added_bytes, bytes(size).value());
  };
  auto kick = [] {};
  return body(host::TdMemoryHooks{.mapped = mapped,
                                  .private_gone = gone,
                                  .shared_gone = gone,
                                  .augmented = augmented,
                                  .kick_vcpus = kick});
}

StopReport TdxVm::report(StopCause cause, PhysAddr gpa) const {
  const host::PageReport page = memory_.state_of(gpa);
  std::string_view state = abi::tdx::name_of(page.entry.state);
  if (!page.ram) {
    state = "no RAM"sv;
  } else if (page.attribute == host::PageAttribute::kShared) {
    state = "shared"sv;
  }
  return {.cause = cause, .gpa = gpa, .state = state};
}

void TdxVm::complete(CpuState& cpu, std::uint64_t rax) {
  cpu.set(Gpr::kRax, rax);
  cpu.advance(kTdcallBytes);
  LiveCounters::add(counters_.instructions);
}

std::optional<StopReport> TdxVm::tdcall(CpuState& cpu) {
  const std::uint64_t rax = cpu.get(Gpr::kRax);
  // Reserved bits and versions count as part of the leaf: none of ours has any.
  switch (rax <= 0xFFFF ? static_cast<TdcallLeaf>(rax) : TdcallLeaf{0xFFFF}) {
    case TdcallLeaf::kVpVmcall:
      return vmcall(cpu);
    case TdcallLeaf::kVpInfo:
      vp_info(cpu);
      return std::nullopt;
    case TdcallLeaf::kMemPageAccept:
      return accept(cpu);
    case TdcallLeaf::kMemPageRelease:
      return release(cpu);
    default:
      complete(cpu, status(Status::kOperandInvalid, Operand::kRax));
      return std::nullopt;
  }
}

void TdxVm::vp_info(CpuState& cpu) {
  cpu.set(Gpr::kRcx, kGpaWidth);
  cpu.set(Gpr::kRdx, abi::tdx::kAttributeSeptVeDisable);
  cpu.set(Gpr::kR8, (std::uint64_t{vcpus_} << 32) | vcpus_);
  cpu.set(Gpr::kR9, 0);  // threads come and go: they have no index
  cpu.set(Gpr::kR10, 0);
  cpu.set(Gpr::kR11, 0);
  complete(cpu, 0);
}

// --- MEM.PAGE.ACCEPT and MEM.PAGE.RELEASE ---

void TdxVm::count_accept(const AcceptOutcome& outcome) {
  if (outcome.rax != 0) {
    return LiveCounters::add(counters_.refused);
  }
  LiveCounters::add(outcome.size == PageSize::k4K ? counters_.accepts_4k : counters_.accepts_2m);
  LiveCounters::add(counters_.accepted_bytes, outcome.bytes.value());
}

std::optional<StopReport> TdxVm::finish(CpuState& cpu, const AcceptOutcome& outcome) {
  switch (outcome.kind) {
    case AcceptOutcomeKind::kCompleted:
      complete(cpu, outcome.rax);
      return std::nullopt;
    case AcceptOutcomeKind::kInterrupted:
      return std::nullopt;
    default:
      return report(cause_of(outcome.kind), outcome.gpa);
  }
}

std::optional<StopReport> TdxVm::accept(CpuState& cpu) {
  const AcceptUnderWay under_way{counters_};
  const std::uint64_t rcx = cpu.get(Gpr::kRcx);
  const HostileDeed deed = script_.consult(HostileEvent::kAccept, page_of(rcx));
  if (const std::optional<std::uint64_t> lie = host::accept_lie(deed, rcx)) {
    LiveCounters::add(counters_.refused);
    complete(cpu, *lie);
    return std::nullopt;
  }
  if (deed.act == HostileAct::kBackSmall) {
    back_small(PageOperand::gpa(rcx));
  }
  const AcceptOutcome outcome = with_hooks([&](const host::TdMemoryHooks& hooks) {
    return memory_.accept(rcx, [](PhysAddr) {}, [] { return false; }, hooks);
  });
  if (outcome.kind == AcceptOutcomeKind::kCompleted) {
    count_accept(outcome);
  }
  if (deed.act == HostileAct::kReplace) {
    replace(deed.target);
  }
  return finish(cpu, outcome);
}

std::optional<StopReport> TdxVm::release(CpuState& cpu) {
  const AcceptOutcome outcome = with_hooks(
      [&](const host::TdMemoryHooks& hooks) { return memory_.release(cpu.get(Gpr::kRcx), hooks); });
  if (outcome.kind == AcceptOutcomeKind::kCompleted) {
    cpu.set(Gpr::kRcx, outcome.rcx);
    LiveCounters::add(counters_.released_bytes, outcome.bytes.value());
  }
  return finish(cpu, outcome);
}

// --- VP.VMCALL ---

std::optional<StopReport> TdxVm::vmcall(CpuState& cpu) {
  const std::uint64_t mask = cpu.get(Gpr::kRcx);
  if (VmcallMask::Reserved::get(mask) != 0 || (mask & VmcallMask::kForbidden) != 0) {
    complete(cpu, status(Status::kOperandInvalid, Operand::kRcx));
    return std::nullopt;
  }
  const auto seen = [&](Gpr gpr) { return VmcallMask::exposes(mask, gpr) ? cpu.get(gpr) : 0; };
  if (seen(Gpr::kR10) == 0 &&
      seen(Gpr::kR11) == static_cast<std::uint64_t>(abi::tdx::Vmcall::kMapGpa)) {
    return map_gpa(cpu);
  }
  if (VmcallMask::exposes(mask, Gpr::kR10)) {
    cpu.set(Gpr::kR10, static_cast<std::uint64_t>(VmcallStatus::kSubfuncUnsupported));
  }
  complete(cpu, 0);
  return std::nullopt;
}

std::optional<StopReport> TdxVm::map_gpa(CpuState& cpu) {
  const std::uint64_t mask = cpu.get(Gpr::kRcx);
  const auto seen = [&](Gpr gpr) { return VmcallMask::exposes(mask, gpr) ? cpu.get(gpr) : 0; };
  const auto answer = [&](std::uint64_t r10, std::uint64_t r11) {
    cpu.set(Gpr::kR10, r10);
    cpu.set(Gpr::kR11, r11);
    complete(cpu, 0);
    return std::nullopt;
  };
  const std::uint64_t start = seen(Gpr::kR12);
  const std::uint64_t size = seen(Gpr::kR13);
  LiveCounters::add(counters_.conversions);
  const HostileDeed deed = script_.consult(HostileEvent::kConvert, pages_of(start, size));
  if (const std::optional<host::MapGpaLie> lie = host::map_gpa_lie(deed, start, size)) {
    return answer(lie->r10, lie->r11);
  }
  const bool partly = deed.act == HostileAct::kPartly && deed.value < size;
  const std::uint64_t done = partly ? deed.value : size;
  const host::MapGpaOutcome outcome = with_hooks(
      [&](const host::TdMemoryHooks& hooks) { return memory_.map_gpa(start, done, hooks); });
  if (outcome.kind == host::MapGpaKind::kOutOfStorage) {
    return report(StopCause::kOutOfStorage, pages_of(start, size).begin());
  }
  LiveCounters::add(counters_.to_shared_bytes, outcome.to_shared.value());
  LiveCounters::add(counters_.to_private_bytes, outcome.to_private.value());
  if (deed.act == HostileAct::kReplace) {
    replace(deed.target);
  }
  if (partly && outcome.r10 == VmcallStatus::kSuccess) {
    return answer(static_cast<std::uint64_t>(VmcallStatus::kRetry), start + done);
  }
  return answer(static_cast<std::uint64_t>(outcome.r10), outcome.r11);
}

// --- Touches ---

std::optional<StopReport> TdxVm::touch(PhysAddr gpa) {
  return with_hooks([&](const host::TdMemoryHooks& hooks) -> std::optional<StopReport> {
    host::Touch touched = memory_.touch_private(gpa, hooks);
    if (touched.kind == TouchKind::kSharedPage) {
      touched = memory_.touch_shared(gpa, [&](PhysAddr page, PhysAddr /*hpa*/) {
        ram_.open(PhysRange::page(page, PageSize::k4K));
      });
    }
    switch (touched.kind) {
      case TouchKind::kMapped:
      case TouchKind::kShared:
      case TouchKind::kRetry:
      case TouchKind::kPrivatePage:  // converted since it was found shared: look again
        return std::nullopt;
      case TouchKind::kOutOfStorage:
        return report(StopCause::kOutOfStorage, gpa);
      default:
        return report(StopCause::kTouch, gpa);
    }
  });
}

// --- What a hostile host does ---

void TdxVm::back_small(PhysAddr gpa) {
  const PhysAddr large = gpa.align_down(2_MiB);
  const auto view = sept_.lookup(large);
  if (!view.has_value() || !ram_.range().contains(PhysRange::page(large, PageSize::k2M))) {
    return;
  }
  if (view->level == SeptLevel::k2M && view->state == SeptState::kPending) {
    (void)sept_.range_block(large, SeptLevel::k2M);
    (void)sept_.track();
    (void)sept_.page_demote(large, SeptLevel::k2M);
    return;
  }
  for (const SeptLevel level : {SeptLevel::k512G, SeptLevel::k1G, SeptLevel::k2M}) {
    (void)sept_.sept_add(large.align_down(abi::tdx::level_bytes(level)), level);
  }
  (void)sept_.page_aug(large, SeptLevel::k4K, memory_.hpa_of(large));
}

void TdxVm::replace(PhysRange pages) {
  constexpr std::uint64_t shared = abi::tdx::shared_bit(kGpaWidth);
  const PhysRange ram = pages.intersect(ram_.range());
  with_hooks([&](const host::TdMemoryHooks& hooks) {
    const auto all_to = [&](std::uint64_t view) {
      // RETRY: a vCPU holds one of the pages. It lets go of it; nothing else can happen, as there
      // is storage for every case.
      while (memory_.map_gpa(ram.begin().value() | view, ram.size().value(), hooks).r10 ==
             VmcallStatus::kRetry) {
        __builtin_ia32_pause();
      }
    };
    all_to(shared);
    all_to(0);
    for (PhysAddr gpa = ram.begin(); gpa < ram.end();) {
      (void)memory_.touch_private(gpa, hooks);
      const Bytes size =
          abi::tdx::level_bytes(std::min(memory_.state_of(gpa).entry.level, SeptLevel::k2M));
      gpa = gpa.align_down(size) + size;
    }
  });
}

}  // namespace accede::testbed
