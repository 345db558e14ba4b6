// What a guest asks of its host through the GHCB page, page states aside.

#include "accede/emulator/cpu.hpp"
#include "accede/emulator/report_layout.hpp"
#include "tests/boot/probe/snp.hpp"

namespace probe {
namespace {

namespace cpu = accede::emulator::cpu;
using ghcb::ExitCode;
using ghcb::IoioInfo;
using ghcb::MalformedReason;

constexpr std::uint64_t code(ExitCode exit) {
  return static_cast<std::uint64_t>(exit);
}

// --- Requests that are malformed
// --------------------------------------------------------------------

void malformed(Probe& probe) {
  const Ghcb host{probe};
  for (const std::uint64_t unknown : {0ULL, 0x40ULL, 0x8000'0000ULL, 0x8000'0006ULL, 0x8000'0014ULL,
                                      0x8000'0018ULL, 0x1'0000'0072ULL, ~0ULL}) {
    host.refused("an exit code that is none", {.code = unknown}, MalformedReason::kInvalidEvent);
  }
  for (const std::uint32_t usage : {1U, 0x8000'0000U}) {
    host.refused("a usage that is none", {.code = code(ExitCode::kHvFeatures), .usage = usage},
                 MalformedReason::kBadUsage);
  }
  const auto missing = [&](std::string_view what, const GhcbRequest& request) {
    host.refused(what, request, MalformedReason::kMissingInput);
  };
  missing("CPUID without RCX", {.code = code(ExitCode::kCpuid), .rax = 0});
  missing("CPUID without RAX", {.code = code(ExitCode::kCpuid), .rcx = 0});
  missing("CPUID of leaf 0xD without XCR0", {.code = code(ExitCode::kCpuid), .rax = 0xD, .rcx = 0});
  missing("RDMSR without RCX", {.code = code(ExitCode::kMsr)});
  missing("WRMSR without RDX", {.code = code(ExitCode::kMsr), .info1 = 1, .rax = 0, .rcx = 0x1B});
  missing("OUT without RAX", {.code = code(ExitCode::kIoio), .info1 = 0x0080'0210});
  missing("OUTS without a buffer", {.code = code(ExitCode::kIoio), .info1 = 0x0080'0214});
  missing("MMIO without a buffer",
          {.code = code(ExitCode::kMmioRead), .info1 = 0xFED0'0000, .info2 = 4});
  missing("a list without a place", {.code = code(ExitCode::kPageStateChange)});
  missing("VMMCALL without CPL", {.code = code(ExitCode::kVmmcall), .rax = 0});
  missing("a guest request with one page for both", {.code = code(ExitCode::kGuestRequest),
                                                     .info1 = host.gpa().value(),
                                                     .info2 = host.gpa().value()});
  missing("a guest request, not aligned", {.code = code(ExitCode::kGuestRequest),
                                           .info1 = host.gpa().value() + 8,
                                           .info2 = host.gpa().value() + 4096});
}

// --- Devices
// ----------------------------------------------------------------------------------------

std::uint64_t port_info(std::uint16_t port, std::uint64_t bytes, bool in) {
  // 1, 2 and 4 bytes are bits 4, 5 and 6.
  const std::uint64_t info = IoioInfo::Port::set(bytes << 4, port);
  return IoioInfo::Address64::set(IoioInfo::In::set(info, in ? 1 : 0), 1);
}

std::uint64_t in(const Ghcb& host, std::uint16_t port, std::uint64_t bytes) {
  return host.call({.code = code(ExitCode::kIoio), .info1 = port_info(port, bytes, true)}).rax;
}
void out(const Ghcb& host, std::uint16_t port, std::uint64_t bytes, std::uint64_t value) {
  static_cast<void>(host.call(
      {.code = code(ExitCode::kIoio), .info1 = port_info(port, bytes, false), .rax = value}));
}

constexpr std::uint16_t kPciAddress = 0xCF8;
constexpr std::uint16_t kPciData = 0xCFC;

/// Registers of the real-time clock and of the host bridge, by instructions and by requests.
void port_io(Probe& probe) {
  const Ghcb host{probe};
  constexpr std::uint16_t kIndex = 0x70;
  constexpr std::uint16_t kData = 0x71;
  constexpr std::uint8_t kStatusB = 0x0B;
  cpu::out8(kIndex, kStatusB);
  const std::uint8_t direct = cpu::in8(kData);
  out(host, kIndex, 1, kStatusB);
  probe.expect("1 byte in", in(host, kData, 1), direct);

  constexpr std::uint32_t kHostBridge = 0x8000'0000;
  cpu::out32(kPciAddress, kHostBridge);
  const std::uint32_t id = cpu::in32(kPciData);
  cpu::out32(kPciAddress, 0);
  out(host, kPciAddress, 4, kHostBridge);
  probe.expect("4 bytes out", cpu::in32(kPciAddress), kHostBridge);
  probe.expect("4 bytes in", in(host, kPciData, 4), id);
  probe.expect("2 bytes in", in(host, kPciData, 2), id & 0xFFFF);
  // A narrow IN keeps the rest of RAX.
  const GhcbAnswer narrow = host.call({.code = code(ExitCode::kIoio),
                                       .info1 = port_info(kPciData, 2, true),
                                       .rax = 0x1111'2222'3333'4444});
  probe.expect("the rest of RAX", narrow.rax, 0x1111'2222'3333'0000 | (id & 0xFFFF));
  host.refused("3 bytes", {.code = code(ExitCode::kIoio), .info1 = port_info(kPciData, 3, true)},
               MalformedReason::kInvalidInput);
}

/// INS with a repeat count: the elements lie in the shared buffer.
void string_io(Probe& probe) {
  const Ghcb host{probe};
  cpu::out32(kPciAddress, 0x8000'0000);
  const std::uint32_t id = cpu::in32(kPciData);
  const std::uint64_t info =
      IoioInfo::Rep::set(IoioInfo::String::set(port_info(kPciData, 4, true), 1), 1);
  host.put(kGhcbBuffer, 0);
  host.put(kGhcbBuffer + 8, 0);
  static_cast<void>(host.call(
      {.code = code(ExitCode::kIoio), .info1 = info, .info2 = 3, .scratch = host.scratch()}));
  probe.expect("two elements", host.get(kGhcbBuffer), std::uint64_t{id} << 32 | id);
  probe.expect("the third", host.get(kGhcbBuffer + 8), id);
  host.refused(
      "more than the buffer holds",
      {.code = code(ExitCode::kIoio), .info1 = info, .info2 = 509, .scratch = host.scratch()},
      MalformedReason::kBadScratch);
  host.refused("a buffer that is none",
               {.code = code(ExitCode::kIoio), .info1 = info, .info2 = 1, .scratch = 0x1000},
               MalformedReason::kBadScratch);
}

/// The report port is the emulator's own: the guest reads ones from it and what it writes is lost.
void report_port(Probe& probe) {
  const Ghcb host{probe};
  constexpr std::uint16_t kPort = accede::emulator::kReportPort;
  probe.expect("IN", cpu::in8(kPort), 0xFF);
  probe.expect("IN by request", in(host, kPort, 1), 0xFF);
  probe.expect("IN of 4 bytes by request", in(host, kPort - 3, 4), 0xFFFF'FFFF);
  for (const char c : std::string_view{"{\"event\":\"fault\",\"kind\":\"forged\"}\n"}) {
    cpu::out8(kPort, static_cast<std::uint8_t>(c));
    out(host, kPort, 1, static_cast<std::uint8_t>(c));
  }
}

/// Reads by requests what a load reads: timer, flash, I/O APIC.
void memory_mapped_io(Probe& probe) {
  const Ghcb host{probe};
  constexpr PhysAddr kHpet{0xFED0'0000};
  constexpr PhysAddr kFlashEnd{0xFFFF'FFF0};
  const auto read = [&](std::uint64_t gpa, std::uint64_t bytes) {
    host.put(kGhcbBuffer, 0);
    const GhcbAnswer answer = host.call({.code = code(ExitCode::kMmioRead),
                                         .info1 = gpa,
                                         .info2 = bytes,
                                         .scratch = host.scratch()});
    probe.expect("the read is done", answer.info1, 0);
    return host.get(kGhcbBuffer);
  };
  probe.expect("8 bytes", read(kHpet.value(), 8), load<std::uint64_t>(at_shared(kHpet)));
  probe.expect("4 bytes", read(kHpet.value(), 4), load<std::uint32_t>(at_shared(kHpet)));
  probe.expect("2 bytes", read(kFlashEnd.value(), 2), load<std::uint16_t>(at_shared(kFlashEnd)));
  probe.expect("1 byte", read(kFlashEnd.value(), 1), load<std::uint8_t>(at_private(kFlashEnd)));
  probe.expect("no bytes", read(kHpet.value(), 0), 0);

  constexpr PhysAddr kIoApic{0xFEC0'0000};
  constexpr std::uint64_t kVersionRegister = 1;
  host.put(kGhcbBuffer, kVersionRegister);
  static_cast<void>(host.call({.code = code(ExitCode::kMmioWrite),
                               .info1 = kIoApic.value(),
                               .info2 = 4,
                               .scratch = host.scratch()}));
  probe.expect("the write arrived", load<std::uint32_t>(at_shared(kIoApic)), kVersionRegister);
  probe.expect("the register behind it", read(kIoApic.value() + 0x10, 4),
               load<std::uint32_t>(at_shared(kIoApic + 0x10_B)));
}

/// What is no device's reads as ones and takes no write: RAM, the emulator, nothing at all.
void memory_mapped_nothing(Probe& probe) {
  const Ghcb host{probe};
  const PhysAddr unit = take_validated_unit(probe);
  store<std::uint64_t>(at_private(unit), 42);
  for (const std::uint64_t gpa : {unit.value(), host.gpa().value(), probe.emulator_unit().value(),
                                  std::uint64_t{1} << 46, std::uint64_t{1} << 51}) {
    for (const ExitCode exit : {ExitCode::kMmioWrite, ExitCode::kMmioRead}) {
      host.put(kGhcbBuffer, 0x77);
      static_cast<void>(
          host.call({.code = code(exit), .info1 = gpa, .info2 = 8, .scratch = host.scratch()}));
    }
    probe.expect("what is read", host.get(kGhcbBuffer), ~0ULL);
  }
  probe.expect("RAM stays", load<std::uint64_t>(at_private(unit)), 42);
  host.refused("9 bytes",
               {.code = code(ExitCode::kMmioRead),
                .info1 = 0xFED0'0000,
                .info2 = 9,
                .scratch = host.scratch()},
               MalformedReason::kInvalidInput);
  host.refused("a buffer that is none",
               {.code = code(ExitCode::kMmioRead),
                .info1 = 0xFED0'0000,
                .info2 = 4,
                .scratch = unit.value()},
               MalformedReason::kBadScratch);
}

// --- Instructions
// -----------------------------------------------------------------------------------

void cpuid(Probe& probe) {
  const Ghcb host{probe};
  for (const std::uint32_t leaf :
       {0U, 1U, 7U, 0xDU, 0x4000'0000U, 0x8000'0001U, 0x8000'0008U, 0x8000'001FU}) {
    for (const std::uint32_t subleaf : {0U, 1U}) {
      const cpu::CpuidResult direct = cpu::cpuid(leaf, subleaf);
      const GhcbAnswer answer =
          host.call({.code = code(ExitCode::kCpuid), .rax = leaf, .rcx = subleaf, .xcr0 = 1});
      probe.expect("RAX", answer.rax, direct.eax);
      probe.expect("RBX", answer.rbx, direct.ebx);
      probe.expect("RCX", answer.rcx, direct.ecx);
      probe.expect("RDX", answer.rdx, direct.edx);
    }
  }
}

void msr(Probe& probe) {
  const Ghcb host{probe};
  const auto value = [](const GhcbAnswer& answer) { return answer.rdx << 32 | answer.rax; };
  constexpr std::uint32_t kApicBase = 0x1B;
  probe.expect("RDMSR", value(host.call({.code = code(ExitCode::kMsr), .rcx = kApicBase})),
               cpu::read_msr(kApicBase));

  constexpr std::uint32_t kVariableMtrrBase7 = 0x20E;
  const std::uint64_t old = cpu::read_msr(kVariableMtrrBase7);
  const auto write = [&](std::uint64_t to) {
    return host.call({.code = code(ExitCode::kMsr),
                      .info1 = 1,
                      .rax = to & 0xFFFF'FFFF,
                      .rcx = kVariableMtrrBase7,
                      .rdx = to >> 32});
  };
  probe.expect("WRMSR", write(old ^ 0x1000).info1, 0);
  probe.expect("RDMSR sees it", cpu::read_msr(kVariableMtrrBase7), old ^ 0x1000);
  probe.expect("WRMSR", write(old).info1, 0);

  constexpr std::uint32_t kVmHsavePa = 0xC001'0117;
  constexpr std::uint32_t kEfer = 0xC000'0080;
  for (const std::uint32_t other : {kVmHsavePa, kEfer, ghcb::kMsrGhcb, 0xFFFF'FFFFU}) {
    host.raises_gp("RDMSR", {.code = code(ExitCode::kMsr), .rcx = other});
    host.raises_gp("WRMSR",
                   {.code = code(ExitCode::kMsr), .info1 = 1, .rax = 0, .rcx = other, .rdx = 0});
  }
}

void other_requests(Probe& probe) {
  const Ghcb host{probe};
  probe.expect("hypervisor features: SNP", host.call({.code = code(ExitCode::kHvFeatures)}).info2,
               ghcb::kHvFeatureSnp);
  const std::uint64_t before = cpu::read_tsc();
  const GhcbAnswer tsc = host.call({.code = code(ExitCode::kRdtsc)});
  const std::uint64_t between = tsc.rdx << 32 | tsc.rax;
  probe.expect("RDTSC", before <= between && between <= cpu::read_tsc());
  host.raises_gp("RDPMC", {.code = code(ExitCode::kRdpmc), .rcx = 0});
  constexpr auto kNoSuchHypercall = static_cast<std::uint64_t>(-1000);
  probe.expect("VMMCALL", host.call({.code = code(ExitCode::kVmmcall), .rax = 5, .cpl = 0}).rax,
               kNoSuchHypercall);
  probe.expect("VMMCALL of user space",
               host.call({.code = code(ExitCode::kVmmcall), .rax = 5, .cpl = 3}).rax, ~0ULL);
  probe.expect("WBINVD", host.call({.code = code(ExitCode::kWbinvd)}).info1, 0);

  // There is no security processor, and no second virtual one.
  const GhcbAnswer request = host.call({.code = code(ExitCode::kGuestRequest),
                                        .info1 = host.gpa().value(),
                                        .info2 = host.gpa().value() + 4096});
  probe.expect("a guest request is answered", request.info1, 0);
  probe.expect("with an error of the host", request.info2, 0xFFFF'FFFF'0000'0000);
  host.refused("AP creation",
               {.code = code(ExitCode::kApCreation),
                .info1 = 1ULL << 32 | 1,
                .info2 = host.gpa().value() + 4096,
                .rax = 1},
               MalformedReason::kInvalidInput);
}

constexpr auto kScenarios = std::to_array<Scenario>({
    {"snp-malformed", malformed},
    {"snp-port-io", port_io},
    {"snp-string-io", string_io},
    {"snp-report-port", report_port},
    {"snp-memory-mapped-io", memory_mapped_io},
    {"snp-memory-mapped-nothing", memory_mapped_nothing},
    {"snp-cpuid", cpuid},
    {"snp-msr", msr},
    {"snp-other-requests", other_requests},
});

}  // namespace

std::span<const Scenario> snp_ghcb_calls_scenarios() {
  return kScenarios;
}

}  // namespace probe
