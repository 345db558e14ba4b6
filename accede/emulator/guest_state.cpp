#include "accede/emulator/guest_state.hpp"

#include "accede/emulator/cpu.hpp"
#include "accede/emulator/world_switch.hpp"

namespace accede::emulator {
namespace {

using cpu::TableRegister;

/// The segment `selector` as the descriptor table at `gdt` describes it.
VmcbSegment read_segment(std::uint16_t selector, const TableRegister& gdt) {
  if ((selector & ~7U) == 0 || (selector & 4U) != 0) {
    return {.selector = selector, .attributes = 0, .limit = 0, .base = 0};
  }
  const std::uint64_t d = *reinterpret_cast<const std::uint64_t*>(gdt.base + (selector & ~7U));
  std::uint32_t limit = static_cast<std::uint32_t>((d & 0xFFFF) | (d >> 32 & 0xF0000));
  if ((d >> 55 & 1) != 0) {
    limit = (limit << 12) | 0xFFF;
  }
  return {.selector = selector,
          .attributes = static_cast<std::uint16_t>((d >> 40 & 0xFF) | (d >> 44 & 0xF00)),
          .limit = limit,
          .base = (d >> 16 & 0xFFFFFF) | (d >> 32 & 0xFF000000)};
}

std::uint16_t selector_es() {
  std::uint16_t s = 0;
  asm volatile("mov %%es, %0" : "=r"(s));
  return s;
}
std::uint16_t selector_cs() {
  std::uint16_t s = 0;
  asm volatile("mov %%cs, %0" : "=r"(s));
  return s;
}
std::uint16_t selector_ss() {
  std::uint16_t s = 0;
  asm volatile("mov %%ss, %0" : "=r"(s));
  return s;
}
std::uint16_t selector_ds() {
  std::uint16_t s = 0;
  asm volatile("mov %%ds, %0" : "=r"(s));
  return s;
}

/// The state of this CPU that VMRUN loads, but for RIP, RSP, RAX and RFLAGS. FS, GS, TR, LDTR and
/// the system call MSRs stay in the CPU: neither VMRUN nor the emulator touches them.
void capture_cpu(VmcbSave& save) {
  TableRegister gdt{};
  TableRegister idt{};
  asm volatile("sgdt %0" : "=m"(gdt));
  asm volatile("sidt %0" : "=m"(idt));
  save.es = read_segment(selector_es(), gdt);
  save.cs = read_segment(selector_cs(), gdt);
  save.ss = read_segment(selector_ss(), gdt);
  save.ds = read_segment(selector_ds(), gdt);
  save.gdtr = {.selector = 0, .attributes = 0, .limit = gdt.limit, .base = gdt.base};
  save.idtr = {.selector = 0, .attributes = 0, .limit = idt.limit, .base = idt.base};
  save.cpl = 0;
  save.efer = cpu::read_msr(kMsrEfer) | kEferSvme;  // VMRUN requires SVME in guests
  save.cr0 = cpu::read_cr0();
  save.cr3 = cpu::read_cr3();
  save.cr4 = cpu::read_cr4();
  save.dr6 = 0xFFFF'0FF0;
  save.dr7 = 0x400;
  save.g_pat = cpu::read_msr(kMsrPat);
}

/// Two bits a register in the map's area for C0000000 (offset 0x800) or C0010000 (0x1000).
void intercept_msr(std::array<std::uint8_t, 2 * 4096>& map, std::uint32_t msr) {
  const std::size_t area = msr >= 0xC0010000 ? 0x1000 : 0x800;
  const std::size_t bit = (msr & 0x1FFF) * std::size_t{2};
  map[area + bit / 8] = static_cast<std::uint8_t>(map[area + bit / 8] | (3U << bit % 8));
}

std::uint64_t physical(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer);
}

}  // namespace

void PermissionMaps::build(std::uint16_t port, std::span<const std::uint32_t> msrs) {
  io = {};
  msr = {};
  io[port / 8] = static_cast<std::uint8_t>(1U << port % 8);
  for (const std::uint32_t hidden : {kMsrEfer, kMsrVmCr, kMsrVmHsavePa}) {
    intercept_msr(msr, hidden);
  }
  for (const std::uint32_t wanted : msrs) {
    intercept_msr(msr, wanted);
  }
}

void set_intercepts(VmcbControl& control, const PermissionMaps& maps, std::uint64_t nested_root) {
  control.intercept_exceptions = 1U << Vcpu::kInvalidOpcode;
  // SMI and INIT would run guest code outside nested paging.
  control.intercept_misc1 = svm::kInterceptSmi | svm::kInterceptInit | svm::kInterceptCpuid |
                            svm::kInterceptInvlpga | svm::kInterceptIo | svm::kInterceptMsr |
                            svm::kInterceptShutdown;
  control.intercept_misc2 = svm::kInterceptVmrun | svm::kInterceptVmmcall | svm::kInterceptVmload |
                            svm::kInterceptVmsave | svm::kInterceptStgi | svm::kInterceptClgi |
                            svm::kInterceptSkinit;
  control.iopm_base_pa = physical(&maps.io);
  control.msrpm_base_pa = physical(&maps.msr);
  control.asid = 1;
  control.nested_control = svm::kNestedPaging;
  control.nested_cr3 = nested_root;
}

void capture_caller(Vcpu& vcpu, const LaunchFrame& frame) {
  VmcbSave& save = vcpu.save();
  capture_cpu(save);
  save.rflags = frame.rflags;
  save.rip = frame.return_address;
  vcpu.gpr = {};  // RAX 0: the call returns success
  vcpu.gpr[kRsp] = physical(&frame + 1);
  vcpu.gpr[kRbx] = frame.rbx;
  vcpu.gpr[kRbp] = frame.rbp;
  vcpu.gpr[kR12] = frame.r12;
  vcpu.gpr[kR13] = frame.r13;
  vcpu.gpr[kR14] = frame.r14;
  vcpu.gpr[kR15] = frame.r15;
}

void build_idle_guest(Vmcb& idle, const PermissionMaps& maps) {
  capture_cpu(idle.save);
  idle.save.rflags = 2;
  idle.save.rip = physical(svm_idle_code);
  idle.control.intercept_misc1 = svm::kInterceptIntr | svm::kInterceptShutdown;
  idle.control.intercept_misc2 = svm::kInterceptVmrun;
  idle.control.iopm_base_pa = physical(&maps.io);
  idle.control.msrpm_base_pa = physical(&maps.msr);
  idle.control.asid = 2;
  // Physical interrupts end the idle guest whatever its own interrupt flag says.
  idle.control.virtual_interrupt = svm::kVirtualInterruptMasking;
}

}  // namespace accede::emulator
