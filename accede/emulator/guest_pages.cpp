#include "accede/emulator/guest_pages.hpp"

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

Fault emulator_memory(std::uint64_t gpa) {
  return {.kind = EventKind::kEmulatorMemory,
          .gpa = gpa,
          .state = "reserved by the firmware; belongs to the emulator"sv,
          .message = "use of memory that the EFI memory map lists as reserved"sv};
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
auto GuestPages::with_hooks(const Vcpu& vcpu, Body&& body) {
  auto mapped = [&](PhysAddr gpa, PhysAddr /*hpa*/, PageSize size) {
    map_private(PhysRange::page(gpa, size));
  };
  auto private_gone = [&](PhysRange range) { forget_private(range); };
  auto shared_gone = [&](PhysRange range) { forget_shared(range); };
  auto augmented = [&](PhysAddr gpa, PageSize size) {
    reporter_.event(EventKind::kHostAug, static_cast<std::uint8_t>(size),
                    PhysRange::page(gpa, size), cpu::read_tsc(), vcpu.index);
  };
  // With one vCPU, which is here, TRACK has nobody to wait for.
  auto kick = [] {};
  return body(host::TdMemoryHooks{mapped, private_gone, shared_gone, augmented, kick});
}

bool GuestPages::adopt(PhysRange range) {
  touched_.mark(range);
  return memory_.adopt(range).has_value() && tables_.map(View::kPrivate, range);
}

bool GuestPages::map_low_devices() {
  constexpr PhysAddr k4GiB{1ULL << 32};
  const auto map_hole = [&](PhysAddr begin, PhysAddr end) {
    const auto hole = PhysRange::make(begin, end);
    return !hole || hole->empty() || !machine_.is_device(*hole) ||
           (tables_.map(View::kPrivate, *hole) && tables_.map(View::kShared, *hole));
  };
  PhysAddr at;
  for (const PhysRange& ram : machine_.ram()) {
    if (!map_hole(at, std::min(ram.begin(), k4GiB))) {
      return false;
    }
    at = std::min(ram.end(), k4GiB);
  }
  return map_hole(at, k4GiB);
}

void GuestPages::zero(PhysAddr page) {
  if (cost_.ticks_per_2m == 0 || touched_.test(page)) {
    cpu::zero_page(window_.pointer<std::byte>(page));
  }
}

/// Lets the rest of the modelled time pass.
void GuestPages::wait_out(std::uint64_t started, Bytes accepted) const {
  if (cost_.ticks_per_2m == 0) {
    return;
  }
  const std::uint64_t ticks = cost_.ticks_per_2m * (accepted.value() / 4096) / 512;
  while (cpu::read_tsc() - started < ticks) {
    cpu::pause();
  }
}

void GuestPages::map_private(PhysRange range) {
  touched_.mark(range);
  if (!tables_.map(View::kPrivate, range)) {
    tables_exhausted_.store(true, std::memory_order_relaxed);
  }
}

/// Takes private pages away, with their content: what the guest left there was encrypted with a key
/// that the shared view does not have. Zero is what a host's fresh page holds.
void GuestPages::forget_private(PhysRange range) {
  if (!tables_.unmap(View::kPrivate, range)) {
    tables_exhausted_.store(true, std::memory_order_relaxed);
  }
  flushes_.fetch_add(1, std::memory_order_release);
  for (PhysAddr page = range.begin(); page < range.end(); page += 4_KiB) {
    if (touched_.test(page)) {
      cpu::zero_page(window_.pointer<std::byte>(page));
    }
  }
}

void GuestPages::forget_shared(PhysRange range) {
  if (!tables_.unmap(View::kShared, range)) {
    tables_exhausted_.store(true, std::memory_order_relaxed);
  }
  flushes_.fetch_add(1, std::memory_order_release);
}

Fault GuestPages::exhausted(PhysAddr gpa) const {
  return {.kind = EventKind::kResourceExhausted,
          .gpa = gpa.value(),
          .state = describe_states(memory_.state_of(gpa)),
          .message =
              "the emulator has no memory left to describe pages in so many different "sv
              "states; give the VM less memory or convert in larger ranges"sv};
}

std::expected<std::uint64_t, Fault> GuestPages::accept(Vcpu& vcpu, std::uint64_t rcx) {
  const std::uint64_t started = cpu::read_tsc();
  const host::AcceptOutcome outcome = with_hooks(vcpu, [&](const host::TdMemoryHooks& hooks) {
    auto zero_page = [&](PhysAddr hpa) { zero(hpa); };
    auto never_interrupted = [] { return false; };
    host::AcceptOutcome result;
    do {
      result = memory_.accept(rcx, zero_page, never_interrupted, hooks);
    } while (result.kind == AcceptOutcomeKind::kInterrupted);
    return result;
  });
  if (tables_exhausted_.load(std::memory_order_relaxed)) {
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
      if (machine_.region(outcome.gpa) == Region::kEmulator) {
        return std::unexpected{emulator_memory(outcome.gpa.value())};
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
    wait_out(started, outcome.bytes);
    count_accept(vcpu, outcome, started);
  } else {
    count_refusal(vcpu, rcx, outcome);
  }
  return outcome.rax;
}

void GuestPages::count_accept(Vcpu& vcpu, const host::AcceptOutcome& outcome,
                              std::uint64_t started) {
  Counters& counters = reporter_.counters();
  const std::uint64_t size = outcome.bytes.value();
  Reporter::add(counters.accepted_bytes[static_cast<std::size_t>(phase())], size);
  Reporter::add(counters.accept_calls[static_cast<std::size_t>(outcome.size)]);
  Reporter::add(counters.accept_ticks, cpu::read_tsc() - started);
  const bool continues = vcpu.step_end == outcome.gpa.value() && vcpu.step_bytes != 0;
  vcpu.step_bytes = continues ? vcpu.step_bytes + size : size;
  vcpu.step_end = outcome.gpa.value() + size;
  Reporter::raise(counters.longest_step_bytes, vcpu.step_bytes);
  reporter_.event(EventKind::kAccept, static_cast<std::uint8_t>(outcome.size),
                  PhysRange::page(outcome.gpa, outcome.size), started, vcpu.index);
}

void GuestPages::count_refusal(const Vcpu& vcpu, std::uint64_t rcx,
                               const host::AcceptOutcome& outcome) {
  Counters& counters = reporter_.counters();
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
  reporter_.violation({.gpa = outcome.gpa.value(),
                       .rip = vcpu.save().rip,
                       .count = 1,
                       .kind = kind,
                       .fatal = 0,
                       .vcpu = vcpu.index,
                       .detail = static_cast<std::uint32_t>(outcome.rax >> 32)});
}

Verdict GuestPages::touch(Vcpu& vcpu, std::uint64_t gpa, std::uint64_t error) {
  const View view = (gpa & NestedPageTable::kSharedMask) != 0 ? View::kShared : View::kPrivate;
  const PhysAddr address{gpa & ~NestedPageTable::kSharedMask};
  if (address.value() >= NestedPageTable::kSharedMask) {
    return std::unexpected{Fault{.kind = EventKind::kBeyondAddressWidth,
                                 .gpa = gpa,
                                 .state = "no such address"sv,
                                 .message = "access above the guest physical address width"sv}};
  }
  switch (machine_.region(address)) {
    case Region::kEmulator:
      return std::unexpected{emulator_memory(gpa)};
    case Region::kDevice:
      return touch_device(view, address);
    case Region::kRam:
      return view == View::kPrivate ? touch_private(vcpu, address, error) : touch_shared(address);
  }
  return {};
}

/// Maps the largest page around a device address that holds no RAM.
Verdict GuestPages::touch_device(View view, PhysAddr gpa) {
  for (const PageSize size : {PageSize::k1G, PageSize::k2M, PageSize::k4K}) {
    const PhysRange page = PhysRange::page(gpa, size);
    if (machine_.is_device(page)) {
      if (!tables_.map(view, page)) {
        return std::unexpected{exhausted(gpa)};
      }
      return {};
    }
  }
  return {};
}

Verdict GuestPages::touch_private(Vcpu& vcpu, PhysAddr gpa, std::uint64_t error) {
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
      // SVM does not tell the linear address: GLA reads as 0.
      Reporter::add(reporter_.counters().ve_injected);
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

void GuestPages::map_shared(PhysAddr page) {
  const PhysRange range = PhysRange::page(page, PageSize::k4K);
  touched_.mark(range);
  if (!tables_.map(View::kShared, range)) {
    tables_exhausted_.store(true, std::memory_order_relaxed);
  }
}

Verdict GuestPages::touch_shared(PhysAddr gpa) {
  auto mapped = [&](PhysAddr page, PhysAddr /*hpa*/) { map_shared(page); };
  const host::Touch touch = memory_.touch_shared(gpa, mapped);
  if (touch.kind == TouchKind::kPrivatePage) {
    return std::unexpected{
        Fault{.kind = EventKind::kPolarityMismatch,
              .gpa = gpa.value() | NestedPageTable::kSharedMask,
              .state = "guest: shared (shared bit set); host: private"sv,
              .message = "shared access to a private page: MapGPA(shared) is missing, or a "sv
                         "mapping with the shared bit is left over after MapGPA(private)"sv}};
  }
  if (tables_exhausted_.load(std::memory_order_relaxed)) {
    return std::unexpected{exhausted(gpa)};
  }
  return {};
}

std::expected<GuestPages::Conversion, Fault> GuestPages::convert(Vcpu& vcpu, std::uint64_t r12,
                                                                 std::uint64_t r13) {
  const std::uint64_t started = cpu::read_tsc();
  const host::MapGpaOutcome outcome = with_hooks(
      vcpu, [&](const host::TdMemoryHooks& hooks) { return memory_.map_gpa(r12, r13, hooks); });
  const PhysAddr gpa{r12 & ~NestedPageTable::kSharedMask};
  if (outcome.kind == host::MapGpaKind::kOutOfStorage ||
      tables_exhausted_.load(std::memory_order_relaxed)) {
    return std::unexpected{exhausted(gpa)};
  }
  Counters& counters = reporter_.counters();
  Reporter::add(counters.convert_calls);
  Reporter::add(counters.to_shared_bytes, outcome.to_shared.value());
  Reporter::add(counters.to_private_bytes, outcome.to_private.value());
  const Bytes converted = outcome.to_shared + outcome.to_private;
  if (const auto range = PhysRange::make(gpa, converted); range && !range->empty()) {
    reporter_.event(
        outcome.to_shared.value() != 0 ? EventKind::kConvertShared : EventKind::kConvertPrivate, 0,
        *range, started, vcpu.index);
  }
  return Conversion{static_cast<std::uint64_t>(outcome.r10), outcome.r11};
}

bool GuestPages::refuse_quote(std::uint64_t gpa, std::uint64_t bytes) {
  constexpr std::uint64_t kServiceUnavailable = 0x8000'0000'0000'0001;
  constexpr std::size_t kStatusOffset = 8;
  const PhysAddr buffer{gpa & ~NestedPageTable::kSharedMask};
  const auto range = PhysRange::make(buffer, Bytes{bytes});
  if ((gpa & NestedPageTable::kSharedMask) == 0 || bytes == 0 || bytes % 4096 != 0 || !range ||
      !buffer.is_aligned(4_KiB) || !memory_.is_ram(*range) || !touch_shared(buffer)) {
    return false;
  }
  *window_.pointer<volatile std::uint64_t>(buffer + Bytes{kStatusOffset}) = kServiceUnavailable;
  return true;
}

void GuestPages::enter_phase(Phase next) {
  Phase now = phase();
  while (now < next && !phase_.compare_exchange_weak(now, next, std::memory_order_relaxed)) {
  }
}

}  // namespace accede::emulator
