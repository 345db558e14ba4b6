// The page protocol: members of Ghcb. Included by ghcb.hpp.
#pragma once

#include "accede/host/ghcb.hpp"

#include <algorithm>
#include <limits>

namespace accede::host {

/// KVM's order: a page that cannot be had resumes; the request is copied and its valid bitmap
/// cleared; an unregistered page stops; then usage, inputs, exit code.
template <GhcbHost Host>
GhcbOutcome Ghcb<Host>::page_exit(std::uint64_t msr) {
  auto* const page = map(msr);
  if (page == nullptr) {
    report(msr == 0 ? GhcbMistakeKind::kNoGhcb : GhcbMistakeKind::kUnmappable, msr);
    return {.msr = msr};
  }
  const GhcbInput input = take_input(*page);
  Call call{.page = *page,
            .gpa = PhysAddr{msr},
            .in = input,
            .out = GhcbOutput::of(input),
            .outcome = {.msr = msr}};
  if (config_.is_snp && registered_ != call.gpa) {
    stop(call, GhcbMistakeKind::kNotRegistered, GhcbField::kMsr, msr);
    return call.outcome;
  }
  if (const auto mistake = check_input(input, config_.is_snp)) {
    host_.report(*mistake);
    call.out.malformed(malformed_reason(mistake->kind));
  } else {
    dispatch(call);
  }
  if (call.outcome.next == GhcbNext::kResume || call.outcome.next == GhcbNext::kHold) {
    put_output(*page, call.out);
  }
  return call.outcome;
}

template <GhcbHost Host>
void Ghcb<Host>::dispatch(Call& call) {
  using abi::ghcb::ExitCode;
  switch (call.in.code()) {
    case ExitCode::kMmioRead:
      return mmio(call, true);
    case ExitCode::kMmioWrite:
      return mmio(call, false);
    case ExitCode::kNmiComplete:
      return host_.nmi_complete();
    case ExitCode::kApHltLoop:
      hold_ = Hold::kPage;
      held_output_ = call.out;
      call.outcome.next = GhcbNext::kHold;
      return;
    case ExitCode::kApJumpTable:
      return ap_jump_table(call);
    case ExitCode::kPageStateChange:
      return page_states(call);
    case ExitCode::kGuestRequest:
      return guest_request(call, false);
    case ExitCode::kExtGuestRequest:
      return guest_request(call, true);
    case ExitCode::kApCreation:
      return ap_creation(call);
    case ExitCode::kHvFeatures:
      call.out.info2 = config_.hv_features;
      return;
    case ExitCode::kTerminate:
      return terminate(call);
    case ExitCode::kUnsupported:
      return stop(call, GhcbMistakeKind::kUnsupportedEvent, GhcbField::kExitInfo1, call.in.info1);
    default:
      return dispatch_intercept(call);
  }
}

template <GhcbHost Host>
void Ghcb<Host>::dispatch_intercept(Call& call) {
  using abi::ghcb::ExitCode;
  switch (call.in.code()) {
    case ExitCode::kDr7Read:
      call.out.rax = host_.read_dr7();
      return;
    case ExitCode::kDr7Write:
      return host_.write_dr7(call.in.rax);
    case ExitCode::kRdtsc:
    case ExitCode::kRdtscp: {
      const GhcbTsc now = host_.read_tsc();
      call.out.rax = static_cast<std::uint32_t>(now.tsc);
      call.out.rdx = now.tsc >> 32;
      if (call.in.code() == ExitCode::kRdtscp) {
        call.out.rcx = now.aux;
      }
      return;
    }
    case ExitCode::kRdpmc:
    case ExitCode::kMsr:
      return msr_access(call);
    case ExitCode::kCpuid:
      return cpuid(call);
    case ExitCode::kIoio:
      return port_io(call);
    case ExitCode::kVmmcall:
      return vmmcall(call);
    case ExitCode::kInvd:
      return host_.execute(GhcbInstruction::kInvd);
    case ExitCode::kWbinvd:
      return host_.execute(GhcbInstruction::kWbinvd);
    case ExitCode::kMonitor:
      return host_.execute(GhcbInstruction::kMonitor);
    case ExitCode::kMwait:
      return host_.execute(GhcbInstruction::kMwait);
    default:
      // check_input lets no other code through.
      return malformed(call, GhcbMistakeKind::kUnknownEvent, GhcbField::kExitCode,
                       call.in.exit_code);
  }
}

template <GhcbHost Host>
void Ghcb<Host>::cpuid(Call& call) {
  using abi::ghcb::ValidBit;
  const auto given = [&call](ValidBit bit, std::uint64_t value) {
    return call.in.has(bit) ? std::optional{value} : std::nullopt;
  };
  const GhcbCpuidResult result = host_.cpuid({.leaf = static_cast<std::uint32_t>(call.in.rax),
                                              .subleaf = static_cast<std::uint32_t>(call.in.rcx),
                                              .xcr0 = given(ValidBit::kXcr0, call.in.xcr0),
                                              .xss = given(ValidBit::kXss, call.in.xss)});
  call.out.rax = result.eax;
  call.out.rbx = result.ebx;
  call.out.rcx = result.ecx;
  call.out.rdx = result.edx;
}

template <GhcbHost Host>
void Ghcb<Host>::port_io(Call& call) {
  using abi::ghcb::IoioInfo;
  const std::uint64_t info = call.in.info1;
  const bool in = IoioInfo::In::get(info) != 0;
  // The three size bits, read as a number: 1, 2 or 4 bytes.
  const std::uint64_t size = IoioInfo::Size8::get(info) | IoioInfo::Size16::get(info) << 1 |
                             IoioInfo::Size32::get(info) << 2;
  if (size == 0) {
    return;
  }
  if (size != 1 && size != 2 && size != 4) {
    return malformed(call, GhcbMistakeKind::kInvalidInput, GhcbField::kExitInfo1, info);
  }
  const GhcbPort port{.port = static_cast<std::uint16_t>(IoioInfo::Port::get(info)),
                      .size = static_cast<std::uint8_t>(size)};
  if (IoioInfo::String::get(info) != 0) {
    return string_io(call, port, in);
  }
  const std::uint64_t mask = ~std::uint64_t{0} >> (64 - 8 * size);
  if (in) {
    // IN EAX clears the upper half of RAX, the narrow ones keep what was there.
    const std::uint64_t kept = size == 4 ? 0 : call.in.rax & ~mask;
    call.out.rax = kept | (host_.read_port(port) & mask);
  } else {
    host_.write_port(port, static_cast<std::uint32_t>(call.in.rax & mask));
  }
}

/// The elements lie in the shared buffer, sw_exit_info_2 says how many.
template <GhcbHost Host>
void Ghcb<Host>::string_io(Call& call, GhcbPort port, bool in) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::int32_t>::max();
  const std::uint64_t count = call.in.info2;
  if (count > kMax || count * port.size > kMax) {
    return stop(call, GhcbMistakeKind::kStringTooLong, GhcbField::kExitInfo2, count);
  }
  if (count == 0) {
    return;
  }
  const auto buffer = scratch(call, count * port.size);
  if (!buffer) {
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (in) {
      buffer->store(i * port.size, port.size, host_.read_port(port));
    } else {
      host_.write_port(port, static_cast<std::uint32_t>(buffer->load(i * port.size, port.size)));
    }
  }
}

