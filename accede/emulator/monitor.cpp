#include "accede/emulator/monitor.hpp"

#include "accede/emulator/console.hpp"
#include "accede/emulator/cpu.hpp"
#include "accede/emulator/host_context.hpp"
#include "accede/emulator/hypercall.hpp"
#include "accede/emulator/snp_processor.hpp"
#include "accede/emulator/tdx_processor.hpp"
#include "accede/emulator/world_switch.hpp"

#include <algorithm>

namespace accede::emulator {

using namespace std::string_view_literals;
namespace {

using svm::Exit;

constexpr std::uint64_t kMsrBytes = 2;
constexpr std::uint64_t kVmmcallBytes = 3;

/// The event that was being delivered when the exit came. QEMU's TCG records an interrupt as an
/// exception, which VMRUN then refuses for its vector; no exception has a vector above 31.
std::uint64_t to_deliver_again(std::uint64_t exit_int_info) {
  constexpr std::uint64_t kVector = 0xFF;
  const bool is_interrupt = (exit_int_info & svm::kEventType) == svm::kEventTypeException &&
                            (exit_int_info & kVector) > 31;
  return is_interrupt ? exit_int_info & ~svm::kEventType : exit_int_info;
}

}  // namespace

template <PlatformProcessor Platform>
void Monitor<Platform>::run(Vcpu& vcpu) {
  for (;;) {
    enter(vcpu);
    const std::uint64_t started = cpu::read_tsc();
    const Verdict verdict = handle_exit(vcpu);
    if (!verdict) {
      stop(vcpu, verdict.error());
    }
    Reporter::add(reporter_.counters().exit_ticks, cpu::read_tsc() - started);
    if (vcpu.wants_idle) {
      wait_for_interrupt(vcpu);
    }
  }
}

template <PlatformProcessor Platform>
void Monitor<Platform>::enter(Vcpu& vcpu) {
  VmcbControl& control = vcpu.vmcb->control;
  if ((control.event_injection & svm::kEventValid) != 0) {
    // TR is nowhere but in this CPU, and an event may need the stacks that it names.
    cpu::vmsave(vcpu.vmcb_pa);
  }
  platform_.before_entry(vcpu);
  const std::uint64_t generation = view_.flush_generation();
  control.tlb_control = generation != vcpu.seen_flush ? svm::kTlbFlushAll : 0;
  vcpu.seen_flush = generation;
  vcpu.save().rax = vcpu.gpr[kRax];
  vcpu.save().rsp = vcpu.gpr[kRsp];
  svm_run(vcpu.gpr.data(), vcpu.vmcb_pa);
  vcpu.gpr[kRax] = vcpu.save().rax;
  vcpu.gpr[kRsp] = vcpu.save().rsp;
  constexpr std::uint64_t kNoBreakpoints = 0x400;
  if (vcpu.save().dr7 != kNoBreakpoints) {
    cpu::write_dr7(kNoBreakpoints);  // the guest's breakpoints are not for the emulator's code
  }
  // Unless the exit puts another one in its place.
  control.event_injection = to_deliver_again(control.exit_int_info);
}

/// The guest halted through its VMM: sleep until an interrupt is pending; the guest takes it when
/// it enables interrupts.
template <PlatformProcessor Platform>
void Monitor<Platform>::wait_for_interrupt(Vcpu& vcpu) {
  vcpu.wants_idle = false;
  Reporter::add(reporter_.counters().idle_waits);
  if (vcpu.halted_masked) {
    reporter_.violation({.gpa = 0,
                         .rip = vcpu.save().rip,
                         .count = 1,
                         .kind = EventKind::kHaltedForEver,
                         .fatal = 0,
                         .vcpu = vcpu.index,
                         .detail = 0});
    cpu::stop_for_ever();
  }
  svm_idle(vcpu.idle_vmcb_pa);
}

template <PlatformProcessor Platform>
Verdict Monitor<Platform>::handle_exit(Vcpu& vcpu) {
  const VmcbControl& control = vcpu.vmcb->control;
  const auto exit = static_cast<Exit>(control.exit_code);
  Counters& counters = reporter_.counters();
  platform_.after_exit(vcpu);
  if (!platform_.is_accept(vcpu, exit)) {
    vcpu.step_bytes = 0;
  }
  switch (exit) {
    case Exit::kExceptionUd:
      return platform_.invalid_opcode(vcpu);
    case Exit::kCpuid:
      Reporter::add(counters.exits_cpuid);
      platform_.cpuid(vcpu);
      return {};
    case Exit::kNestedPageFault:
      Reporter::add(counters.exits_npf);
      return platform_.touch(vcpu, control.exit_info2, control.exit_info1);
    case Exit::kMsr:
      handle_msr(vcpu);
      return {};
    case Exit::kIo:
      handle_io(vcpu);
      return {};
    case Exit::kVmmcall:
      return handle_vmmcall(vcpu);
    case Exit::kVmrun:
    case Exit::kVmload:
    case Exit::kVmsave:
    case Exit::kStgi:
    case Exit::kClgi:
    case Exit::kSkinit:
    case Exit::kInvlpga:
      Reporter::add(counters.exits_other);
      vcpu.inject(Vcpu::kInvalidOpcode);
      return {};
    case Exit::kShutdown:
      return std::unexpected{GuestView::triple_fault()};
    case Exit::kSmi:
    case Exit::kInit:
      return std::unexpected{Fault{
          .kind = EventKind::kShutdown,
          .gpa = 0,
          .state = exit == Exit::kInit ? "INIT"sv : "SMI"sv,
          .message =
              "the guest sent itself an INIT or SMI, which a confidential VM does not have"sv}};
    case Exit::kInvalid:
    case Exit::kInvalid32:
      return std::unexpected{Fault{.kind = EventKind::kInvalidState,
                                   .gpa = 0,
                                   .state = "VMRUN refused the guest's state"sv,
                                   .message = "the guest loaded control registers that the "sv
                                              "processor does not allow"sv}};
    default:
      return std::unexpected{Fault{.kind = EventKind::kEmulatorBug,
                                   .gpa = control.exit_code,
                                   .state = "unknown exit"sv,
                                   .message = "an exit that the emulator does not know; the GPA "sv
                                              "field holds its code"sv}};
  }
}

/// The platform's own, and EFER; the registers of SVM itself do not exist.
template <PlatformProcessor Platform>
void Monitor<Platform>::handle_msr(Vcpu& vcpu) {
  Reporter::add(reporter_.counters().exits_msr);
  const bool is_write = vcpu.vmcb->control.exit_info1 == 1;
  const auto index = static_cast<std::uint32_t>(vcpu.gpr[kRcx]);
  if (platform_.msr(vcpu, index, is_write)) {
    return;
  }
  if (index == kMsrEfer) {
    handle_efer(vcpu, is_write);
  } else {
    vcpu.inject_with_error(Vcpu::kGeneralProtection, 0);
  }
}

/// Without its SVM bit.
template <PlatformProcessor Platform>
void Monitor<Platform>::handle_efer(Vcpu& vcpu, bool is_write) {
  VmcbSave& save = vcpu.save();
  if (!is_write) {
    const std::uint64_t shown = save.efer & ~kEferSvme;
    vcpu.gpr[kRax] = shown & 0xFFFF'FFFF;
    vcpu.gpr[kRdx] = shown >> 32;
    vcpu.advance(kMsrBytes);
    return;
  }
  constexpr std::uint64_t kCr0Paging = 1ULL << 31;
  const std::uint64_t value = (vcpu.gpr[kRdx] << 32) | (vcpu.gpr[kRax] & 0xFFFF'FFFF);
  const bool changes_lme = ((value ^ save.efer) & kEferLme) != 0;
  if ((value & ~(kEferSce | kEferLme | kEferLma | kEferNxe)) != 0 ||
      (changes_lme && (save.cr0 & kCr0Paging) != 0)) {
    vcpu.inject_with_error(Vcpu::kGeneralProtection, 0);
    return;
  }
  // LMA is the processor's to set; SVME must stay for VMRUN.
  save.efer = (value & ~kEferLma) | (save.efer & kEferLma) | kEferSvme;
  vcpu.advance(kMsrBytes);
}

/// The report port: the launcher may write to it until it starts the kernel.
template <PlatformProcessor Platform>
void Monitor<Platform>::handle_io(Vcpu& vcpu) {
  Reporter::add(reporter_.counters().exits_io);
  const std::uint64_t info = vcpu.vmcb->control.exit_info1;
  const bool is_in = (info & svm::kIoIn) != 0;
  if (is_in) {
    const std::uint64_t bytes = info >> 4 & 7;
    const std::uint64_t mask = ~0ULL >> (64 - 8 * std::max<std::uint64_t>(bytes, 1));
    // A 32-bit result clears the upper half of RAX, smaller ones do not.
    vcpu.gpr[kRax] = bytes == 4 ? mask : vcpu.gpr[kRax] | mask;
  } else if (view_.phase() == Phase::kFirmware && (info & svm::kIoString) == 0) {
    cpu::out8(kReportPort, static_cast<std::uint8_t>(vcpu.gpr[kRax]));
  }
  // EXITINFO2 is the RIP behind the instruction.
  vcpu.advance(vcpu.vmcb->control.exit_info2 - vcpu.save().rip);
}

template <PlatformProcessor Platform>
Verdict Monitor<Platform>::handle_vmmcall(Vcpu& vcpu) {
  const auto answered = platform_.vmmcall(vcpu);
  if (!answered) {
    return std::unexpected{answered.error()};
  }
  if (!*answered) {
    Reporter::add(reporter_.counters().exits_other);
    handle_hypercall(vcpu);
  }
  return {};
}

/// Only what the launcher announces; otherwise there is no such instruction.
template <PlatformProcessor Platform>
void Monitor<Platform>::handle_hypercall(Vcpu& vcpu) {
  const std::uint64_t argument = vcpu.gpr[kRdx];
  if (vcpu.gpr[kRax] != kHypercallMagic || view_.phase() == Phase::kKernel ||
      vcpu.save().cpl != 0) {
    vcpu.inject(Vcpu::kInvalidOpcode);
    return;
  }
  switch (static_cast<Hypercall>(vcpu.gpr[kRcx])) {
    case Hypercall::kPhase:
      if (argument > static_cast<std::uint64_t>(view_.phase()) && argument < kPhases) {
        begin_phase(vcpu, static_cast<Phase>(argument));
      }
      break;
    case Hypercall::kKernelReturned: {
      JsonLine line{"kernel-returned"sv};
      write_report(line.number("status"sv, argument));
      break;
    }
    case Hypercall::kFirmwareAccepts:
      view_.set_firmware_accepts(argument != 0);
      log_phase(vcpu, view_.accepting_phase());
      break;
    default:
      vcpu.inject(Vcpu::kInvalidOpcode);
      return;
  }
  vcpu.advance(kVmmcallBytes);
}

template <PlatformProcessor Platform>
void Monitor<Platform>::begin_phase(const Vcpu& vcpu, Phase phase) {
  view_.enter_phase(phase);
  log_phase(vcpu, phase);
  JsonLine line{phase == Phase::kKernel ? "boot-services-exited"sv : "kernel-start"sv};
  write_report(line);
}

template <PlatformProcessor Platform>
void Monitor<Platform>::log_phase(const Vcpu& vcpu, Phase phase) {
  reporter_.event(EventKind::kPhase, static_cast<std::uint8_t>(phase), PhysRange{}, cpu::read_tsc(),
                  vcpu.index);
}

template <PlatformProcessor Platform>
void Monitor<Platform>::stop(const Vcpu& vcpu, const Fault& fault) {
  reporter_.violation({.gpa = fault.gpa,
                       .rip = vcpu.save().rip,
                       .count = 1,
                       .kind = fault.kind,
                       .fatal = 1,
                       .vcpu = vcpu.index,
                       .detail = fault.detail});
  // The text for people first: at the report line the command may end the VM.
  write_serial(fault.kind, fault.gpa, vcpu.save().rip, fault.message);
  if (fault.kind == EventKind::kGuestPanic) {
    JsonLine line{"guest-panic"sv};
    write_report(line.text("message"sv, fault.message));
  } else {
    JsonLine line{"fault"sv};
    write_report(line.text("kind"sv, name(fault.kind))
                     .hex("gpa"sv, fault.gpa)
                     .hex("rip"sv, vcpu.save().rip)
                     .number("vcpu"sv, vcpu.index)
                     .text("state"sv, fault.state)
                     .text("message"sv, fault.message));
  }
  cpu::stop_for_ever();
}

template class Monitor<TdxProcessor>;
template class Monitor<SnpProcessor>;

}  // namespace accede::emulator
