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
  constexpr std::uint8_t kNobody = 0xFF;
  switch (host_.kind) {
    case guest::PlatformKind::kTdx: {
      const VmcallAnswer answer = vmcall(Vmcall::kIo, {.r12 = kOneByte, .r13 = kRead, .r14 = port});
      return answer.status == VmcallStatus::kSuccess ? static_cast<std::uint8_t>(answer.r11)
                                                     : kNobody;
    }
    case guest::PlatformKind::kSnp:
      return host_.ghcb->in8(port).value_or(kNobody);
    case guest::PlatformKind::kNone:
      break;
  }
  return cpu::in8(port);
}

void PortIo::out8(std::uint16_t port, std::uint8_t value) const {
  switch (host_.kind) {
    case guest::PlatformKind::kTdx:
      static_cast<void>(
          vmcall(Vmcall::kIo, {.r12 = kOneByte, .r13 = kWrite, .r14 = port, .r15 = value}));
      return;
    case guest::PlatformKind::kSnp:
      static_cast<void>(host_.ghcb->out8(port, value));
      return;
    case guest::PlatformKind::kNone:
      break;
  }
  cpu::out8(port, value);
}

}  // namespace accede::efi::kernel