/// RDMSR, WRMSR, RDPMC.
template <GhcbHost Host>
void Ghcb<Host>::msr_access(Call& call) {
  const auto index = static_cast<std::uint32_t>(call.in.rcx);
  const bool is_msr = call.in.code() == abi::ghcb::ExitCode::kMsr;
  bool done = false;
  if (is_msr && call.in.info1 != 0) {
    done = host_.write_msr(index, call.in.rdx << 32 | static_cast<std::uint32_t>(call.in.rax));
  } else if (const auto value = is_msr ? host_.read_msr(index) : host_.read_pmc(index)) {
    call.out.rax = static_cast<std::uint32_t>(*value);
    call.out.rdx = *value >> 32;
    done = true;
  }
  if (!done) {
    call.out.general_protection();
  }
}

template <GhcbHost Host>
void Ghcb<Host>::vmmcall(Call& call) {
  constexpr std::uint64_t kNotPermitted = ~std::uint64_t{0};  // KVM: -EPERM
  if (call.in.cpl != 0) {
    call.out.rax = kNotPermitted;
    return;
  }
  call.out.rax = host_.vmmcall({.rax = call.in.rax,
                                .rbx = call.in.rbx,
                                .rcx = call.in.rcx,
                                .rdx = call.in.rdx,
                                .rsi = call.in.rsi});
}

template <GhcbHost Host>
void Ghcb<Host>::mmio(Call& call, bool is_read) {
  std::array<std::uint8_t, 8> data{};
  const std::uint64_t size = call.in.info2;
  if (size == 0) {
    return;
  }
  if (size > data.size()) {
    return malformed(call, GhcbMistakeKind::kInvalidInput, GhcbField::kExitInfo2, size);
  }
  const auto buffer = scratch(call, size);
  if (!buffer) {
    return;
  }
  if (call.in.info1 > ~std::uint64_t{0} - data.size()) {
    return malformed(call, GhcbMistakeKind::kInvalidInput, GhcbField::kExitInfo1, call.in.info1);
  }
  const PhysAddr gpa{call.in.info1};
  const auto bytes = std::span{data}.first(static_cast<std::size_t>(size));
  if (is_read) {
    host_.read_mmio(gpa, bytes);
    buffer->write(0, bytes);
  } else {
    buffer->read(0, bytes);
    host_.write_mmio(gpa, bytes);
  }
}

