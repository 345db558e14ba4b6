// Exceptions of the probe's own, beside the firmware's.
#pragma once

#include "tests/boot/probe/instructions.hpp"

#include <cstdint>

namespace probe {

/// What instructions.S builds on the stack; the lowest address first.
struct ExceptionFrame {
  std::uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
  std::uint64_t vector;
  std::uint64_t error;
  std::uint64_t rip, cs, rflags, rsp, ss;
};
static_assert(sizeof(ExceptionFrame) == 22 * 8);

inline constexpr std::uint64_t kInvalidOpcode = 6;
inline constexpr std::uint64_t kDoubleFault = 8;
inline constexpr std::uint64_t kGeneralProtection = 13;
inline constexpr std::uint64_t kPageFault = 14;
inline constexpr std::uint64_t kVirtualizationException = 20;
inline constexpr std::uint64_t kVmmCommunication = 29;
/// No exception came.
inline constexpr std::uint64_t kNone = ~0ULL;

/// While it lives, #UD, #DF, #GP, #SS, #PF, #VE and #VC come here and everything else stays with
/// the firmware. One at a time.
class Exceptions {
 public:
  /// Called for an exception of no Attempt. Returns false for one that it does not handle: the
  /// probe stops then.
  using Handler = bool (*)(ExceptionFrame&);

  explicit Exceptions(Handler handler = nullptr);
  ~Exceptions();
  Exceptions(const Exceptions&) = delete;
  Exceptions& operator=(const Exceptions&) = delete;

 private:
  struct [[gnu::packed]] Register {
    std::uint16_t limit;
    std::uint64_t base;
  };
  Register firmware_{};
};

// The routines of instructions.S: one instruction each.
extern "C" {
void probe_do_load();  ///< RAX = the 8 bytes at RCX
void probe_do_rdmsr();
void probe_do_wrmsr();
void probe_do_vmmcall();
void probe_do_vmrun();
void probe_do_vmload();
void probe_do_vmsave();
void probe_do_stgi();
void probe_do_clgi();
void probe_do_tdcall();
void probe_do_tdcall_with_two_prefixes();
void probe_do_tdcall_in_compatibility_mode();  ///< RBX = a 32-bit code selector
void probe_do_seamcall();
void probe_do_ud2();
// RBX = RFLAGS afterwards.
void probe_do_pvalidate();
void probe_do_rmpadjust();
void probe_do_rmpquery();
}

/// The vector of the exception that an instruction raised, or kNone, and the registers behind it.
struct Attempt {
  std::uint64_t vector = kNone;
  std::uint64_t error = 0;
  std::uint64_t cr2 = 0;  ///< when the exception came
  Registers after;
};

/// Runs one of the routines above with these registers. Only while an Exceptions lives.
[[nodiscard]] Attempt attempt(void (*instruction)(), std::uint64_t rax = 0, std::uint64_t rcx = 0,
                              std::uint64_t rdx = 0, std::uint64_t rbx = 0);
[[nodiscard]] Attempt attempt_load(const volatile void* from);

}  // namespace probe
