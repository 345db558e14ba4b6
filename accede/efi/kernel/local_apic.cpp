#include "accede/efi/kernel/local_apic.hpp"

#include "accede/efi/kernel/vmcall.hpp"
#include "accede/emulator/cpu.hpp"

namespace accede::efi::kernel {
namespace {

namespace cpu = emulator::cpu;
using abi::tdx::Vmcall;
using abi::tdx::VmcallStatus;
using guest::PlatformKind;

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

bool write_msr(HostLink host, std::uint32_t msr, std::uint64_t value) {
  switch (host.kind) {
    case PlatformKind::kTdx:
      return vmcall_write_msr(msr, value);
    case PlatformKind::kSnp:
      return host.ghcb->write_msr(msr, value);
    case PlatformKind::kNone:
      break;
  }
  cpu::write_msr(msr, value);
  return true;
}

std::optional<std::uint64_t> read_msr(HostLink host, std::uint32_t msr) {
  switch (host.kind) {
    case PlatformKind::kTdx:
      return vmcall_read_msr(msr);
    case PlatformKind::kSnp:
      return host.ghcb->read_msr(msr);
    case PlatformKind::kNone:
      break;
  }
  return cpu::read_msr(msr);
}

bool write_memory(HostLink host, std::uint64_t address, std::uint32_t value) {
  switch (host.kind) {
    case PlatformKind::kTdx:
      return vmcall(Vmcall::kRequestMmio,
                    {.r12 = kFourBytes, .r13 = kWrite, .r14 = address, .r15 = value})
                 .status == VmcallStatus::kSuccess;
    case PlatformKind::kSnp:
      return host.ghcb->write32(PhysAddr{address}, value);
    case PlatformKind::kNone:
      break;
  }
  *reinterpret_cast<volatile std::uint32_t*>(address) = value;
  return true;
}

std::optional<std::uint32_t> read_memory(HostLink host, std::uint64_t address) {
  switch (host.kind) {
    case PlatformKind::kTdx: {
      const VmcallAnswer answer =
          vmcall(Vmcall::kRequestMmio, {.r12 = kFourBytes, .r13 = kRead, .r14 = address});
      if (answer.status != VmcallStatus::kSuccess) {
        return std::nullopt;
      }
      return static_cast<std::uint32_t>(answer.r11);
    }
    case PlatformKind::kSnp:
      return host.ghcb->read32(PhysAddr{address});
    case PlatformKind::kNone:
      break;
  }
  return *reinterpret_cast<volatile std::uint32_t*>(address);
}

}  // namespace

std::optional<LocalApic> LocalApic::find(HostLink host) {
  const std::optional<std::uint64_t> base = read_msr(host, kApicBase);
  if (!base || (*base & kEnabled) == 0) {
    return std::nullopt;
  }
  // A TD's MMIO is shared memory.
  const std::uint64_t shared = host.kind == PlatformKind::kTdx ? shared_bit() : 0;
  return LocalApic{(*base & kBaseMask) | shared, (*base & kX2apicMode) != 0, host};
}

/// Who is to be asked for an MSR: in a TD not always the host.
HostLink LocalApic::asked_for(ApicRegister reg) const {
  return host_.kind == PlatformKind::kTdx && is_native_in_td(reg) ? HostLink{} : host_;
}

bool LocalApic::write(ApicRegister reg, std::uint32_t value) const {
  return x2apic_ ? write_msr(asked_for(reg), msr_of(reg), value)
                 : write_memory(host_, base_ + offset_of(reg), value);
}

std::optional<std::uint32_t> LocalApic::read(ApicRegister reg) const {
  if (!x2apic_) {
    return read_memory(host_, base_ + offset_of(reg));
  }
  const auto value = read_msr(asked_for(reg), msr_of(reg));
  return value ? std::optional{static_cast<std::uint32_t>(*value)} : std::nullopt;
}

}  // namespace accede::efi::kernel
