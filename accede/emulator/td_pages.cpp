#include "accede/emulator/td_pages.hpp"

#include "accede/abi/tdx.hpp"
#include "accede/emulator/cpu.hpp"

namespace accede::emulator {

using namespace std::string_view_literals;
namespace {

using abi::tdx::Status;
using host::AcceptOutcomeKind;
using host::TouchKind;

constexpr std::uint32_t kExitReasonEptViolation =
    static_cast<std::uint32_t>(abi::tdx::ExitReason::kEptViolation);

/// Exit qualification of an EPT violation: read 0, write 1, fetch 2.
std::uint64_t ept_qualification(std::uint64_t error) {
  if ((error & svm::kNpfFetch) != 0) {
    return 1U << 2;
  }
  return (error & svm::kNpfWrite) != 0 ? 1U << 1 : 1U << 0;
}

/// A page's two states in words, for the report.
std::string_view describe_states(const host::PageReport& page) {
  if (page.attribute == host::PageAttribute::kShared) {
    return "guest view: private; host: shared, SEPT entry FREE"sv;
  }
  switch (page.entry.state) {
    case abi::tdx::SeptState::kFree:
      return "guest view: private, never accepted; SEPT entry FREE (not added by the host yet)"sv;
    case abi::tdx::SeptState::kPending:
      return "guest view: private, never accepted; SEPT entry PENDING"sv;
    case abi::tdx::SeptState::kMapped:
      return "host: private; SEPT entry MAPPED"sv;
    default:
      return "host: private; SEPT entry is in another state (BLOCKED or REMOVED)"sv;
  }
}

}  // namespace

/// Runs `body` with hooks that keep the nested tables in step with the model.
template <class Body>
auto TdPages::with_hooks(const Vcpu& vcpu, Body&& body) {
  auto mapped = [&](PhysAddr gpa, PhysAddr /*hpa*/, PageSize size) {
    view_.map(View::kPrivate, PhysRange::page(gpa, size));
  };
  auto private_gone = [&](PhysRange range) {
    view_.unmap(View::kPrivate, range);
    view_.scrub(range);
  };
  auto shared_gone = [&](PhysRange range) { view_.unmap(View::kShared, range); };
  auto augmented = [&](PhysAddr gpa, PageSize size) {
    view_.reporter().event(EventKind::kHostAug, static_cast<std::uint8_t>(size),
                           PhysRange::page(gpa, size), cpu::read_tsc(), vcpu.index);
  };
  // With one vCPU, which is here, TRACK has nobody to wait for.
  auto kick = [] {};
  return body(host::TdMemoryHooks{mapped, private_gone, shared_gone, augmented, kick});
}

bool TdPages::adopt(PhysRange range) {
  view_.map(View::kPrivate, range);
  return memory_.adopt(range).has_value() && !view_.exhausted();
}

Fault TdPages::exhausted(PhysAddr gpa) const {
  return GuestView::out_of_storage(gpa, describe_states(memory_.state_of(gpa)));
}

std::expected<std::uint64_t, Fault> TdPages::accept(Vcpu& vcpu, std::uint64_t rcx) {
  const std::uint64_t started = cpu::read_tsc();
  const host::AcceptOutcome outcome = with_hooks(vcpu, [&](const host::TdMemoryHooks& hooks) {
    auto zero_page = [&](PhysAddr hpa) { view_.zero_accepted(hpa); };
    auto never_interrupted = [] { return false; };
    host::AcceptOutcome result;
    do {
      result = memory_.accept(rcx, zero_page, never_interrupted, hooks);
    } while (result.kind == AcceptOutcomeKind::kInterrupted);
    return result;
  });
  if (view_.exhausted()) {
    return std::unexpected{exhausted(outcome.gpa)};
  }
  switch (outcome.kind) {
    case AcceptOutcomeKind::kCompleted:
    case AcceptOutcomeKind::kInterrupted:
      break;
    case AcceptOutcomeKind::kSharedPage:
      return std::unexpected{
          Fault{.kind = EventKind::kPolarityMismatch,
                .gpa = outcome.gpa.value(),
                .state = describe_states(memory_.state_of(outcome.gpa)),
                .message = "accept of a page that the guest made shared: convert it to private "sv
                           "with MapGPA before accepting it"sv}};
    case AcceptOutcomeKind::kNotRam:
      if (view_.machine().region(outcome.gpa) == Region::kEmulator) {
        return std::unexpected{GuestView::emulator_memory(outcome.gpa.value())};
      }
      return std::unexpected{Fault{.kind = EventKind::kBeyondAddressWidth,
                                   .gpa = outcome.gpa.value(),
                                   .state = "no RAM at this address"sv,
                                   .message =
                                       "accept of an address where the machine has no RAM: "sv
                                       "check the guest's memory map and guard unit"sv}};
    case AcceptOutcomeKind::kOutOfStorage:
      return std::unexpected{exhausted(outcome.gpa)};
  }
  if (outcome.rax == 0) {
    view_.wait_out(started, outcome.bytes);
    view_.count_accept(vcpu, outcome.gpa, outcome.size, started);
  } else {
    count_refusal(vcpu, rcx, outcome);
  }
  return outcome.rax;
}

void TdPages::count_refusal(const Vcpu& vcpu, std::uint64_t rcx,
                            const host::AcceptOutcome& outcome) {
  Counters& counters = view_.reporter().counters();
  EventKind kind = EventKind::kInvalidAccept;
  switch (abi::tdx::code_of(outcome.rax)) {
    case Status::kPageSizeMismatch:
      // Not a fault of the guest: the host backs the page in smaller pieces.
      Reporter::add(counters.size_mismatch);
      return;
    case Status::kPageAlreadyAccepted:
      Reporter::add(counters.already_accepted);
      kind = EventKind::kDoubleAccept;
      break;
    case Status::kOperandInvalid:
      if (abi::tdx::PageOperand::Level::get(rcx) == static_cast<std::uint64_t>(PageSize::k1G)) {
        // Linux asks for 1 GiB first on purpose, and the module always refuses.
        Reporter::add(counters.refused_1g);
        return;
      }
      Reporter::add(counters.accept_other_errors);
      break;
    default:
      Reporter::add(counters.accept_other_errors);
      break;
  }
  view_.reporter().violation({.gpa = outcome.gpa.value(),
                              .rip = vcpu.save().rip,
                              .count = 1,
                              .kind = kind,
                              .fatal = 0,
                              .vcpu = vcpu.index,
                              .detail = static_cast<std::uint32_t>(outcome.rax >> 32)});
}

Verdict TdPages::touch(Vcpu& vcpu, std::uint64_t gpa, std::uint64_t error) {
  return view_.touch(gpa, [&](View view, PhysAddr address) {
    return view == View::kPrivate ? touch_private(vcpu, address, error) : touch_shared(address);
  });
}

Verdict TdPages::touch_private(Vcpu& vcpu, PhysAddr gpa, std::uint64_t error) {
  const host::Touch touch = with_hooks(
      vcpu, [&](const host::TdMemoryHooks& hooks) { return memory_.touch_private(gpa, hooks); });
  const bool in_walk = (error & svm::kNpfTableWalk) != 0;
  switch (touch.kind) {
    case TouchKind::kMapped:
    case TouchKind::kRetry:
    case TouchKind::kShared:
    case TouchKind::kNotRam:
      return {};
    case TouchKind::kPendingVe:
      if (vcpu.delivers_double_fault()) {
        return std::unexpected{GuestView::triple_fault()};
      }
      // SVM does not tell the linear address: GLA reads as 0.
      Reporter::add(view_.reporter().counters().ve_injected);
      vcpu.inject_ve({.exit_reason = kExitReasonEptViolation,
                      .instruction_length = 0,
                      .qualification = ept_qualification(error),
                      .linear_address = 0,
                      .gpa = gpa.value()});
      return {};
    case TouchKind::kPendingExit:
      return std::unexpected{Fault{
          .kind = EventKind::kUnacceptedAccess,
          .gpa = gpa.value(),
          .state = touch.before.state == abi::tdx::SeptState::kFree
                       ? "guest: not accepted; host: FREE, added as PENDING on this access"sv
                       : "guest: not accepted; host: PENDING"sv,
          .message = in_walk
                         ? "the processor read a page table that lies in unaccepted memory: "sv
                           "check who allocated it"sv
                         : "access to private memory before it was accepted: check the "sv
                           "unaccepted bitmap, the guard unit, and who handed this page out"sv}};
    case TouchKind::kSharedPage:
    case TouchKind::kPrivatePage:
      return std::unexpected{
          Fault{.kind = EventKind::kPolarityMismatch,
                .gpa = gpa.value(),
                .state = "guest: private (shared bit clear); host: shared"sv,
                .message = "private access to a shared page: a mapping without the shared bit is "sv
                           "left over after MapGPA, or MapGPA(private) is missing"sv}};
    case TouchKind::kOutOfStorage:
      return std::unexpected{exhausted(gpa)};
  }
  return {};
}

Verdict TdPages::touch_shared(PhysAddr gpa) {
  auto mapped = [&](PhysAddr page, PhysAddr /*hpa*/) {
    view_.map(View::kShared, PhysRange::page(page, PageSize::k4K));
  };
  const host::Touch touch = memory_.touch_shared(gpa, mapped);
  if (touch.kind == TouchKind::kPrivatePage) {
    return std::unexpected{
        Fault{.kind = EventKind::kPolarityMismatch,
              .gpa = gpa.value() | NestedPageTable::kViewMask,
              .state = "guest: shared (shared bit set); host: private"sv,
              .message = "shared access to a private page: MapGPA(shared) is missing, or a "sv
                         "mapping with the shared bit is left over after MapGPA(private)"sv}};
  }
  if (view_.exhausted()) {
    return std::unexpected{exhausted(gpa)};
  }
  return {};
}

std::expected<TdPages::Conversion, Fault> TdPages::convert(Vcpu& vcpu, std::uint64_t r12,
                                                           std::uint64_t r13) {
  const std::uint64_t started = cpu::read_tsc();
  const host::MapGpaOutcome outcome = with_hooks(
      vcpu, [&](const host::TdMemoryHooks& hooks) { return memory_.map_gpa(r12, r13, hooks); });
  const PhysAddr gpa{r12 & ~NestedPageTable::kViewMask};
  if (outcome.kind == host::MapGpaKind::kOutOfStorage || view_.exhausted()) {
    return std::unexpected{exhausted(gpa)};
  }
  Counters& counters = view_.reporter().counters();
  Reporter::add(counters.convert_calls);
  Reporter::add(counters.to_shared_bytes, outcome.to_shared.value());
  Reporter::add(counters.to_private_bytes, outcome.to_private.value());
  const Bytes converted = outcome.to_shared + outcome.to_private;
  if (const auto range = PhysRange::make(gpa, converted); range && !range->empty()) {
    view_.reporter().event(
        outcome.to_shared.value() != 0 ? EventKind::kConvertShared : EventKind::kConvertPrivate, 0,
        *range, started, vcpu.index);
  }
  return Conversion{static_cast<std::uint64_t>(outcome.r10), outcome.r11};
}

bool TdPages::refuse_quote(std::uint64_t gpa, std::uint64_t bytes) {
  constexpr std::uint64_t kServiceUnavailable = 0x8000'0000'0000'0001;
  constexpr std::size_t kStatusOffset = 8;
  const PhysAddr buffer{gpa & ~NestedPageTable::kViewMask};
  const auto range = PhysRange::make(buffer, Bytes{bytes});
  if ((gpa & NestedPageTable::kViewMask) == 0 || bytes == 0 || bytes % 4096 != 0 || !range ||
      !buffer.is_aligned(4_KiB) || !memory_.is_ram(*range) || !touch_shared(buffer)) {
    return false;
  }
  *view_.window().pointer<volatile std::uint64_t>(buffer + Bytes{kStatusOffset}) =
      kServiceUnavailable;
  return true;
}

}  // namespace accede::emulator
