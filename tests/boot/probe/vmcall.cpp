// TDG.VP.VMCALL: what a guest asks of its VMM.

#include "accede/emulator/cpu.hpp"
#include "accede/emulator/report_layout.hpp"
#include "tests/boot/probe/address_space.hpp"
#include "tests/boot/probe/instructions.hpp"
#include "tests/boot/probe/probe.hpp"

#include <array>

namespace probe {
namespace {

namespace cpu = accede::emulator::cpu;
using accede::abi::tdx::Vmcall;

constexpr std::uint64_t kOperandInvalidRcx = 0xC000'0100'0000'0001;
constexpr std::uint64_t kInvalidOperand = 0x8000'0000'0000'0000;
constexpr std::uint64_t kUnsupported = 0x8000'0000'0000'0003;

void capabilities(Probe& probe) {
  for (const std::uint64_t leaf : {0, 1}) {
    const Registers answer = vmcall(Vmcall::kGetTdVmCallInfo, leaf, 1, 2, 3);
    probe.expect("RAX", answer[Gpr::kRax], 0);
    probe.expect("R10", answer[Gpr::kR10], 0);
    for (const Gpr r : {Gpr::kR11, Gpr::kR12, Gpr::kR13, Gpr::kR14}) {
      probe.expect("a capability", answer[r], 0);
    }
  }
  for (const std::uint64_t leaf : {std::uint64_t{2}, ~std::uint64_t{0}}) {
    probe.expect("a leaf that does not exist", vmcall(Vmcall::kGetTdVmCallInfo, leaf)[Gpr::kR10],
                 kInvalidOperand);
  }
}

/// Registers that the mask does not expose keep their values, and the VMM does not see them.
void register_masking(Probe& probe) {
  Registers before;
  for (std::size_t i = 0; i < before.value.size(); ++i) {
    before.value[i] = 0xA500 + i;
  }
  before[Gpr::kRax] = 0;
  before[Gpr::kRcx] = 0x0C00;  // R10 and R11
  before[Gpr::kR10] = 0;
  before[Gpr::kR11] = static_cast<std::uint64_t>(Vmcall::kGetTdVmCallInfo);
  Registers after = before;
  probe_tdcall(&after);
  probe.expect("RAX", after[Gpr::kRax], 0);
  probe.expect("R10: the VMM saw leaf 0 and not R12", after[Gpr::kR10], 0);
  probe.expect("R11", after[Gpr::kR11], 0);
  for (const Gpr r : {Gpr::kRcx, Gpr::kRdx, Gpr::kRbx, Gpr::kRbp, Gpr::kRsi, Gpr::kRdi, Gpr::kR8,
                      Gpr::kR9, Gpr::kR12, Gpr::kR13, Gpr::kR14, Gpr::kR15}) {
    probe.expect("a register that is not exposed", after[r], before[r]);
  }
  // Not even the answer arrives: with an empty mask nothing changes but RAX.
  after = before;
  after[Gpr::kRcx] = 0;
  probe_tdcall(&after);
  probe.expect("R10 behind an empty mask", after[Gpr::kR10], 0);
  probe.expect("R11 behind an empty mask", after[Gpr::kR11], before[Gpr::kR11]);
}

void bad_masks(Probe& probe) {
  for (const std::uint64_t mask :
       {std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{0x10}, kUsualMask | 0x10,
        std::uint64_t{1} << 32, std::uint64_t{1} << 63}) {
    const Registers answer = vmcall(Vmcall::kGetTdVmCallInfo, 2, 0, 0, 0, mask);
    probe.expect("RAX", answer[Gpr::kRax], kOperandInvalidRcx);
    probe.expect("R10", answer[Gpr::kR10], 0);
    probe.expect("R11", answer[Gpr::kR11], static_cast<std::uint64_t>(Vmcall::kGetTdVmCallInfo));
  }
}

void unknown_sub_functions(Probe& probe) {
  for (const std::uint64_t function : {0, 1, 11, 54, 65, 0x10005, 0x10006, 0x10007}) {
    const Registers answer = vmcall(static_cast<Vmcall>(function));
    probe.expect("RAX", answer[Gpr::kRax], 0);
    probe.expect("R10", answer[Gpr::kR10], kUnsupported);
  }
}

void vendor_call(Probe& probe) {
  Registers r;
  r[Gpr::kRcx] = kUsualMask;
  r[Gpr::kR10] = 5;
  r[Gpr::kR11] = 12;
  probe_tdcall(&r);
  probe.expect("RAX", r[Gpr::kRax], 0);
  probe.expect("R10", r[Gpr::kR10], kUnsupported);
}

/// The same answers as the instruction gives, in R12 to R15.
void cpuid(Probe& probe) {
  for (const std::uint32_t leaf :
       {0U, 1U, 7U, 0xDU, 0x21U, 0x4000'0000U, 0x8000'0000U, 0x8000'0001U, 0x8000'0008U}) {
    const cpu::CpuidResult direct = cpu::cpuid(leaf, 0);
    const Registers answer = vmcall(Vmcall::kCpuid, leaf, 0);
    probe.expect("R10", answer[Gpr::kR10], 0);
    probe.expect("EAX in R12", answer[Gpr::kR12], direct.eax);
    // Leaf 1 holds the initial APIC id and OSXSAVE, which follows the guest's CR4.
    constexpr std::uint32_t kOsXsave = 1U << 27;
    const std::uint32_t ignore = leaf == 1 ? kOsXsave : 0;
    probe.expect("EBX in R13", answer[Gpr::kR13], direct.ebx);
    probe.expect("ECX in R14", answer[Gpr::kR14] & ~std::uint64_t{ignore}, direct.ecx & ~ignore);
    probe.expect("EDX in R15", answer[Gpr::kR15], direct.edx);
  }
}

/// Reads a register of the real-time clock by instructions and by VMCALLs.
void port_io(Probe& probe) {
  constexpr std::uint16_t kIndex = 0x70;
  constexpr std::uint16_t kData = 0x71;
  constexpr std::uint8_t kStatusB = 0x0B;
  cpu::out8(kIndex, kStatusB);
  const std::uint8_t direct = cpu::in8(kData);
  probe.expect("OUT by VMCALL", vmcall(Vmcall::kIo, 1, 1, kIndex, kStatusB)[Gpr::kR10], 0);
  const Registers answer = vmcall(Vmcall::kIo, 1, 0, kData);
  probe.expect("R10", answer[Gpr::kR10], 0);
  probe.expect("IN by VMCALL, in R11", answer[Gpr::kR11], direct);

  constexpr std::uint16_t kPciAddress = 0xCF8;
  constexpr std::uint16_t kPciData = 0xCFC;
  constexpr std::uint32_t kHostBridge = 0x8000'0000;
  cpu::out32(kPciAddress, kHostBridge);
  const std::uint32_t id = cpu::in32(kPciData);
  probe.expect("4 bytes out", vmcall(Vmcall::kIo, 4, 1, kPciAddress, kHostBridge)[Gpr::kR10], 0);
  probe.expect("4 bytes in", vmcall(Vmcall::kIo, 4, 0, kPciData)[Gpr::kR11], id);
  probe.expect("2 bytes in", vmcall(Vmcall::kIo, 2, 0, kPciData)[Gpr::kR11], id & 0xFFFF);
}

void port_io_operands(Probe& probe) {
  const auto r10 = [](std::uint64_t size, std::uint64_t direction, std::uint64_t port) {
    return vmcall(Vmcall::kIo, size, direction, port)[Gpr::kR10];
  };
  for (const std::uint64_t size : {0, 3, 5, 8, 0x100}) {
    probe.expect("a size that is none", r10(size, 0, 0x71), kInvalidOperand);
  }
  probe.expect("a direction that is none", r10(1, 2, 0x71), kInvalidOperand);
  probe.expect("a port that is none", r10(1, 0, 0x1'0071), kInvalidOperand);
}

void read_msr(Probe& probe) {
  constexpr std::uint32_t kApicBase = 0x1B;
  const Registers answer = vmcall(Vmcall::kRdmsr, kApicBase);
  probe.expect("R10", answer[Gpr::kR10], 0);
  probe.expect("in R11", answer[Gpr::kR11], cpu::read_msr(kApicBase));
  constexpr std::uint64_t kBase = 0xFEE0'0000;
  constexpr std::uint64_t kBootProcessor = 0x100;
  constexpr std::uint64_t kEnabled = 0x800;
  probe.expect("APIC base, enabled, boot processor",
               answer[Gpr::kR11] & (0xFFFF'F000 | kBootProcessor | kEnabled),
               kBase | kBootProcessor | kEnabled);
}

void unsupported_msr(Probe& probe) {
  constexpr std::uint64_t kVmHsavePa = 0xC001'0117;
  constexpr std::uint64_t kEfer = 0xC000'0080;
  constexpr std::uint64_t kAboveThirtyTwoBits = 1ULL << 32 | 0x1B;
  for (const std::uint64_t msr : {kVmHsavePa, kEfer, kAboveThirtyTwoBits, ~std::uint64_t{0}}) {
    probe.expect("RDMSR", vmcall(Vmcall::kRdmsr, msr)[Gpr::kR10], kInvalidOperand);
    probe.expect("WRMSR", vmcall(Vmcall::kWrmsr, msr, 0)[Gpr::kR10], kInvalidOperand);
  }
}

void write_msr(Probe& probe) {
  constexpr std::uint32_t kVariableMttrBase7 = 0x20E;
  const std::uint64_t old = cpu::read_msr(kVariableMttrBase7);
  const std::uint64_t changed = old ^ 0x1000;
  probe.expect("R10", vmcall(Vmcall::kWrmsr, kVariableMttrBase7, changed)[Gpr::kR10], 0);
  probe.expect("RDMSR sees it", vmcall(Vmcall::kRdmsr, kVariableMttrBase7)[Gpr::kR11], changed);
  probe.expect("R10", vmcall(Vmcall::kWrmsr, kVariableMttrBase7, old)[Gpr::kR10], 0);
}

/// Reads by VMCALL what a load reads: timer, flash, I/O APIC.
void memory_mapped_io(Probe& probe) {
  constexpr PhysAddr kHpet{0xFED0'0000};
  constexpr PhysAddr kFlashEnd{0xFFFF'FFF0};
  const auto read = [&](std::uint64_t size, std::uint64_t gpa) {
    const Registers answer = vmcall(Vmcall::kRequestMmio, size, 0, gpa);
    probe.expect("R10", answer[Gpr::kR10], 0);
    return answer[Gpr::kR11];
  };
  probe.expect("8 bytes", read(8, kHpet.value()), load<std::uint64_t>(at_private(kHpet)));
  probe.expect("4 bytes", read(4, kHpet.value()), load<std::uint32_t>(at_private(kHpet)));
  probe.expect("4 bytes, shared bit set", read(4, kHpet.value() | kSharedBit),
               load<std::uint32_t>(at_private(kHpet)));
  probe.expect("2 bytes", read(2, kFlashEnd.value()), load<std::uint16_t>(at_private(kFlashEnd)));
  probe.expect("1 byte", read(1, kFlashEnd.value()), load<std::uint8_t>(at_private(kFlashEnd)));

  constexpr PhysAddr kIoApic{0xFEC0'0000};
  constexpr std::uint64_t kVersionRegister = 1;
  const Registers written =
      vmcall(Vmcall::kRequestMmio, 4, 1, kIoApic.value() | kSharedBit, kVersionRegister);
  probe.expect("R10 of a write", written[Gpr::kR10], 0);
  probe.expect("the write arrived", load<std::uint32_t>(at_private(kIoApic)), kVersionRegister);
  probe.expect("the register behind it", read(4, kIoApic.value() + 0x10),
               load<std::uint32_t>(at_private(kIoApic + 0x10_B)));
}

void memory_mapped_io_operands(Probe& probe) {
  const auto r10 = [](std::uint64_t size, std::uint64_t direction, std::uint64_t gpa) {
    return vmcall(Vmcall::kRequestMmio, size, direction, gpa)[Gpr::kR10];
  };
  constexpr std::uint64_t kHpet = 0xFED0'0000;
  for (const std::uint64_t size : {0, 3, 5, 16}) {
    probe.expect("a size that is none", r10(size, 0, kHpet), kInvalidOperand);
  }
  probe.expect("a direction that is none", r10(4, 2, kHpet), kInvalidOperand);
  probe.expect("not aligned", r10(4, 0, kHpet + 1), kInvalidOperand);
  const std::uint64_t ram = reinterpret_cast<std::uintptr_t>(&probe) & ~7ULL;
  probe.expect("RAM", r10(8, 0, ram), kInvalidOperand);
  probe.expect("RAM, written", r10(8, 1, ram), kInvalidOperand);
  probe.expect("the emulator", r10(8, 0, probe.emulator_unit().value()), kInvalidOperand);
}

void get_quote(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  probe.expect("MapGPA", vmcall(Vmcall::kMapGpa, unit.value() | kSharedBit, 8192)[Gpr::kR10], 0);
  store<std::uint64_t>(at_shared(unit), 1);  // version
  store<std::uint64_t>(at_shared(unit + 8_B), ~0ULL);
  const auto quote = [](std::uint64_t gpa, std::uint64_t bytes) {
    return vmcall(Vmcall::kGetQuote, gpa, bytes)[Gpr::kR10];
  };
  probe.expect("R10", quote(unit.value() | kSharedBit, 8192), 0);
  probe.expect("the buffer's version", load<std::uint64_t>(at_shared(unit)), 1);
  probe.expect("the buffer's status: service unavailable",
               load<std::uint64_t>(at_shared(unit + 8_B)), 0x8000'0000'0000'0001);
  probe.expect("shared bit clear", quote(unit.value(), 8192), kInvalidOperand);
  probe.expect("no bytes", quote(unit.value() | kSharedBit, 0), kInvalidOperand);
  probe.expect("half a page", quote(unit.value() | kSharedBit, 2048), kInvalidOperand);
  probe.expect("not aligned", quote(unit.value() | kSharedBit | 64, 4096), kInvalidOperand);
  probe.expect("a private page", quote((unit + 8_KiB).value() | kSharedBit, 4096), kInvalidOperand);
}

void event_notification(Probe& probe) {
  const auto r10 = [](std::uint64_t vector) {
    return vmcall(Vmcall::kSetupEventNotifyInterrupt, vector)[Gpr::kR10];
  };
  probe.expect("vector 32", r10(32), 0);
  probe.expect("vector 255", r10(255), 0);
  probe.expect("vector 31", r10(31), kInvalidOperand);
  probe.expect("vector 256", r10(256), kInvalidOperand);
}

/// The report port is the emulator's own: the guest reads ones from it and what it writes is lost,
/// natively and by VMCALL.
void report_port(Probe& probe) {
  constexpr std::uint16_t kPort = accede::emulator::kReportPort;
  probe.expect("IN", cpu::in8(kPort), 0xFF);
  probe.expect("IN of 2 bytes", cpu::in16(kPort), 0xFFFF);
  probe.expect("IN of 4 bytes", cpu::in32(kPort), 0xFFFF'FFFF);
  const Registers answer = vmcall(Vmcall::kIo, 1, 0, kPort);
  probe.expect("IN by VMCALL", answer[Gpr::kR11], 0xFF);
  for (const char c : std::string_view{"{\"event\":\"fault\",\"kind\":\"forged\"}\n"}) {
    cpu::out8(kPort, static_cast<std::uint8_t>(c));
    static_cast<void>(vmcall(Vmcall::kIo, 1, 1, kPort, static_cast<std::uint8_t>(c)));
  }
}

/// HLT lets real time pass until the firmware's timer ticks (every 10 ms).
void halt(Probe& probe) {
  constexpr std::uint64_t kHalts = 20;
  const std::uint64_t start = cpu::read_tsc();
  probe.firmware().boot().stall(20'000);
  const std::uint64_t twenty_milliseconds = cpu::read_tsc() - start;
  const std::uint64_t halted = cpu::read_tsc();
  for (std::uint64_t i = 0; i < kHalts; ++i) {
    probe.expect("R10", vmcall(Vmcall::kHlt, 0)[Gpr::kR10], 0);
  }
  const std::uint64_t ticks = cpu::read_tsc() - halted;
  probe.note("ticks in 20 ms", twenty_milliseconds);
  probe.note("ticks in 20 HLTs", ticks);
  probe.expect("20 HLTs take at least 60 ms", ticks >= 3 * twenty_milliseconds);
  probe.expect("20 HLTs take at most 2 s", ticks <= 100 * twenty_milliseconds);
}

/// Ends the guest, with its text in the report.
void report_fatal_error(Probe& probe) {
  Registers r;
  r[Gpr::kRcx] = kUsualMask;
  r[Gpr::kR11] = static_cast<std::uint64_t>(Vmcall::kReportFatalError);
  constexpr std::string_view kText =
      "the probe says \"farewell\" \\ and this is exactly 64 characters.";
  static_assert(kText.size() <= 64);
  constexpr std::array<Gpr, 8> kOrder{Gpr::kR14, Gpr::kR15, Gpr::kRbx, Gpr::kRdi,
                                      Gpr::kRsi, Gpr::kR8,  Gpr::kR9,  Gpr::kRdx};
  for (std::size_t i = 0; i < kText.size(); ++i) {
    r[kOrder[i / 8]] |= std::uint64_t{static_cast<std::uint8_t>(kText[i])} << (8 * (i % 8));
  }
  probe_tdcall(&r);
  probe.survived();
}

constexpr auto kScenarios = std::to_array<Scenario>({
    {"capabilities", capabilities},
    {"register-masking", register_masking},
    {"bad-masks", bad_masks},
    {"unknown-sub-functions", unknown_sub_functions},
    {"vendor-call", vendor_call},
    {"cpuid", cpuid},
    {"port-io", port_io},
    {"port-io-operands", port_io_operands},
    {"read-msr", read_msr},
    {"unsupported-msr", unsupported_msr},
    {"write-msr", write_msr},
    {"memory-mapped-io", memory_mapped_io},
    {"memory-mapped-io-operands", memory_mapped_io_operands},
    {"get-quote", get_quote},
    {"event-notification", event_notification},
    {"report-port", report_port},
    {"halt", halt},
    {"report-fatal-error", report_fatal_error},
});

}  // namespace

std::span<const Scenario> vmcall_scenarios() {
  return kScenarios;
}

}  // namespace probe
