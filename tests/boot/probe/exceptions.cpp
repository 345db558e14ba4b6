#include "tests/boot/probe/exceptions.hpp"

#include "tests/boot/probe/probe.hpp"

#include <algorithm>
#include <array>
#include <cstddef>

namespace probe {

extern "C" {
extern const std::byte probe_exception_entries[];
extern std::uint64_t probe_resume_rip;
extern std::uint64_t probe_resume_rsp;
void probe_attempt(Registers* registers, void (*instruction)());
void probe_exception(ExceptionFrame* frame);
}

namespace {

using Gate = std::array<std::uint64_t, 2>;

// The processor comes here without a context.
alignas(16) std::array<Gate, 256> g_idt;
Exceptions::Handler g_handler = nullptr;

Attempt* g_caught = nullptr;  // of the attempt that is under way

std::uint16_t code_selector() {
  std::uint16_t selector = 0;
  asm volatile("mov %%cs, %0" : "=r"(selector));
  return selector;
}

std::uint64_t read_cr2() {
  std::uint64_t value = 0;
  asm volatile("mov %%cr2, %0" : "=r"(value));
  return value;
}

void set_gate(std::uint64_t vector) {
  const auto entry = reinterpret_cast<std::uintptr_t>(probe_exception_entries) + vector * 16;
  constexpr std::uint64_t kInterruptGate = 0x8E00;
  g_idt[vector][0] = (entry & 0xFFFF) | (std::uint64_t{code_selector()} << 16) |
                     (kInterruptGate << 32) | ((entry >> 16 & 0xFFFF) << 48);
  g_idt[vector][1] = entry >> 32;
}

}  // namespace

void probe_exception(ExceptionFrame* frame) {
  if (probe_resume_rip != 0) {
    g_caught->vector = frame->vector;
    g_caught->error = frame->error;
    g_caught->cr2 = read_cr2();
    frame->cs = code_selector();
    frame->rip = probe_resume_rip;
    frame->rsp = probe_resume_rsp;
    probe_resume_rip = 0;
    return;
  }
  if (g_handler == nullptr || !g_handler(*frame)) {
    stop_on_exception(*frame);
  }
}

Exceptions::Exceptions(Handler handler) {
  asm volatile("sidt %0" : "=m"(firmware_));
  const std::size_t gates =
      std::min<std::size_t>((firmware_.limit + std::size_t{1}) / sizeof(Gate), g_idt.size());
  std::copy_n(reinterpret_cast<const Gate*>(firmware_.base), gates, g_idt.begin());
  constexpr std::uint64_t kStackFault = 12;
  for (const std::uint64_t vector : {kInvalidOpcode, kDoubleFault, kStackFault, kGeneralProtection,
                                     kPageFault, kVirtualizationException, kVmmCommunication}) {
    set_gate(vector);
  }
  g_handler = handler;
  const Register ours{sizeof(g_idt) - 1, reinterpret_cast<std::uintptr_t>(g_idt.data())};
  asm volatile("lidt %0" : : "m"(ours) : "memory");
}

Exceptions::~Exceptions() {
  asm volatile("lidt %0" : : "m"(firmware_) : "memory");
  g_handler = nullptr;
}

Attempt attempt(void (*instruction)(), std::uint64_t rax, std::uint64_t rcx, std::uint64_t rdx,
                std::uint64_t rbx) {
  Attempt result;
  result.after[Gpr::kRax] = rax;
  result.after[Gpr::kRcx] = rcx;
  result.after[Gpr::kRdx] = rdx;
  result.after[Gpr::kRbx] = rbx;
  g_caught = &result;
  probe_attempt(&result.after, instruction);
  g_caught = nullptr;
  return result;
}

Attempt attempt_load(const volatile void* from) {
  return attempt(probe_do_load, 0, reinterpret_cast<std::uintptr_t>(from));
}

}  // namespace probe
