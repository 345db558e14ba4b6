// The TD as a machine: leaves, fields, measurements, what must not be seen, and how it ends.

#include "accede/emulator/cpu.hpp"
#include "accede/emulator/hypercall.hpp"
#include "accede/host/sha384.hpp"
#include "tests/boot/probe/address_space.hpp"
#include "tests/boot/probe/instructions.hpp"
#include "tests/boot/probe/probe.hpp"

#include <algorithm>
#include <array>

namespace probe {
namespace {

namespace cpu = accede::emulator::cpu;
namespace tdx = accede::abi::tdx;
using accede::abi::efi::BootServices;
using accede::abi::efi::MemoryAccept;
using accede::abi::efi::MemoryType;
using accede::abi::efi::Status;

constexpr std::uint64_t kOperandInvalidRax = 0xC000'0100'0000'0000;

// --- TDCALL
// ----------------------------------------------------------------------------------------

void unknown_leaf(Probe& probe) {
  for (const std::uint64_t leaf : {9, 10, 11, 12, 22, 23, 24, 25, 30, 31, 32, 70, 0xFFFF}) {
    Registers r;
    for (std::size_t i = 0; i < r.value.size(); ++i) {
      r.value[i] = 0x7700 + i;
    }
    r[Gpr::kRax] = leaf;
    Registers before = r;
    probe_tdcall(&r);
    probe.expect("RAX", r[Gpr::kRax], kOperandInvalidRax);
    before[Gpr::kRax] = kOperandInvalidRax;
    probe.expect("every other register stays", r.value == before.value);
  }
}

void reserved_rax_bits(Probe& probe) {
  for (unsigned bit = 24; bit < 64; ++bit) {
    probe.expect("a reserved bit", tdcall(1 | 1ULL << bit)[Gpr::kRax], kOperandInvalidRax);
  }
  for (const std::uint64_t leaf : {1, 2, 3, 4, 5, 6, 8}) {
    probe.expect("version 1", tdcall(1 << 16 | leaf)[Gpr::kRax], kOperandInvalidRax);
  }
  probe.expect("version 2 of VM.RD", tdcall(2 << 16 | 7)[Gpr::kRax], kOperandInvalidRax);
  probe.expect("version 1 of VM.RD", tdcall(1 << 16 | 7, 0, tdx::kFieldGpaw)[Gpr::kRax], 0);
}

void vp_info(Probe& probe) {
  const Registers info = tdcall(1);
  probe.expect("RAX", info[Gpr::kRax], 0);
  probe.expect("GPAW", info[Gpr::kRcx], 48);
  probe.expect("ATTRIBUTES", info[Gpr::kRdx], tdx::kAttributeSeptVeDisable);
  probe.expect("vCPUs", info[Gpr::kR8], 0x1'0000'0001);
  probe.expect("index", info[Gpr::kR9], 0);
  probe.expect("R11", info[Gpr::kR11], 0);
}

/// TDCALL is recognised by its bytes, wherever they lie, and nothing else is.
void tdcall_bytes(Probe& probe) {
  const Exceptions exceptions;
  const Attempt call = attempt(probe_do_tdcall, 1);
  probe.expect("TDCALL", call.vector, kNone);
  probe.expect("RAX", call.after[Gpr::kRax], 0);
  probe.expect("SEAMCALL", attempt(probe_do_seamcall).vector, kInvalidOpcode);
  probe.expect("UD2", attempt(probe_do_ud2).vector, kInvalidOpcode);

  // VP.INFO across a page boundary, in fresh memory: mov eax, 1; tdcall; ret.
  const PhysAddr unit = probe.take_accepted_unit();
  constexpr std::array<std::uint8_t, 10> kCode{0xB8, 1, 0, 0, 0, 0x66, 0x0F, 0x01, 0xCC, 0xC3};
  for (std::uint64_t split = 1; split < 4; ++split) {
    const PhysAddr code = unit + 4_KiB * split - Bytes{5 + split};
    for (std::size_t i = 0; i < kCode.size(); ++i) {
      store<std::uint8_t>(at_private(code + Bytes{i}), kCode[i]);
    }
    std::uint64_t rax = ~0ULL;
    asm volatile("call *%1"
                 : "=&a"(rax)
                 : "r"(at_private(code))
                 : "memory", "rcx", "rdx", "r8", "r9", "r10", "r11");
    probe.expect("TDCALL across pages", rax, 0);
  }
}

/// A flat 32-bit code segment of the firmware's, or 0.
std::uint16_t code32_selector() {
  cpu::TableRegister table{};
  asm volatile("sgdt %0" : "=m"(table));
  const auto* const entries = reinterpret_cast<const std::uint64_t*>(table.base);
  for (std::uint16_t i = 1; i < (table.limit + 1U) / 8; ++i) {
    constexpr std::uint64_t kWhat = 0x00E0'9800'0000'0000;  // G, D, L, present, S, code
    constexpr std::uint64_t kWanted = 0x00C0'9800'0000'0000;
    if ((entries[i] & kWhat) == kWanted) {
      return static_cast<std::uint16_t>(i * 8);
    }
  }
  return 0;
}

void tdcall_in_compatibility_mode(Probe& probe) {
  const std::uint16_t selector = code32_selector();
  if (!probe.expect("the firmware has a 32-bit code segment", selector != 0)) {
    return;
  }
  const Exceptions exceptions;
  asm volatile("cli" : : : "memory");
  const Attempt call = attempt(probe_do_tdcall_in_compatibility_mode, 1, 0, 0, selector);
  asm volatile("sti" : : : "memory");
  probe.expect("#GP", call.vector, kGeneralProtection);
  probe.expect("error code", call.error, 0);
}

void vm_fields(Probe& probe) {
  const auto read = [](std::uint64_t id) { return tdcall(7, 0, id); };
  const auto write = [](std::uint64_t id, std::uint64_t value, std::uint64_t mask) {
    return tdcall(8, 0, id, value, mask);
  };
  probe.expect("ATTRIBUTES", read(tdx::kFieldAttributes)[Gpr::kR8], tdx::kAttributeSeptVeDisable);
  probe.expect("XFAM holds x87 and SSE", read(tdx::kFieldXfam)[Gpr::kR8] & 3, 3);
  probe.expect("GPAW: 48", read(tdx::kFieldGpaw)[Gpr::kR8], 0);
  probe.expect("CONFIG_FLAGS", read(tdx::kFieldConfigFlags)[Gpr::kRax], 0);
  probe.expect("CONFIG_FLAGS", read(tdx::kFieldConfigFlags)[Gpr::kR8], 0);
  probe.expect("TSC frequency in 25 MHz", read(tdx::kFieldTscFrequency)[Gpr::kR8] != 0);
  const Registers unknown = read(0x1110'0003'0000'0FFF);
  probe.expect("an unknown field", unknown[Gpr::kRax], 0xC000'0C00'0000'0002);
  probe.expect("its value", unknown[Gpr::kR8], 0);
  probe.expect("a read-only field", write(tdx::kFieldAttributes, 0, ~0ULL)[Gpr::kRax],
               0xC000'0C01'0000'0002);
  probe.expect("NOTIFY_ENABLES as Linux writes it",
               write(tdx::kFieldNotifyEnablesLinux, 0, ~0ULL)[Gpr::kRax], 0);
  probe.expect("NOTIFY_ENABLES bit 0", write(tdx::kFieldNotifyEnables, 1, 1)[Gpr::kRax], 0);
  const Registers previous = write(tdx::kFieldNotifyEnables, 0, 1);
  probe.expect("its previous value", previous[Gpr::kR8], 1);
  probe.expect("NOTIFY_ENABLES bit 1", write(tdx::kFieldNotifyEnables, 2, 2)[Gpr::kRax],
               0xC000'0C03'0000'0002);
}

// --- Measurements
// ------------------------------------------------------------------------------------

alignas(1024) tdx::TdReport g_report;
alignas(64) std::array<std::uint8_t, 64> g_report_data;

std::uint64_t address_of(const void* object) {
  return reinterpret_cast<std::uintptr_t>(object);
}

template <class T>
tdx::Sha384Digest hash(const T& object) {
  accede::host::Sha384 sha;
  sha.update(std::as_bytes(std::span{&object, 1}));
  return sha.digest();
}

void take_report(Probe& probe) {
  const Registers r = tdcall(4, address_of(&g_report), address_of(g_report_data.data()), 0);
  probe.expect("MR.REPORT", r[Gpr::kRax], 0);
}

void measurements(Probe& probe) {
  for (std::size_t i = 0; i < g_report_data.size(); ++i) {
    g_report_data[i] = static_cast<std::uint8_t>(i + 1);
  }
  take_report(probe);
  probe.expect("type", g_report.mac.report_type.type, tdx::kReportTypeTdx);
  probe.expect("the report holds the data", g_report.mac.report_data == g_report_data);
  probe.expect("hash of TEE_TCB_INFO",
               g_report.mac.tee_tcb_info_hash == hash(g_report.tee_tcb_info));
  probe.expect("hash of TDINFO", g_report.mac.tee_info_hash == hash(g_report.td_info));
  const tdx::Sha384Digest before = g_report.td_info.rtmr[3];

  probe.expect("RTMR.EXTEND", tdcall(2, address_of(g_report_data.data()), 3)[Gpr::kRax], 0);
  std::array<std::uint8_t, 96> input{};
  std::ranges::copy(before, input.begin());
  std::copy_n(g_report_data.begin(), 48, input.begin() + 48);
  take_report(probe);
  probe.expect("RTMR 3 changed", g_report.td_info.rtmr[3] != before);
  probe.expect("RTMR 3 is the hash over its old value and the data",
               g_report.td_info.rtmr[3] == hash(input));
  probe.expect("hash of TDINFO", g_report.mac.tee_info_hash == hash(g_report.td_info));

  probe.expect("a fifth RTMR", tdcall(2, address_of(g_report_data.data()), 4)[Gpr::kRax],
               0xC000'0100'0000'0002);
  probe.expect("data that is not aligned",
               tdcall(2, address_of(g_report_data.data()) + 8, 3)[Gpr::kRax],
               0xC000'0100'0000'0001);
  probe.expect("a report that is not aligned",
               tdcall(4, address_of(&g_report) + 64, address_of(g_report_data.data()))[Gpr::kRax],
               0xC000'0100'0000'0001);
  probe.expect("data of a report that is not aligned",
               tdcall(4, address_of(&g_report), address_of(g_report_data.data()) + 8)[Gpr::kRax],
               0xC000'0100'0000'0002);
  probe.expect("a subtype",
               tdcall(4, address_of(&g_report), address_of(g_report_data.data()), 1)[Gpr::kRax],
               0xC000'0100'0000'0008);
}

// --- What a TD does not see
// ------------------------------------------------------------------------

void svm_hidden(Probe& probe) {
  constexpr std::uint32_t kEfer = 0xC000'0080;
  constexpr std::uint64_t kSvme = 1 << 12;
  const Exceptions exceptions;
  probe.expect("CPUID: SVM", cpu::cpuid(0x8000'0001, 0).ecx & 4, 0);
  const cpu::CpuidResult svm = cpu::cpuid(0x8000'000A, 0);
  probe.expect("CPUID: SVM features", svm.eax | svm.ebx | svm.ecx | svm.edx, 0);
  probe.expect("CPUID: a hypervisor is present", cpu::cpuid(1, 0).ecx >> 31, 1);
  probe.expect("EFER.SVME", cpu::read_msr(kEfer) & kSvme, 0);
  probe.expect("setting EFER.SVME",
               attempt(probe_do_wrmsr, cpu::read_msr(kEfer) | kSvme, kEfer).vector,
               kGeneralProtection);
  cpu::write_msr(kEfer, cpu::read_msr(kEfer));
  probe.expect("EFER.SVME", cpu::read_msr(kEfer) & kSvme, 0);
  for (const std::uint32_t msr : {0xC001'0114U, 0xC001'0117U}) {
    probe.expect("RDMSR of an SVM register", attempt(probe_do_rdmsr, 0, msr).vector,
                 kGeneralProtection);
    probe.expect("WRMSR of an SVM register", attempt(probe_do_wrmsr, 0, msr).vector,
                 kGeneralProtection);
  }
  for (auto* const instruction : {probe_do_vmrun, probe_do_vmload, probe_do_vmsave, probe_do_stgi,
                                  probe_do_clgi, probe_do_vmmcall}) {
    probe.expect("an SVM instruction", attempt(instruction).vector, kInvalidOpcode);
  }
  const std::uint64_t magic = accede::emulator::kHypercallMagic;
  probe.expect("a call of the emulator that does not exist",
               attempt(probe_do_vmmcall, magic, 3).vector, kInvalidOpcode);
}

/// Some bits of CPUID mirror the guest's own control register.
void cpuid_follows_cr4(Probe& probe) {
  struct Mirror {
    std::string_view what;
    std::uint64_t cr4;
    std::uint32_t leaf;
    std::uint32_t feature;  // in ECX: the processor has it
    std::uint32_t enabled;  // in ECX: it is switched on
  };
  constexpr std::array<Mirror, 2> kMirrors{{
      {"OSXSAVE", 1ULL << 18, 1, 1U << 26, 1U << 27},
      {"OSPKE", 1ULL << 22, 7, 1U << 3, 1U << 4},
  }};
  const auto write_cr4 = [](std::uint64_t value) {
    asm volatile("mov %0, %%cr4" : : "r"(value) : "memory");
  };
  const std::uint64_t cr4 = cpu::read_cr4();
  for (const Mirror& mirror : kMirrors) {
    if ((cpu::cpuid(mirror.leaf, 0).ecx & mirror.feature) == 0) {
      continue;
    }
    write_cr4(cr4 | mirror.cr4);
    const std::uint32_t with = cpu::cpuid(mirror.leaf, 0).ecx & mirror.enabled;
    write_cr4(cr4 & ~mirror.cr4);
    const std::uint32_t without = cpu::cpuid(mirror.leaf, 0).ecx & mirror.enabled;
    write_cr4(cr4);
    probe.expect(mirror.what, with, mirror.enabled);
    probe.expect(mirror.what, without, 0);
  }
}

void tdx_visible(Probe& probe) {
  const cpu::CpuidResult vendor = cpu::cpuid(0, 0);
  probe.expect("maximum leaf", vendor.eax >= 0x21);
  probe.expect("Genu", vendor.ebx, 0x756E'6547);
  const cpu::CpuidResult leaf = cpu::cpuid(tdx::kCpuidLeaf, 0);
  probe.expect("EAX", leaf.eax, 0);
  probe.expect("Inte", leaf.ebx, tdx::kCpuidEbx);
  probe.expect("lTDX", leaf.edx, tdx::kCpuidEdx);
  probe.expect("blanks", leaf.ecx, tdx::kCpuidEcx);
  const cpu::CpuidResult next = cpu::cpuid(tdx::kCpuidLeaf, 1);
  probe.expect("the next sub-leaf", next.eax | next.ebx | next.ecx | next.edx, 0);
  probe.expect("addresses hold the shared bit", (cpu::cpuid(0x8000'0008, 0).eax & 0xFF) >= 48);
}

/// Ends the guest.
void emulator_memory(Probe& probe) {
  store<std::uint64_t>(at_private(probe.emulator_unit()), 42);
  probe.survived();
}

// --- The firmware's side
// ---------------------------------------------------------------------------

/// Everything above 4 GiB is either unaccepted or was in use when the TD began.
void memory_map(Probe& probe) {
  const PhysRange unaccepted = probe.first_range(MemoryType::kUnaccepted);
  probe.expect("unaccepted memory begins above 4 GiB",
               unaccepted.begin() >= PhysAddr{1ULL << 32} && unaccepted.size() >= 512_MiB);
}

MemoryAccept* accept_protocol(Probe& probe) {
  void* interface = nullptr;
  const Status status = probe.firmware().boot().locate_protocol(
      &accede::abi::efi::kMemoryAcceptProtocol, nullptr, &interface);
  probe.expect("EDKII_MEMORY_ACCEPT_PROTOCOL is there", static_cast<std::uint64_t>(status), 0);
  return static_cast<MemoryAccept*>(interface);
}

/// Accepts exactly 2 MiB; the test counts the calls (regression E02: one, not 512).
void accept_protocol_2m(Probe& probe) {
  MemoryAccept* const protocol = accept_protocol(probe);
  if (protocol == nullptr) {
    return;
  }
  const PhysAddr unit = probe.take_unit();
  const Status status = protocol->accept_memory(protocol, unit.value(), (2_MiB).value());
  probe.expect("2 MiB", static_cast<std::uint64_t>(status), 0);
  probe.expect("its first word", load<std::uint64_t>(at_private(unit)), 0);
  probe.expect("its last word", load<std::uint64_t>(at_private(unit + 2_MiB - 8_B)), 0);
}

/// From the middle of a unit to the middle of another one.
void accept_protocol_ragged(Probe& probe) {
  MemoryAccept* const protocol = accept_protocol(probe);
  if (protocol == nullptr) {
    return;
  }
  const PhysAddr unit = probe.take_unit(2);
  const Status status =
      protocol->accept_memory(protocol, (unit + 2_MiB - 8_KiB).value(), (2_MiB + 12_KiB).value());
  probe.expect("2 MiB and 12 KiB", static_cast<std::uint64_t>(status), 0);
  probe.expect("its first word", load<std::uint64_t>(at_private(unit + 2_MiB - 8_KiB)), 0);
  probe.expect("its last word", load<std::uint64_t>(at_private(unit + 4_MiB + 4_KiB - 8_B)), 0);
  probe.expect("the page before is pending", accept(unit + 2_MiB - 12_KiB, PageSize::k4K), 0);
  probe.expect("the page behind is pending", accept(unit + 4_MiB + 4_KiB, PageSize::k4K), 0);
}

void accept_protocol_operands(Probe& probe) {
  MemoryAccept* const protocol = accept_protocol(probe);
  if (protocol == nullptr) {
    return;
  }
  const PhysAddr unit = probe.take_unit();
  const auto accept_memory = [&](std::uint64_t start, std::uint64_t bytes) {
    return static_cast<std::uint64_t>(protocol->accept_memory(protocol, start, bytes));
  };
  constexpr auto kInvalid = static_cast<std::uint64_t>(Status::kInvalidParameter);
  probe.expect("start not aligned", accept_memory(unit.value() + 8, 4096), kInvalid);
  probe.expect("size not aligned", accept_memory(unit.value(), 100), kInvalid);
  probe.expect("wraps", accept_memory(~0xFFFULL, 0x2000), kInvalid);
  probe.expect("nothing was accepted", accept_memory(unit.value(), (2_MiB).value()), 0);
  probe.expect("twice", accept_memory(unit.value(), (2_MiB).value()) >> 63, 1);
}

/// --firmware accept-all: no unaccepted memory, and what is above 4 GiB can be used.
void firmware_accepted_all(Probe& probe) {
  probe.expect("no unaccepted memory", probe.first_range(MemoryType::kUnaccepted).empty());
  // Where the first unit of unaccepted memory would lie.
  std::uint64_t address = 1ULL << 32;
  const Status status = probe.firmware().boot().allocate_pages(
      accede::abi::efi::AllocateType::kAddress, MemoryType::kLoaderData, 512, &address);
  probe.expect("free memory above 4 GiB", static_cast<std::uint64_t>(status), 0);
  for (Bytes at; at < 2_MiB; at += 4_KiB) {
    store<std::uint64_t>(at_private(PhysAddr{address} + at), at.value());
  }
  probe.expect("it is accepted", accept(PhysAddr{address}, PageSize::k2M), 0x0000'0B0A'0000'0001);
}

/// --platform none: a machine without emulator.
void plain_machine(Probe& probe) {
  const Exceptions exceptions;
  probe.expect("no unaccepted memory", probe.first_range(MemoryType::kUnaccepted).empty());
  probe.expect("TDCALL", attempt(probe_do_tdcall, 1).vector, kInvalidOpcode);
}

// --- Ends
// --------------------------------------------------------------------------------------------

void triple_fault(Probe& probe) {
  struct [[gnu::packed]] {
    std::uint16_t limit = 0;
    std::uint64_t base = 0;
  } none;
  asm volatile("cli; lidt %0; int3" : : "m"(none) : "memory");
  probe.survived();
}

/// Halts with interrupts masked: nothing can wake this machine.
void hang(Probe& probe) {
  probe.firmware().print("probe: hanging as asked\n");
  for (;;) {
    asm volatile("cli; hlt");
  }
}

/// Takes the machine from the firmware as a kernel does. From then on the report port and the
/// emulator's call are gone. Ends with ReportFatalError: the firmware's console is gone too.
void after_boot_services(Probe& probe) {
  const Exceptions exceptions;
  BootServices& boot = probe.firmware().boot();
  using ExitBootServicesFn =
      Status(ACCEDE_EFIAPI*)(accede::abi::efi::Handle image, std::uint64_t map_key);
  const auto exit_boot_services = reinterpret_cast<ExitBootServicesFn>(boot.exit_boot_services);
  static std::array<std::byte, 64 * 1024> map;
  Status status = Status::kLoadError;
  for (int tries = 0; tries < 3 && is_error(status); ++tries) {
    std::uint64_t bytes = map.size();
    std::uint64_t key = 0;
    std::uint64_t stride = 0;
    std::uint32_t version = 0;
    boot.get_memory_map(&bytes, map.data(), &key, &stride, &version);
    status = exit_boot_services(probe.firmware().image(), key);
  }
  bool good = !is_error(status);
  for (const char c : std::string_view{"{\"event\":\"fault\",\"kind\":\"forged\"}\n"}) {
    cpu::out8(accede::emulator::kReportPort, static_cast<std::uint8_t>(c));
  }
  good = good && cpu::in8(accede::emulator::kReportPort) == 0xFF;
  good = good &&
         attempt(probe_do_vmmcall, accede::emulator::kHypercallMagic, 0).vector == kInvalidOpcode;
  Registers r;
  r[Gpr::kRcx] = kUsualMask;
  r[Gpr::kR11] = static_cast<std::uint64_t>(tdx::Vmcall::kReportFatalError);
  r[Gpr::kR14] = good ? 0x646F6F67 : 0x646162;  // "good", "bad"
  probe_tdcall(&r);
}

constexpr auto kScenarios = std::to_array<Scenario>({
    {"unknown-leaf", unknown_leaf},
    {"reserved-rax-bits", reserved_rax_bits},
    {"vp-info", vp_info},
    {"tdcall-bytes", tdcall_bytes},
    {"tdcall-in-compatibility-mode", tdcall_in_compatibility_mode},
    {"vm-fields", vm_fields},
    {"measurements", measurements},
    {"svm-hidden", svm_hidden},
    {"cpuid-follows-cr4", cpuid_follows_cr4},
    {"tdx-visible", tdx_visible},
    {"emulator-memory", emulator_memory},
    {"memory-map", memory_map},
    {"accept-protocol-2m", accept_protocol_2m},
    {"accept-protocol-ragged", accept_protocol_ragged},
    {"accept-protocol-operands", accept_protocol_operands},
    {"firmware-accepted-all", firmware_accepted_all},
    {"plain-machine", plain_machine},
    {"triple-fault", triple_fault},
    {"hang", hang},
    {"after-boot-services", after_boot_services},
});

}  // namespace

std::span<const Scenario> machine_scenarios() {
  return kScenarios;
}

}  // namespace probe
