// The TDCALL instruction, for tests that look at the testbed rather than at the guest library.
#pragma once

#include "accede/abi/tdx.hpp"
#include "accede/base/units.hpp"

#include <cstdint>

namespace accede::testbed::test {

/// What a TDCALL takes and gives.
struct TdcallRegisters {
  std::uint64_t rax = 0;
  std::uint64_t rcx = 0;
  std::uint64_t rdx = 0;
  std::uint64_t r8 = 0;
  std::uint64_t r9 = 0;
  std::uint64_t r10 = 0;
  std::uint64_t r11 = 0;
  std::uint64_t r12 = 0;
  std::uint64_t r13 = 0;
};

inline void tdcall(TdcallRegisters& registers) {
  // A copy, so that nothing is computed (by a sanitizer, say) while the register variables live.
  const TdcallRegisters in = registers;
  std::uint64_t rax = in.rax;
  std::uint64_t rcx = in.rcx;
  std::uint64_t rdx = in.rdx;
  register std::uint64_t r8 asm("r8") = in.r8;
  register std::uint64_t r9 asm("r9") = in.r9;
  register std::uint64_t r10 asm("r10") = in.r10;
  register std::uint64_t r11 asm("r11") = in.r11;
  register std::uint64_t r12 asm("r12") = in.r12;
  register std::uint64_t r13 asm("r13") = in.r13;
  asm volatile(".byte 0x66, 0x0f, 0x01, 0xcc"
               : "+a"(rax), "+c"(rcx), "+d"(rdx), "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r11),
                 "+r"(r12), "+r"(r13)
               :
               : "memory", "cc");
  const TdcallRegisters out{rax, rcx, rdx, r8, r9, r10, r11, r12, r13};
  registers = out;
}

/// MEM.PAGE.ACCEPT; the status word.
inline std::uint64_t accept(PhysAddr gpa, PageSize size) {
  TdcallRegisters registers{.rax = 6, .rcx = abi::tdx::PageOperand::make(gpa, size)};
  tdcall(registers);
  return registers.rax;
}

/// MEM.PAGE.RELEASE; the status word.
inline std::uint64_t release(PhysAddr gpa, PageSize size) {
  TdcallRegisters registers{.rax = 30, .rcx = abi::tdx::PageOperand::make(gpa, size)};
  tdcall(registers);
  return registers.rax;
}

/// R10 and R11 of VP.VMCALL<MapGPA>.
struct MapGpaAnswer {
  std::uint64_t r10;
  std::uint64_t r11;
};
inline MapGpaAnswer map_gpa(std::uint64_t start, std::uint64_t size) {
  TdcallRegisters registers{
      .rax = 0, .rcx = 0x3C00, .r10 = 0, .r11 = 0x10001, .r12 = start, .r13 = size};
  tdcall(registers);
  return {.r10 = registers.rax == 0 ? registers.r10 : registers.rax, .r11 = registers.r11};
}

}  // namespace accede::testbed::test
