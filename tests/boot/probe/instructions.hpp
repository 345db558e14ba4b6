// Single instructions and TDX calls, each as a function.
#pragma once

#include "accede/abi/tdx.hpp"
#include "accede/base/units.hpp"

#include <array>
#include <cstdint>

namespace probe {

/// The general registers by their numbers; RSP (4) is not used.
struct Registers {
  std::array<std::uint64_t, 16> value{};

  std::uint64_t& operator[](accede::abi::tdx::Gpr r) { return value[static_cast<std::size_t>(r)]; }
  std::uint64_t operator[](accede::abi::tdx::Gpr r) const {
    return value[static_cast<std::size_t>(r)];
  }
};
static_assert(sizeof(Registers) == 128);

extern "C" void probe_tdcall(Registers* registers);

using accede::abi::tdx::Gpr;

/// TDCALL of `leaf` (all of RAX) with its usual operands.
inline Registers tdcall(std::uint64_t leaf, std::uint64_t rcx = 0, std::uint64_t rdx = 0,
                        std::uint64_t r8 = 0, std::uint64_t r9 = 0) {
  Registers r;
  r[Gpr::kRax] = leaf;
  r[Gpr::kRcx] = rcx;
  r[Gpr::kRdx] = rdx;
  r[Gpr::kR8] = r8;
  r[Gpr::kR9] = r9;
  probe_tdcall(&r);
  return r;
}

/// TDG.MEM.PAGE.ACCEPT with the operand as it is: the status word.
inline std::uint64_t accept_word(std::uint64_t rcx) {
  return tdcall(6, rcx)[Gpr::kRax];
}

/// TDG.MEM.PAGE.ACCEPT of the page at `gpa`: the status word.
inline std::uint64_t accept(accede::PhysAddr gpa, accede::PageSize size) {
  return accept_word(accede::abi::tdx::PageOperand::make(gpa, size));
}

inline constexpr std::uint64_t kUsualMask = accede::abi::tdx::VmcallMask::kUsual;

/// TDG.VP.VMCALL of a standard sub-function.
inline Registers vmcall(accede::abi::tdx::Vmcall function, std::uint64_t r12 = 0,
                        std::uint64_t r13 = 0, std::uint64_t r14 = 0, std::uint64_t r15 = 0,
                        std::uint64_t mask = kUsualMask) {
  Registers r;
  r[Gpr::kRcx] = mask;
  r[Gpr::kR11] = static_cast<std::uint64_t>(function);
  r[Gpr::kR12] = r12;
  r[Gpr::kR13] = r13;
  r[Gpr::kR14] = r14;
  r[Gpr::kR15] = r15;
  probe_tdcall(&r);
  return r;
}

/// Bit 47: GPAW is 48.
inline constexpr std::uint64_t kSharedBit = accede::abi::tdx::shared_bit(48);

/// What the compiler knows about memory is void behind an access that may raise an exception.
inline void forget_memory() {
  asm volatile("" : : : "memory");
}

template <class T>
inline T load(const volatile void* from) {
  const T value = *static_cast<const volatile T*>(from);
  forget_memory();
  return value;
}
template <class T>
inline void store(volatile void* to, T value) {
  forget_memory();
  *static_cast<volatile T*>(to) = value;
  forget_memory();
}

/// One 8-byte load at any address, as one instruction.
inline std::uint64_t load_unaligned(const volatile void* from) {
  std::uint64_t value = 0;
  asm volatile("movq (%1), %0" : "=r"(value) : "r"(from) : "memory");
  return value;
}

/// Calls code at `target`, which only returns.
inline void call_to(const volatile void* target) {
  asm volatile("call *%0"
               :
               : "r"(target)
               : "memory", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11");
}

}  // namespace probe
