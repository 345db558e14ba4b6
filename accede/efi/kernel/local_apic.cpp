#include "accede/efi/kernel/local_apic.hpp"

#include "accede/efi/kernel/vmcall.hpp"
#include "accede/emulator/cpu.hpp"

namespace accede::efi::kernel {
namespace {

namespace cpu = emulator::cpu;
using abi::tdx::Vmcall;
using abi::tdx::VmcallStatus;

constexpr std::uint32_t kApicBase = 0x1B;
constexpr std::uint64_t kBaseMask = 0x000F'FFFF'FFFF'F000;
constexpr std::uint64_t kX2apicMode = 1ULL << 10;
constexpr std::uint64_t kEnabled = 1ULL << 11;

constexpr std::uint64_t kFourBytes = 4;
constexpr std::uint64_t kRead = 0;
constexpr std::uint64_t kWrite = 1;

constexpr std::uint64_t offset_of(ApicRegister reg) {
  return static_cast<std::uint64_t>(reg);
}
constexpr std::uint32_t msr_of(ApicRegister reg) {
  return static_cast<std::uint32_t>(0x800 + offset_of(reg) / 16);
}
/// Of the registers named here a TD has only this one for itself; the others are the host's
/// (reference: TDX 5.4).
constexpr bool is_native_in_td(ApicRegister reg) {
  return reg == ApicRegister::kEndOfInterrupt;
}

}  // namespace

std::optional<LocalApic> LocalApic::find(bool tdx) {
  const std::optional<std::uint64_t> base =
      tdx ? vmcall_read_msr(kApicBase) : cpu::read_msr(kApicBase);
  if (!base || (*base & kEnabled) == 0) {
    return std::nullopt;
  }
  // A TD's MMIO is shared memory.
  const std::uint64_t memory = (*base & kBaseMask) | (tdx ? shared_bit() : 0);
  return LocalApic{memory, (*base & kX2apicMode) != 0, tdx};
}

bool LocalApic::write(ApicRegister reg, std::uint32_t value) const {
  if (x2apic_) {
    if (tdx_ && !is_native_in_td(reg)) {
      return vmcall_write_msr(msr_of(reg), value);
    }
    cpu::write_msr(msr_of(reg), value);
    return true;
  }
  const std::uint64_t address = base_ + offset_of(reg);
  if (tdx_) {
    return vmcall(Vmcall::kRequestMmio,
                  {.r12 = kFourBytes, .r13 = kWrite, .r14 = address, .r15 = value})
               .status == VmcallStatus::kSuccess;
  }
  *reinterpret_cast<volatile std::uint32_t*>(address) = value;
  return true;
}

std::optional<std::uint32_t> LocalApic::read(ApicRegister reg) const {
  std::optional<std::uint64_t> value;
  if (x2apic_) {
    value =
        tdx_ && !is_native_in_td(reg) ? vmcall_read_msr(msr_of(reg)) : cpu::read_msr(msr_of(reg));
  } else if (tdx_) {
    const VmcallAnswer answer = vmcall(
        Vmcall::kRequestMmio, {.r12 = kFourBytes, .r13 = kRead, .r14 = base_ + offset_of(reg)});
    if (answer.status == VmcallStatus::kSuccess) {
      value = answer.r11;
    }
  } else {
    value = *reinterpret_cast<volatile std::uint32_t*>(base_ + offset_of(reg));
  }
  if (!value) {
    return std::nullopt;
  }
  return static_cast<std::uint32_t>(*value);
}

}  // namespace accede::efi::kernel
