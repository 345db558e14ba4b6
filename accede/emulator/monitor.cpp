#include "accede/emulator/monitor.hpp"

#include "accede/emulator/console.hpp"
#include "accede/emulator/cpu.hpp"
#include "accede/emulator/cpuid.hpp"
#include "accede/emulator/hypercall.hpp"
#include "accede/emulator/world_switch.hpp"

#include <algorithm>
#include <array>

namespace accede::emulator {

using namespace std::string_view_literals;
namespace {

using svm::Exit;

constexpr std::uint64_t kCpuidBytes = 2;
constexpr std::uint64_t kMsrBytes = 2;
constexpr std::uint64_t kVmmcallBytes = 3;
constexpr std::array<std::byte, 4> kTdcall{std::byte{0x66}, std::byte{0x0F}, std::byte{0x01},
                                           std::byte{0xCC}};

bool is_accept(const Vcpu& vcpu, Exit exit) {
  return exit == Exit::kExceptionUd && (vcpu.gpr[kRax] & 0xFFFF) == 6;
}

}  // namespace

void Monitor::run(Vcpu& vcpu) {
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

void Monitor::enter(Vcpu& vcpu) {
  VmcbControl& control = vcpu.vmcb->control;
  const std::uint64_t generation = pages_.flush_generation();
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
  // An event that was being delivered when the exit came must be delivered again, unless the exit
  // puts another one in its place.
  control.event_injection = control.exit_int_info;
}

/// The guest halted through its VMM: sleep until an interrupt is pending; the guest takes it when
/// it enables interrupts.
void Monitor::wait_for_interrupt(Vcpu& vcpu) {
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

Verdict Monitor::handle_exit(Vcpu& vcpu) {
  const VmcbControl& control = vcpu.vmcb->control;
  const auto exit = static_cast<Exit>(control.exit_code);
  Counters& counters = reporter_.counters();
  if (!is_accept(vcpu, exit)) {
    vcpu.step_bytes = 0;
  }
  switch (exit) {
    case Exit::kExceptionUd:
      return handle_invalid_opcode(vcpu);
    case Exit::kCpuid:
      handle_cpuid(vcpu);
      return {};
    case Exit::kNestedPageFault:
      Reporter::add(counters.exits_npf);
      return pages_.touch(vcpu, control.exit_info2, control.exit_info1);
    case Exit::kMsr:
      handle_msr(vcpu);
      return {};
    case Exit::kIo:
      handle_io(vcpu);
      return {};
    case Exit::kVmmcall:
      handle_vmmcall(vcpu);
      return {};
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
      return std::unexpected{
          Fault{.kind = EventKind::kShutdown,
                .gpa = 0,
                .state = "triple fault"sv,
                .message = "the guest's processor shut down: an exception could not be delivered "sv
                           "(missing handler, or handler and stack not reachable)"sv}};
    case Exit::kSmi:
    case Exit::kInit:
      return std::unexpected{
          Fault{.kind = EventKind::kShutdown,
                .gpa = 0,
                .state = exit == Exit::kInit ? "INIT"sv : "SMI"sv,
                .message = "the guest sent itself an INIT or SMI, which a TD does not have"sv}};
    case Exit::kInvalid:
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

/// #UD is how TDCALL shows on a processor that has none. Everything else goes back to the guest.
Verdict Monitor::handle_invalid_opcode(Vcpu& vcpu) {
  std::array<std::byte, kTdcall.size()> code{};
  const std::size_t read = memory_.fetch(vcpu.save(), code);
  if (read != code.size() || code != kTdcall) {
    Reporter::add(reporter_.counters().exits_other);
    vcpu.inject(Vcpu::kInvalidOpcode);
    return {};
  }
  if (!vcpu.in_64bit_mode() || vcpu.save().cpl != 0) {
    vcpu.inject_with_error(Vcpu::kGeneralProtection, 0);
    return {};
  }
  return module_.tdcall(vcpu);
}

void Monitor::handle_cpuid(Vcpu& vcpu) {
  Reporter::add(reporter_.counters().exits_cpuid);
  constexpr std::uint32_t kExitReasonCpuid = 10;
  const bool user = vcpu.save().cpl != 0;
  if ((vcpu.cpuid_ve & (user ? 2 : 1)) != 0) {
    Reporter::add(reporter_.counters().ve_injected);
    vcpu.inject_ve({.exit_reason = kExitReasonCpuid,
                    .instruction_length = kCpuidBytes,
                    .qualification = 0,
                    .linear_address = 0,
                    .gpa = 0});
    return;
  }
  const auto leaf = static_cast<std::uint32_t>(vcpu.gpr[kRax]);
  const auto subleaf = static_cast<std::uint32_t>(vcpu.gpr[kRcx]);
  const cpu::CpuidResult answer =
      tdx_cpuid(leaf, subleaf, cpu::cpuid(leaf, subleaf), cpu::cpuid(0, 0).eax, vcpu.save().cr4);
  vcpu.gpr[kRax] = answer.eax;
  vcpu.gpr[kRbx] = answer.ebx;
  vcpu.gpr[kRcx] = answer.ecx;
  vcpu.gpr[kRdx] = answer.edx;
  vcpu.advance(kCpuidBytes);
}

/// EFER without its SVM bit; the registers of SVM itself do not exist.
void Monitor::handle_msr(Vcpu& vcpu) {
  Reporter::add(reporter_.counters().exits_msr);
  const bool is_write = vcpu.vmcb->control.exit_info1 == 1;
  const auto msr = static_cast<std::uint32_t>(vcpu.gpr[kRcx]);
  if (msr != kMsrEfer) {
    vcpu.inject_with_error(Vcpu::kGeneralProtection, 0);
    return;
  }
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
void Monitor::handle_io(Vcpu& vcpu) {
  Reporter::add(reporter_.counters().exits_io);
  const std::uint64_t info = vcpu.vmcb->control.exit_info1;
  const bool is_in = (info & svm::kIoIn) != 0;
  if (is_in) {
    const std::uint64_t bytes = info >> 4 & 7;
    const std::uint64_t mask = ~0ULL >> (64 - 8 * std::max<std::uint64_t>(bytes, 1));
    // A 32-bit result clears the upper half of RAX, smaller ones do not.
    vcpu.gpr[kRax] = bytes == 4 ? mask : vcpu.gpr[kRax] | mask;
  } else if (pages_.phase() == Phase::kFirmware && (info & svm::kIoString) == 0) {
    cpu::out8(kReportPort, static_cast<std::uint8_t>(vcpu.gpr[kRax]));
  }
  // EXITINFO2 is the RIP behind the instruction.
  vcpu.advance(vcpu.vmcb->control.exit_info2 - vcpu.save().rip);
}

/// Only what the launcher announces; otherwise there is no such instruction.
void Monitor::handle_vmmcall(Vcpu& vcpu) {
  Reporter::add(reporter_.counters().exits_other);
  const std::uint64_t argument = vcpu.gpr[kRdx];
  if (vcpu.gpr[kRax] != kHypercallMagic || pages_.phase() == Phase::kKernel ||
      vcpu.save().cpl != 0) {
    vcpu.inject(Vcpu::kInvalidOpcode);
    return;
  }
  switch (static_cast<Hypercall>(vcpu.gpr[kRcx])) {
    case Hypercall::kPhase:
      if (argument > static_cast<std::uint64_t>(pages_.phase()) && argument < kPhases) {
        begin_phase(vcpu, static_cast<Phase>(argument));
      }
      break;
    case Hypercall::kKernelReturned: {
      JsonLine line{"kernel-returned"sv};
      write_report(line.number("status"sv, argument));
      break;
    }
    default:
      vcpu.inject(Vcpu::kInvalidOpcode);
      return;
  }
  vcpu.advance(kVmmcallBytes);
}

void Monitor::begin_phase(const Vcpu& vcpu, Phase phase) {
  pages_.enter_phase(phase);
  reporter_.event(EventKind::kPhase, static_cast<std::uint8_t>(phase), PhysRange{}, cpu::read_tsc(),
                  vcpu.index);
  JsonLine line{phase == Phase::kKernel ? "boot-services-exited"sv : "kernel-start"sv};
  write_report(line);
}

void Monitor::stop(const Vcpu& vcpu, const Fault& fault) {
  reporter_.violation({.gpa = fault.gpa,
                       .rip = vcpu.save().rip,
                       .count = 1,
                       .kind = fault.kind,
                       .fatal = 1,
                       .vcpu = vcpu.index,
                       .detail = 0});
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

}  // namespace accede::emulator
