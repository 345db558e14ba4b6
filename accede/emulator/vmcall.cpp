#include "accede/emulator/vmcall.hpp"

#include "accede/abi/tdx.hpp"
#include "accede/emulator/cpu.hpp"
#include "accede/emulator/cpuid.hpp"

#include <algorithm>
#include <bit>

namespace accede::emulator {
namespace {

using abi::tdx::Vmcall;
using abi::tdx::VmcallStatus;

constexpr std::uint64_t value(VmcallStatus status) {
  return static_cast<std::uint64_t>(status);
}

VmcallSlot slot_of(std::uint64_t function) {
  switch (static_cast<Vmcall>(function)) {
    case Vmcall::kCpuid:
      return VmcallSlot::kCpuid;
    case Vmcall::kHlt:
      return VmcallSlot::kHlt;
    case Vmcall::kIo:
      return VmcallSlot::kIo;
    case Vmcall::kRdmsr:
      return VmcallSlot::kReadMsr;
    case Vmcall::kWrmsr:
      return VmcallSlot::kWriteMsr;
    case Vmcall::kRequestMmio:
      return VmcallSlot::kMmio;
    case Vmcall::kGetTdVmCallInfo:
      return VmcallSlot::kGetTdVmCallInfo;
    case Vmcall::kMapGpa:
      return VmcallSlot::kMapGpa;
    case Vmcall::kGetQuote:
      return VmcallSlot::kGetQuote;
    case Vmcall::kReportFatalError:
      return VmcallSlot::kReportFatalError;
    case Vmcall::kSetupEventNotifyInterrupt:
      return VmcallSlot::kSetupEventNotify;
    default:
      return VmcallSlot::kOther;
  }
}

}  // namespace

Verdict VmcallHandler::answer(Vcpu& vcpu, Registers& registers) {
  if (registers[kR10] != 0) {
    // A vendor call (KVM's hypercalls): there is no such hypervisor here.
    count_unknown(registers[kR10], vcpu);
    registers[kR10] = value(VmcallStatus::kSubfuncUnsupported);
    return {};
  }
  count(registers[kR11], vcpu);
  return standard(vcpu, registers);
}

void VmcallHandler::count(std::uint64_t function, Vcpu& vcpu) {
  const VmcallSlot slot = slot_of(function);
  if (slot == VmcallSlot::kOther) {
    count_unknown(function, vcpu);
  } else {
    Reporter::add(reporter_.counters().vmcall[static_cast<std::size_t>(slot)]);
  }
}

void VmcallHandler::count_unknown(std::uint64_t function, const Vcpu& vcpu) {
  Reporter::add(reporter_.counters().vmcall[static_cast<std::size_t>(VmcallSlot::kOther)]);
  reporter_.violation({.gpa = function,
                       .rip = vcpu.save().rip,
                       .count = 1,
                       .kind = EventKind::kUnknownVmcall,
                       .fatal = 0,
                       .vcpu = vcpu.index,
                       .detail = static_cast<std::uint32_t>(function)});
}

Verdict VmcallHandler::standard(Vcpu& vcpu, Registers& r) {
  const auto function = static_cast<Vmcall>(r[kR11]);
  r[kR10] = value(VmcallStatus::kSuccess);
  switch (function) {
    case Vmcall::kCpuid: {
      const auto leaf = static_cast<std::uint32_t>(r[kR12]);
      const auto subleaf = static_cast<std::uint32_t>(r[kR13]);
      const cpu::CpuidResult answer = tdx_cpuid(leaf, subleaf, vcpu.save().cr4);
      r[kR12] = answer.eax;
      r[kR13] = answer.ebx;
      r[kR14] = answer.ecx;
      r[kR15] = answer.edx;
      return {};
    }
    case Vmcall::kHlt:
      vcpu.wants_idle = true;
      vcpu.halted_masked = r[kR12] != 0;
      return {};
    case Vmcall::kIo:
      port_io(r);
      return {};
    case Vmcall::kRdmsr:
      if (const auto word = DeviceAccess::read_msr(r[kR12])) {
        r[kR11] = *word;
      } else {
        r[kR10] = value(VmcallStatus::kInvalidOperand);
      }
      return {};
    case Vmcall::kWrmsr:
      if (!DeviceAccess::write_msr(r[kR12], r[kR13])) {
        r[kR10] = value(VmcallStatus::kInvalidOperand);
      }
      return {};
    case Vmcall::kRequestMmio:
      mmio(r);
      return {};
    case Vmcall::kGetTdVmCallInfo:
      if (r[kR12] > 1) {
        r[kR10] = value(VmcallStatus::kInvalidOperand);
      } else {
        r[kR11] = r[kR12] = r[kR13] = r[kR14] = 0;  // base functions only
      }
      return {};
    case Vmcall::kMapGpa:
      return map_gpa(vcpu, r);
    case Vmcall::kReportFatalError:
      return fatal_error(r);
    case Vmcall::kSetupEventNotifyInterrupt:
      if (r[kR12] < 32 || r[kR12] > 255) {
        r[kR10] = value(VmcallStatus::kInvalidOperand);
      }
      return {};
    case Vmcall::kGetQuote:
      // No quoting service exists here. The buffer's own status says so (GHCI: the call succeeds,
      // the answer lies in the shared buffer).
      r[kR10] = value(pages_.refuse_quote(r[kR12], r[kR13]) ? VmcallStatus::kSuccess
                                                            : VmcallStatus::kInvalidOperand);
      return {};
    default:
      r[kR10] = value(VmcallStatus::kSubfuncUnsupported);
      return {};
  }
}

Verdict VmcallHandler::map_gpa(Vcpu& vcpu, Registers& r) {
  const auto conversion = pages_.convert(vcpu, r[kR12], r[kR13]);
  if (!conversion) {
    return std::unexpected{conversion.error()};
  }
  r[kR10] = conversion->r10;
  r[kR11] = conversion->r11;
  return {};
}

/// 64 bytes of text in register order R14, R15, RBX, RDI, RSI, R8, R9, RDX.
Verdict VmcallHandler::fatal_error(const Registers& r) {
  last_words_ = {};
  std::size_t used = 0;
  for (const Register part : {kR14, kR15, kRbx, kRdi, kRsi, kR8, kR9, kRdx}) {
    for (unsigned i = 0; i < 8; ++i) {
      last_words_[used++] = static_cast<char>(r[part] >> (8 * i) & 0xFF);
    }
  }
  const auto* const end = std::ranges::find(last_words_, '\0');
  return std::unexpected{Fault{.kind = EventKind::kGuestPanic,
                               .gpa = r[kR12],
                               .state = {},
                               .message = {last_words_.data(), end}}};
}

void VmcallHandler::port_io(Registers& r) {
  const std::uint64_t size = r[kR12];
  if ((size != 1 && size != 2 && size != 4) || r[kR13] > 1 || r[kR14] > 0xFFFF) {
    r[kR10] = value(VmcallStatus::kInvalidOperand);
    return;
  }
  const auto port = static_cast<std::uint16_t>(r[kR14]);
  if (r[kR13] == 1) {
    DeviceAccess::write_port(port, static_cast<unsigned>(size),
                             static_cast<std::uint32_t>(r[kR15]));
  } else {
    r[kR11] = DeviceAccess::read_port(port, static_cast<unsigned>(size));
  }
}

void VmcallHandler::mmio(Registers& r) const {
  const std::uint64_t size = r[kR12];
  const PhysAddr gpa{r[kR14] & ~NestedPageTable::kViewMask};
  const bool is_size = size == 1 || size == 2 || size == 4 || size == 8;
  if (!is_size || r[kR13] > 1 || gpa.value() % size != 0) {
    r[kR10] = value(VmcallStatus::kInvalidOperand);
    return;
  }
  const bool is_write = r[kR13] == 1;
  auto data = std::bit_cast<std::array<std::uint8_t, 8>>(is_write ? r[kR15] : 0);
  const auto bytes = std::span{data}.first(static_cast<std::size_t>(size));
  if (!(is_write ? devices_.write_mmio(gpa, bytes) : devices_.read_mmio(gpa, bytes))) {
    r[kR10] = value(VmcallStatus::kInvalidOperand);
  } else if (!is_write) {
    r[kR11] = std::bit_cast<std::uint64_t>(data);
  }
}

}  // namespace accede::emulator
