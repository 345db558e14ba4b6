#include "accede/efi/kernel/vmcall.hpp"

#include "accede/guest/tdcall.hpp"

#include <algorithm>
#include <array>
#include <span>

namespace accede::efi::kernel {

using abi::tdx::Gpr;
using abi::tdx::TdcallLeaf;
using abi::tdx::Vmcall;
using abi::tdx::VmcallStatus;

namespace {

constexpr std::uint64_t bit(Gpr gpr) {
  return 1ULL << static_cast<unsigned>(gpr);
}

constexpr std::uint64_t kStandardMask = bit(Gpr::kR10) | bit(Gpr::kR11) | bit(Gpr::kR12) |
                                        bit(Gpr::kR13) | bit(Gpr::kR14) | bit(Gpr::kR15);

}  // namespace

VmcallAnswer vmcall(Vmcall function, const VmcallArguments& arguments) {
  std::uint64_t rax = static_cast<std::uint64_t>(TdcallLeaf::kVpVmcall);
  register std::uint64_t r10 asm("r10") = 0;
  register std::uint64_t r11 asm("r11") = static_cast<std::uint64_t>(function);
  register std::uint64_t r12 asm("r12") = arguments.r12;
  register std::uint64_t r13 asm("r13") = arguments.r13;
  register std::uint64_t r14 asm("r14") = arguments.r14;
  register std::uint64_t r15 asm("r15") = arguments.r15;
  asm volatile(".byte 0x66, 0x0F, 0x01, 0xCC"
               : "+a"(rax), "+r"(r10), "+r"(r11), "+r"(r12), "+r"(r13), "+r"(r14), "+r"(r15)
               : "c"(kStandardMask)
               : "memory", "cc");
  const VmcallAnswer answer{static_cast<VmcallStatus>(r10), r11};
  // The module itself refuses only a wrong mask; then no host has answered.
  return rax == 0 ? answer : VmcallAnswer{VmcallStatus::kInvalidOperand, 0};
}

std::optional<std::uint64_t> vmcall_read_msr(std::uint32_t msr) {
  const VmcallAnswer answer = vmcall(Vmcall::kRdmsr, {.r12 = msr});
  if (answer.status != VmcallStatus::kSuccess) {
    return std::nullopt;
  }
  return answer.r11;
}

bool vmcall_write_msr(std::uint32_t msr, std::uint64_t value) {
  return vmcall(Vmcall::kWrmsr, {.r12 = msr, .r13 = value}).status == VmcallStatus::kSuccess;
}

void vmcall_report_fatal_error(std::string_view message) {
  // In register order R14, R15, RBX, RDI, RSI, R8, R9, RDX (GHCI: ReportFatalError), little-endian.
  std::array<std::uint64_t, 8> text{};
  for (std::size_t i = 0; i < std::min(message.size(), sizeof text); ++i) {
    text[i / 8] |= std::uint64_t{static_cast<unsigned char>(message[i])} << (i % 8 * 8);
  }
  constexpr std::uint64_t kMask = kStandardMask | bit(Gpr::kRbx) | bit(Gpr::kRdi) | bit(Gpr::kRsi) |
                                  bit(Gpr::kR8) | bit(Gpr::kR9) | bit(Gpr::kRdx);
  std::uint64_t rax = static_cast<std::uint64_t>(TdcallLeaf::kVpVmcall);
  std::uint64_t rbx = text[2];
  std::uint64_t rdi = text[3];
  std::uint64_t rsi = text[4];
  std::uint64_t rdx = text[7];
  register std::uint64_t r8 asm("r8") = text[5];
  register std::uint64_t r9 asm("r9") = text[6];
  register std::uint64_t r10 asm("r10") = 0;
  register std::uint64_t r11 asm("r11") = static_cast<std::uint64_t>(Vmcall::kReportFatalError);
  register std::uint64_t r12 asm("r12") = 0;  // as Linux: a panic, no text in shared memory
  register std::uint64_t r13 asm("r13") = 0;
  register std::uint64_t r14 asm("r14") = text[0];
  register std::uint64_t r15 asm("r15") = text[1];
  asm volatile(".byte 0x66, 0x0F, 0x01, 0xCC"
               : "+a"(rax), "+b"(rbx), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+r"(r8), "+r"(r9),
                 "+r"(r10), "+r"(r11), "+r"(r12), "+r"(r13), "+r"(r14), "+r"(r15)
               : "c"(kMask)
               : "memory", "cc");
}

std::optional<abi::tdx::VeInfo> virtualization_exception_info() {
  guest::TdcallRegisters registers;
  if (guest::tdcall(TdcallLeaf::kVpVeInfoGet, registers) != 0) {
    return std::nullopt;
  }
  return abi::tdx::VeInfo{.exit_reason = registers.rcx,
                          .exit_qualification = registers.rdx,
                          .gla = registers.r8,
                          .gpa = registers.r9,
                          .instruction = registers.r10};
}

std::uint64_t shared_bit() {
  constexpr std::uint64_t kWidthMask = 0x3F;
  guest::TdcallRegisters registers;
  const std::uint64_t status = guest::tdcall(TdcallLeaf::kVpInfo, registers);
  const std::uint64_t width = registers.rcx & kWidthMask;
  ACCEDE_ASSERT(status == 0 && width != 0);  // the module is trusted
  return 1ULL << (width - 1);
}

}  // namespace accede::efi::kernel
