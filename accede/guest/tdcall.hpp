// The TDCALL instruction, and the seam through which the TDX platform reaches it.
#pragma once

#include "accede/abi/tdx.hpp"

#include <concepts>
#include <cstdint>

namespace accede::guest {

/// The registers of a TDCALL besides RAX that this library uses, in and out. What VP.VMCALL leaves
/// in the exposed ones was written by the host.
struct TdcallRegisters {
  std::uint64_t rcx = 0;
  std::uint64_t rdx = 0;
  std::uint64_t r8 = 0;
  std::uint64_t r9 = 0;
  std::uint64_t r10 = 0;
  std::uint64_t r11 = 0;
  std::uint64_t r12 = 0;
  std::uint64_t r13 = 0;
};

/// Executes TDCALL (66 0F 01 CC) and returns RAX: the status word.
/// Preconditions: the program runs in a TD (else #UD) at CPL 0; a VP.VMCALL exposes no register
/// that is not in TdcallRegisters: the compiler does not know that the host may write it.
inline std::uint64_t tdcall(abi::tdx::TdcallLeaf leaf, TdcallRegisters& registers) {
  // A copy, so that nothing is computed (by a sanitizer, say) while the register variables live.
  const TdcallRegisters in = registers;
  std::uint64_t rax = static_cast<std::uint64_t>(leaf);
  std::uint64_t rcx = in.rcx;
  std::uint64_t rdx = in.rdx;
  register std::uint64_t r8 asm("r8") = in.r8;
  register std::uint64_t r9 asm("r9") = in.r9;
  register std::uint64_t r10 asm("r10") = in.r10;
  register std::uint64_t r11 asm("r11") = in.r11;
  register std::uint64_t r12 asm("r12") = in.r12;
  register std::uint64_t r13 asm("r13") = in.r13;
  asm volatile(".byte 0x66, 0x0F, 0x01, 0xCC"
               : "+a"(rax), "+c"(rcx), "+d"(rdx), "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r11),
                 "+r"(r12), "+r"(r13)
               :
               : "memory", "cc");
  const TdcallRegisters out{rcx, rdx, r8, r9, r10, r11, r12, r13};
  registers = out;
  return rax;
}

/// What executes a TDCALL: the processor, or a test. Callable from several CPUs at once.
template <class T>
concept TdcallPolicy = requires(T& call, abi::tdx::TdcallLeaf leaf, TdcallRegisters& registers) {
  { call(leaf, registers) } -> std::same_as<std::uint64_t>;
};

/// The instruction itself.
struct HardwareTdcall {
  [[nodiscard]] std::uint64_t operator()(abi::tdx::TdcallLeaf leaf,
                                         TdcallRegisters& registers) const {
    return tdcall(leaf, registers);
  }
};
static_assert(TdcallPolicy<HardwareTdcall>);

}  // namespace accede::guest