template <GhcbHost Host>
void Ghcb<Host>::page_states(Call& call) {
  const auto list = scratch(call, sizeof(std::uint64_t));
  if (!list) {
    return;
  }
  const abi::ghcb::PscResult result = answer_page_state_list(
      *list, [this](const GhcbPageState& change) { return host_.change_page_state(change); },
      [this](const GhcbMistake& mistake) { host_.report(mistake); });
  call.out.info2 = static_cast<std::uint64_t>(result);
}

template <GhcbHost Host>
void Ghcb<Host>::guest_request(Call& call, bool extended) {
  using abi::ghcb::GuestRequestStatus;
  using abi::ghcb::ValidBit;
  GhcbGuestRequest request{.request = PhysAddr{call.in.info1},
                           .response = PhysAddr{call.in.info2},
                           .extended = extended,
                           .certificates = {}};
  if (extended && call.in.has(ValidBit::kRax) && call.in.has(ValidBit::kRbx)) {
    request.certificates = {.data = PhysAddr{call.in.rax}, .pages = call.in.rbx};
  }
  const std::optional<GhcbGuestAnswer> answer = host_.guest_request(request);
  if (!answer) {
    return malformed(call, GhcbMistakeKind::kInvalidInput, GhcbField::kExitInfo1, call.in.info1);
  }
  call.out.info2 = GuestRequestStatus::VmmError::set(
      GuestRequestStatus::FirmwareError::set(0, answer->firmware_error), answer->vmm_error);
  if (answer->vmm_error == abi::ghcb::kVmmErrorBufferTooSmall) {
    call.out.rbx = answer->pages_needed;
  }
}

/// KVM's checks in KVM's order. It takes the low half of sw_exit_info_1 as the request, so a VMPL
/// other than 0 is an unknown request.
template <GhcbHost Host>
void Ghcb<Host>::ap_creation(Call& call) {
  using abi::ghcb::ApCreationRequest;
  const auto invalid = [this, &call](GhcbField field, std::uint64_t value) {
    malformed(call, GhcbMistakeKind::kInvalidInput, field, value);
  };
  const auto kind = static_cast<std::uint32_t>(call.in.info1);
  const auto apic_id = static_cast<std::uint32_t>(call.in.info1 >> 32);
  const bool destroys = kind == static_cast<std::uint32_t>(ApCreationRequest::kDestroy);
  if (!host_.has_vcpu(apic_id) || kind > static_cast<std::uint32_t>(ApCreationRequest::kDestroy)) {
    return invalid(GhcbField::kExitInfo1, call.in.info1);
  }
  GhcbApCreation ap{.apic_id = apic_id, .request = static_cast<ApCreationRequest>(kind)};
  if (!destroys) {
    const std::uint64_t changed = call.in.rax ^ config_.sev_features;
    if ((changed & abi::ghcb::kSevFeaturesInjectionModes) != 0) {
      return invalid(GhcbField::kRax, call.in.rax);
    }
    // A VMSA at the start of a 2 MiB block meets a processor erratum.
    if (!is_page(call.in.info2) || PhysAddr{call.in.info2}.is_aligned(2_MiB)) {
      return invalid(GhcbField::kExitInfo2, call.in.info2);
    }
    ap.vmsa = PhysAddr{call.in.info2};
    ap.sev_features = call.in.rax;
  }
  if (!host_.create_ap(ap)) {
    return invalid(GhcbField::kExitInfo2, call.in.info2);
  }
}

template <GhcbHost Host>
void Ghcb<Host>::ap_jump_table(Call& call) {
  switch (call.in.info1) {
    case abi::ghcb::kApJumpTableSet:
      return host_.set_jump_table(PhysAddr{call.in.info2});
    case abi::ghcb::kApJumpTableGet:
      call.out.info2 = host_.jump_table().value();
      return;
    default:
      return malformed(call, GhcbMistakeKind::kInvalidInput, GhcbField::kExitInfo1, call.in.info1);
  }
}

template <GhcbHost Host>
void Ghcb<Host>::terminate(Call& call) {
  call.outcome.next = GhcbNext::kTerminate;
  call.outcome.reason = abi::ghcb::TerminateInfo::reason(call.in.info1);
  call.outcome.payload = call.in.info2;
}

}  // namespace accede::host
