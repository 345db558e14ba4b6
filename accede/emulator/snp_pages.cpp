#include "accede/emulator/snp_pages.hpp"

#include "accede/abi/rmp.hpp"
#include "accede/emulator/cpu.hpp"

namespace accede::emulator {

using namespace std::string_view_literals;
namespace {

using abi::rmp::RmpEntry;
using abi::rmp::RmpState;
using host::PageAttribute;
using host::RmpVerdict;
using host::SnpPvalidateKind;
using host::SnpTouchKind;

/// What host and guest think of a page, in words, for the report.
std::string_view describe_states(PageAttribute attribute, const RmpEntry& entry) {
  if (attribute == PageAttribute::kShared) {
    return "host: shared; RMP: Hypervisor"sv;
  }
  switch (abi::rmp::state_of(entry)) {
    case RmpState::kHypervisor:
      return "guest: private, never validated; RMP: Hypervisor (not assigned by the host yet)"sv;
    case RmpState::kGuestInvalid:
      return "guest: private; RMP: Guest-Invalid (assigned, not validated)"sv;
    case RmpState::kGuestValid:
      return "host: private; RMP: Guest-Valid"sv;
    default:
      return "host: private; RMP: a state that no guest may use"sv;
  }
}

}  // namespace

/// Runs `body` with hooks that keep the nested tables and the contents in step with the model.
/// `changed` is told which pages got the other visibility.
template <class Body>
auto SnpPages::with_hooks(Body&& body) {
  auto validated = [&](PhysAddr gpa, PhysAddr /*hpa*/, PageSize size) {
    view_.map(View::kPrivate, PhysRange::page(gpa, size));
  };
  auto private_gone = [&](PhysRange range) {
    view_.unmap(View::kPrivate, range);
    aliases_.drop_in(view_, range);
  };
  auto shared_gone = [&](PhysRange range) { view_.unmap(View::kShared, range); };
  // A host clears a page before the guest gets it (KVM: guest_memfd), and what the guest leaves is
  // noise to everybody else: zero stands for it.
  auto assigned = [&](PhysRange range) {
    for (PhysAddr page = range.begin(); page < range.end(); page += 4_KiB) {
      view_.zero_accepted(page);
    }
  };
  auto returned = [&](PhysRange range) { view_.scrub(range); };
  auto reclaim = [](PhysAddr, PageSize) { return false; };
  auto flush_caches = [](PhysRange) {};
  const host::HostDuties duties{.leave_direct_map = assigned,
                                .reclaim = reclaim,
                                .flush_caches = flush_caches,
                                .enter_direct_map = returned};
  auto count_smashed = [&](PhysRange) { Reporter::add(view_.reporter().counters().smashed_pages); };
  const FunctionRef<void(PhysRange)> smashed = count_smashed;
  return body(host::SnpMemoryHooks{.validated = validated,
                                   .private_gone = private_gone,
                                   .shared_gone = shared_gone,
                                   .duties = &duties,
                                   .smashed = &smashed});
}

bool SnpPages::adopt(PhysRange range) {
  view_.map(View::kPrivate, range);
  return memory_.adopt(range).has_value() && !view_.exhausted();
}

bool SnpPages::is_validated(PhysAddr gpa) const {
  return abi::rmp::state_of(memory_.entry(gpa)) == RmpState::kGuestValid;
}

Fault SnpPages::exhausted(PhysAddr gpa) const {
  return GuestView::out_of_storage(gpa,
                                   describe_states(memory_.attribute(gpa), memory_.entry(gpa)));
}

Fault SnpPages::refused(PhysAddr gpa, RmpVerdict verdict) const {
  return {.kind = EventKind::kRmpViolation,
          .gpa = view_.tables().with_view(gpa, View::kPrivate),
          .state = host::name(verdict),
          .message =
              "the RMP forbids this access for good: the page has another owner or is in "sv
              "use by a virtual processor"sv};
}

Fault SnpPages::no_ram(PhysAddr gpa) const {
  if (gpa.value() < NestedPageTable::kViewMask &&
      view_.machine().region(gpa) == Region::kEmulator) {
    return GuestView::emulator_memory(gpa.value());
  }
  return {.kind = EventKind::kBeyondAddressWidth,
          .gpa = gpa.value(),
          .state = "no RAM at this address"sv,
          .message =
              "PVALIDATE or RMPADJUST of an address where the machine has no RAM: check the "sv
              "guest's memory map and guard unit"sv};
}

void SnpPages::report(EventKind kind, const Vcpu& vcpu, PhysAddr gpa, std::uint32_t detail) {
  view_.reporter().violation({.gpa = gpa.value(),
                              .rip = vcpu.save().rip,
                              .count = 1,
                              .kind = kind,
                              .fatal = 0,
                              .vcpu = vcpu.index,
                              .detail = detail});
}

void SnpPages::count_implicit(const Vcpu& vcpu, PhysAddr gpa, View to) {
  Counters& counters = view_.reporter().counters();
  Reporter::add(counters.implicit_conversions);
  Reporter::add(to == View::kShared ? counters.to_shared_bytes : counters.to_private_bytes, 4096);
  report(EventKind::kImplicitConversion, vcpu, gpa, static_cast<std::uint32_t>(to));
}

std::expected<SnpPages::Validation, Fault> SnpPages::pvalidate(Vcpu& vcpu, PhysAddr gpa,
                                                               std::uint32_t ecx, bool validate) {
  const std::uint64_t started = cpu::read_tsc();
  const host::SnpPvalidate outcome = with_hooks([&](const host::SnpMemoryHooks& hooks) {
    return memory_.pvalidate(gpa, ecx, validate, hooks);
  });
  switch (outcome.kind) {
    case SnpPvalidateKind::kNotRam:
      return std::unexpected{no_ram(gpa)};
    case SnpPvalidateKind::kRefused:
      return std::unexpected{refused(gpa, outcome.verdict)};
    case SnpPvalidateKind::kCompleted:
      break;
  }
  if (view_.exhausted()) {
    return std::unexpected{exhausted(gpa)};
  }
  if (outcome.converted) {
    count_implicit(vcpu, gpa, View::kPrivate);
  }
  count_validation(vcpu, gpa, ecx, validate, outcome, started);
  return Validation{static_cast<std::uint32_t>(outcome.code), outcome.carry};
}

void SnpPages::count_validation(Vcpu& vcpu, PhysAddr gpa, std::uint32_t ecx, bool validate,
                                const host::SnpPvalidate& outcome, std::uint64_t started) {
  using abi::rmp::PvalidateCode;
  Counters& counters = view_.reporter().counters();
  const PageSize size = ecx == abi::rmp::kSize2M ? PageSize::k2M : PageSize::k4K;
  if (outcome.code == PvalidateCode::kFailSizeMismatch) {
    // Not a fault of the guest: the host backs the page in smaller pieces.
    Reporter::add(counters.size_mismatch);
  } else if (outcome.code != PvalidateCode::kSuccess) {
    Reporter::add(counters.accept_other_errors);
    report(EventKind::kInvalidAccept, vcpu, gpa, static_cast<std::uint32_t>(outcome.code));
  } else if (outcome.carry && validate) {
    Reporter::add(counters.already_accepted);
    report(EventKind::kDoubleAccept, vcpu, gpa, 0);
  } else if (outcome.carry) {
    Reporter::add(counters.accept_other_errors);
    report(EventKind::kInvalidAccept, vcpu, gpa, abi::rmp::kPvalidateNoUpdate);
  } else if (validate) {
    view_.wait_out(started, outcome.bytes);
    view_.count_accept(vcpu, gpa, size, started);
  } else {
    Reporter::add(counters.rescind_calls);
    Reporter::add(counters.rescinded_bytes, outcome.bytes.value());
    view_.reporter().event(EventKind::kRescind, static_cast<std::uint8_t>(size),
                           PhysRange::page(gpa, size), started, vcpu.index);
  }
}

std::expected<std::optional<host::RmpAdjustOutcome>, Fault> SnpPages::finish_adjust(
    Vcpu& vcpu, PhysAddr gpa, const host::SnpRmpAdjust& result) {
  switch (result.kind) {
    case SnpPvalidateKind::kNotRam:
      return std::unexpected{no_ram(gpa)};
    case SnpPvalidateKind::kRefused:
      return std::unexpected{refused(gpa, result.outcome.fault)};
    case SnpPvalidateKind::kCompleted:
      break;
  }
  if (view_.exhausted()) {
    return std::unexpected{exhausted(gpa)};
  }
  if (result.converted) {
    count_implicit(vcpu, gpa, View::kPrivate);
  }
  if (result.outcome.fault == RmpVerdict::kNotValidated) {
    if (Verdict verdict = not_validated(vcpu, gpa, 0); !verdict) {
      return std::unexpected{verdict.error()};
    }
    return std::nullopt;
  }
  return result.outcome;
}

std::expected<std::optional<host::RmpAdjustOutcome>, Fault> SnpPages::rmpadjust(Vcpu& vcpu,
                                                                                PhysAddr gpa,
                                                                                std::uint64_t rcx,
                                                                                std::uint64_t rdx) {
  return finish_adjust(vcpu, gpa, with_hooks([&](const host::SnpMemoryHooks& hooks) {
                         return memory_.rmpadjust(gpa, rcx, rdx, hooks);
                       }));
}

std::expected<std::optional<host::RmpAdjustOutcome>, Fault> SnpPages::rmpquery(Vcpu& vcpu,
                                                                               PhysAddr gpa,
                                                                               std::uint64_t rdx) {
  return finish_adjust(vcpu, gpa, with_hooks([&](const host::SnpMemoryHooks& hooks) {
                         return memory_.rmpquery(gpa, rdx, hooks);
                       }));
}

host::GhcbPageStateAnswer SnpPages::change_page_state(const Vcpu& vcpu,
                                                      const host::GhcbPageState& change) {
  const std::uint64_t started = cpu::read_tsc();
  Counters& counters = view_.reporter().counters();
  const auto answer = with_hooks([&](const host::SnpMemoryHooks& hooks) {
    // Only pages that change are gone from a view.
    const auto changed = [&](PhysRange range, std::uint64_t& counter, EventKind kind) {
      Reporter::add(counter, range.size().value());
      view_.reporter().event(kind, 0, range, started, vcpu.index);
    };
    auto private_gone = [&](PhysRange range) {
      hooks.private_gone(range);
      changed(range, counters.to_shared_bytes, EventKind::kConvertShared);
    };
    auto shared_gone = [&](PhysRange range) {
      hooks.shared_gone(range);
      changed(range, counters.to_private_bytes, EventKind::kConvertPrivate);
    };
    return memory_.change_page_state(change, {.validated = hooks.validated,
                                              .private_gone = private_gone,
                                              .shared_gone = shared_gone,
                                              .duties = hooks.duties,
                                              .smashed = hooks.smashed});
  });
  Reporter::add(counters.convert_calls);
  Reporter::add(counters.page_state_entries, change.range.size() / bytes(change.size));
  return answer;
}

abi::ghcb::GhcbPage* SnpPages::map_ghcb(PhysAddr gpa) {
  const PhysRange page = PhysRange::page(gpa, PageSize::k4K);
  if (!memory_.is_ram(page) || memory_.attribute(gpa) != PageAttribute::kShared) {
    return nullptr;
  }
  // What the emulator answers is written to it.
  view_.map(View::kShared, page);
  return view_.exhausted() ? nullptr : view_.window().pointer<abi::ghcb::GhcbPage>(gpa);
}

Verdict SnpPages::touch(Vcpu& vcpu, std::uint64_t gpa, std::uint64_t error) {
  return view_.touch(gpa, [&](View view, PhysAddr address) {
    return view == View::kPrivate ? touch_private(vcpu, address, error)
                                  : touch_shared(vcpu, address, error);
  });
}

Verdict SnpPages::touch_private(Vcpu& vcpu, PhysAddr gpa, std::uint64_t error) {
  if (config_.stop_on_unaccepted && memory_.attribute(gpa) == PageAttribute::kShared) {
    return std::unexpected{
        Fault{.kind = EventKind::kPolarityMismatch,
              .gpa = view_.tables().with_view(gpa, View::kPrivate),
              .state = "guest: private (C-bit set); host: shared"sv,
              .message = "private access to a shared page: a mapping with the C-bit is left over "sv
                         "after a page state change, or the change to private is missing"sv}};
  }
  const host::SnpTouch touch = with_hooks(
      [&](const host::SnpMemoryHooks& hooks) { return memory_.touch_private(gpa, hooks); });
  if (view_.exhausted()) {
    return std::unexpected{exhausted(gpa)};
  }
  if (touch.converted) {
    count_implicit(vcpu, gpa, View::kPrivate);
  }
  switch (touch.kind) {
    case SnpTouchKind::kMapped:
    case SnpTouchKind::kNotRam:
      return {};
    case SnpTouchKind::kNotValidated:
      return not_validated(vcpu, gpa, error);
    case SnpTouchKind::kRefused:
      return std::unexpected{refused(gpa, touch.verdict)};
  }
  return {};
}

/// Hardware raises #VC 0x404 with the linear address in CR2, which the caller knows or finds.
Verdict SnpPages::not_validated(Vcpu& vcpu, PhysAddr gpa, std::uint64_t error) {
  if (!config_.stop_on_unaccepted) {
    if (vcpu.delivers_double_fault()) {
      return std::unexpected{GuestView::triple_fault()};
    }
    if (vcpu.delivers_contributory()) {
      vcpu.inject_with_error(Vcpu::kDoubleFault, 0);
      return {};
    }
    Reporter::add(view_.reporter().counters().ve_injected);
    vcpu.inject_with_error(Vcpu::kVmmCommunication,
                           static_cast<std::uint32_t>(abi::rmp::kVcNotValidated));
    return {};
  }
  const bool in_walk = (error & svm::kNpfTableWalk) != 0;
  return std::unexpected{Fault{
      .kind = EventKind::kUnacceptedAccess,
      .gpa = gpa.value(),
      .state = "guest: not validated; RMP: Guest-Invalid"sv,
      .message = in_walk ? "the processor read a page table that lies in memory that was not "sv
                           "validated: check who allocated it"sv
                         : "access to private memory before it was validated (#VC 0x404 on "sv
                           "hardware): check the unaccepted bitmap, the guard unit, and who "sv
                           "handed this page out"sv}};
}

Verdict SnpPages::touch_shared(Vcpu& vcpu, PhysAddr gpa, std::uint64_t error) {
  const bool is_private = (error & (svm::kNpfTableWalk | svm::kNpfFetch)) != 0 ||
                          !GuestMemory::has_view_bit(vcpu.save());
  if (is_private) {
    if (!is_validated(gpa)) {
      return touch_private(vcpu, gpa, error);
    }
    aliases_.add(view_, gpa, !has_c_bit(vcpu));
    return view_.exhausted() ? Verdict{std::unexpected{exhausted(gpa)}} : Verdict{};
  }
  if (is_validated(gpa)) {
    return std::unexpected{
        Fault{.kind = EventKind::kPolarityMismatch,
              .gpa = view_.tables().with_view(gpa, View::kShared),
              .state = "guest: shared (C-bit clear); host: private; RMP: Guest-Valid"sv,
              .message = "shared access to a private page that the guest validated: the page "sv
                         "state change to shared is missing, or a mapping without the C-bit is "sv
                         "left over after the change to private"sv}};
  }
  const host::SnpTouch touch = with_hooks([&](const host::SnpMemoryHooks& hooks) {
    auto mapped = [&](PhysAddr page, PhysAddr /*hpa*/) {
      view_.map(View::kShared, PhysRange::page(page, PageSize::k4K));
    };
    return memory_.touch_shared(gpa, mapped, hooks);
  });
  if (view_.exhausted()) {
    return std::unexpected{exhausted(gpa)};
  }
  if (touch.converted) {
    count_implicit(vcpu, gpa, View::kShared);
  }
  if (touch.kind == SnpTouchKind::kRefused) {
    return std::unexpected{refused(gpa, touch.verdict)};
  }
  return {};
}

}  // namespace accede::emulator
