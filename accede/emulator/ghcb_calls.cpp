#include "accede/emulator/ghcb_calls.hpp"

#include "accede/base/shared_word.hpp"
#include "accede/emulator/cpu.hpp"
#include "accede/emulator/cpuid.hpp"
#include "accede/emulator/snp_pages.hpp"

#include <algorithm>

namespace accede::emulator {

using namespace std::string_view_literals;
using abi::ghcb::ExitCode;
using abi::ghcb::MsrCode;
using host::GhcbMistakeKind;
using host::GhcbNext;

GhcbSlot slot_of(MsrCode code) {
  switch (code) {
    case MsrCode::kSevInfoRequest:
      return GhcbSlot::kMsrSevInfo;
    case MsrCode::kCpuidRequest:
      return GhcbSlot::kMsrCpuid;
    case MsrCode::kPreferredGhcbRequest:
    case MsrCode::kRegisterGhcbRequest:
      return GhcbSlot::kMsrRegister;
    case MsrCode::kPageStateRequest:
      return GhcbSlot::kMsrPageState;
    case MsrCode::kHvFeaturesRequest:
      return GhcbSlot::kMsrHvFeatures;
    case MsrCode::kTerminateRequest:
      return GhcbSlot::kMsrTerminate;
    default:
      return GhcbSlot::kMsrOther;
  }
}

GhcbSlot slot_of(ExitCode code) {
  switch (code) {
    case ExitCode::kCpuid:
      return GhcbSlot::kCpuid;
    case ExitCode::kIoio:
      return GhcbSlot::kIo;
    case ExitCode::kMsr:
      return GhcbSlot::kMsr;
    case ExitCode::kMmioRead:
    case ExitCode::kMmioWrite:
      return GhcbSlot::kMmio;
    case ExitCode::kPageStateChange:
      return GhcbSlot::kPageState;
    case ExitCode::kHvFeatures:
      return GhcbSlot::kHvFeatures;
    case ExitCode::kGuestRequest:
    case ExitCode::kExtGuestRequest:
      return GhcbSlot::kGuestRequest;
    case ExitCode::kApCreation:
      return GhcbSlot::kApCreation;
    case ExitCode::kVmmcall:
      return GhcbSlot::kVmmcall;
    case ExitCode::kTerminate:
      return GhcbSlot::kTerminate;
    default:
      return GhcbSlot::kOther;
  }
}

std::string_view describe(const host::GhcbOutcome& outcome, GhcbText& buffer) {
  ACCEDE_ASSERT(outcome.next == GhcbNext::kTerminate || outcome.next == GhcbNext::kStop);
  buffer.clear();
  const bool is_page = abi::ghcb::MsrWord::Code::get(outcome.msr) == 0;
  if (outcome.next == GhcbNext::kStop) {
    buffer.text("VMGEXIT without an answer: "sv).text(name(outcome.mistake));
    buffer.text("; GHCB MSR "sv).hex(outcome.msr);
    return buffer.view();
  }
  const abi::ghcb::TerminateReason reason = outcome.reason;
  buffer.text("the guest terminated "sv).number(reason.set).text(":"sv).number(reason.code);
  buffer.text(" ("sv).text(abi::ghcb::name_of(reason)).text(")"sv);
  if (is_page) {
    buffer.text("; sw_exit_info_2 "sv).hex(outcome.payload);
  }
  return buffer.view();
}

void GhcbCalls::count(std::uint64_t msr) {
  GhcbSlot slot = GhcbSlot::kOther;
  if (const MsrCode code = abi::ghcb::code_of(msr); code != MsrCode{}) {
    slot = slot_of(code);
  } else if (msr != 0 && PhysAddr{msr} < config().gpa_end) {
    if (auto* const page = map_ghcb(PhysAddr{msr}); page != nullptr) {
      slot = slot_of(static_cast<ExitCode>(load_shared(page->sw_exit_code)));
    }
  }
  Reporter::add(reporter_.counters().ghcb[static_cast<std::size_t>(slot)]);
}

void GhcbCalls::report(const host::GhcbMistake& mistake) {
  using Kind = host::GhcbMistakeKind;
  if (mistake.kind == Kind::kNotRegistered || mistake.kind == Kind::kStringTooLong ||
      mistake.kind == Kind::kUnsupportedEvent) {
    return;  // the guest is stopped, and that is reported
  }
  reporter_.violation({.gpa = mistake.value,
                       .rip = vcpu_.save().rip,
                       .count = 1,
                       .kind = EventKind::kBadGhcb,
                       .fatal = 0,
                       .vcpu = vcpu_.index,
                       .detail = static_cast<std::uint32_t>(mistake.kind) << 8 |
                                 static_cast<std::uint32_t>(mistake.field)});
}

abi::ghcb::GhcbPage* GhcbCalls::map_ghcb(PhysAddr gpa) {
  return pages_.map_ghcb(gpa);
}

/// XCR0 and XSS need no regard: the processor that answers has the guest's.
host::GhcbCpuidResult GhcbCalls::cpuid(const host::GhcbCpuidQuery& query) {
  const cpu::CpuidResult answer = snp_cpuid(query.leaf, query.subleaf, vcpu_.save().cr4);
  return {.eax = answer.eax, .ebx = answer.ebx, .ecx = answer.ecx, .edx = answer.edx};
}

host::GhcbPageStateAnswer GhcbCalls::change_page_state(const host::GhcbPageState& change) {
  return pages_.change_page_state(vcpu_, change);
}

void GhcbCalls::read_mmio(PhysAddr gpa, std::span<std::uint8_t> to) {
  if (!devices_.read_mmio(gpa, to)) {
    std::ranges::fill(to, std::uint8_t{0xFF});
  }
}

void GhcbCalls::write_mmio(PhysAddr gpa, std::span<const std::uint8_t> from) {
  // Nothing takes the write, as on a bus without a device there.
  static_cast<void>(devices_.write_mmio(gpa, from));
}

host::GhcbTsc GhcbCalls::read_tsc() {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  std::uint32_t aux = 0;
  asm volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(aux));
  return {.tsc = std::uint64_t{high} << 32 | low, .aux = aux};
}

std::uint64_t GhcbCalls::vmmcall(const host::GhcbVmmcall&) {
  constexpr std::int64_t kNoSuchHypercall = -1000;  // KVM_ENOSYS
  return static_cast<std::uint64_t>(kNoSuchHypercall);
}

/// No security processor exists here: an error of the host, not of a firmware that was never asked.
/// It is KVM's generic one. Neither of the two that the GHCB defines would do: guests repeat a
/// request that met "busy" (Linux for a minute), and "buffer too small" is about certificates.
/// Linux ends the ioctl with EIO and shows both errors.
std::optional<host::GhcbGuestAnswer> GhcbCalls::guest_request(const host::GhcbGuestRequest&) {
  constexpr std::uint32_t kVmmErrorGeneric = ~0U;
  return host::GhcbGuestAnswer{
      .firmware_error = 0, .vmm_error = kVmmErrorGeneric, .pages_needed = 0};
}

}  // namespace accede::emulator
