#include "accede/efi/kernel/port_io.hpp"

#include "accede/efi/kernel/vmcall.hpp"
#include "accede/emulator/cpu.hpp"

namespace accede::efi::kernel {
namespace {

namespace cpu = emulator::cpu;
using abi::tdx::Vmcall;
using abi::tdx::VmcallStatus;

constexpr std::uint64_t kOneByte = 1;
constexpr std::uint64_t kRead = 0;
constexpr std::uint64_t kWrite = 1;

}  // namespace

std::uint8_t PortIo::in8(std::uint16_t port) const {
  if (!tdx_) {
    return cpu::in8(port);
  }
  const VmcallAnswer answer = vmcall(Vmcall::kIo, {.r12 = kOneByte, .r13 = kRead, .r14 = port});
  return answer.status == VmcallStatus::kSuccess ? static_cast<std::uint8_t>(answer.r11) : 0xFF;
}

void PortIo::out8(std::uint16_t port, std::uint8_t value) const {
  if (!tdx_) {
    cpu::out8(port, value);
    return;
  }
  static_cast<void>(
      vmcall(Vmcall::kIo, {.r12 = kOneByte, .r13 = kWrite, .r14 = port, .r15 = value}));
}

}  // namespace accede::efi::kernel
