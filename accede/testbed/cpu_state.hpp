// The registers of the thread that a signal stopped, as its virtual CPU.
#pragma once

#include "accede/abi/tdx.hpp"

#include <ucontext.h>
#include <csignal>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace accede::testbed {

/// A view of a signal's context; what is written here is what the thread goes on with. Valid while
/// the handler runs.
class CpuState {
 public:
  using Gpr = abi::tdx::Gpr;

  explicit CpuState(ucontext_t& context) : context_{context} {}

  [[nodiscard]] std::uint64_t get(Gpr gpr) const {
    return static_cast<std::uint64_t>(context_.uc_mcontext.gregs[kIndex[index(gpr)]]);
  }
  void set(Gpr gpr, std::uint64_t value) {
    context_.uc_mcontext.gregs[kIndex[index(gpr)]] = static_cast<greg_t>(value);
  }
  [[nodiscard]] std::uint64_t rip() const {
    return static_cast<std::uint64_t>(context_.uc_mcontext.gregs[REG_RIP]);
  }
  void advance(unsigned bytes) { context_.uc_mcontext.gregs[REG_RIP] += bytes; }
  void set_carry(bool carry) {
    auto& flags = context_.uc_mcontext.gregs[REG_EFL];
    flags = carry ? flags | kCarry : flags & ~kCarry;
  }

  /// Error code of a page fault.
  [[nodiscard]] bool is_write() const { return (error() & 1U << 1) != 0; }
  [[nodiscard]] bool is_fetch() const { return (error() & 1U << 4) != 0; }

  /// True when the bytes at RIP are `opcode`. Reads no byte past the first that differs: the CPU
  /// has read those that it made out to be an instruction, and no more are known to exist.
  /// Precondition: the CPU raised an exception of the instruction, not of its fetch.
  [[nodiscard]] bool is_at(std::span<const std::uint8_t> opcode) const {
    const auto* const code = reinterpret_cast<const volatile std::uint8_t*>(rip());
    for (std::size_t i = 0; i < opcode.size(); ++i) {
      if (code[i] != opcode[i]) {
        return false;
      }
    }
    return true;
  }

 private:
  static constexpr greg_t kCarry = 1;
  static constexpr std::array<int, 16> kIndex{REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                              REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                              REG_R12, REG_R13, REG_R14, REG_R15};
  static constexpr std::size_t index(Gpr gpr) { return static_cast<std::size_t>(gpr); }
  [[nodiscard]] std::uint64_t error() const {
    return static_cast<std::uint64_t>(context_.uc_mcontext.gregs[REG_ERR]);
  }

  ucontext_t& context_;
};

}  // namespace accede::testbed
