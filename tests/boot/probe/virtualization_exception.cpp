// #VE: access first, accept in the handler. Pending memory needs a TD that takes #VE
// (--unaccepted-touch exception); CPUID can raise it in any.

#include "accede/emulator/cpu.hpp"
#include "tests/boot/probe/address_space.hpp"
#include "tests/boot/probe/instructions.hpp"
#include "tests/boot/probe/probe.hpp"

#include <algorithm>
#include <array>

namespace probe {
namespace {

constexpr std::uint64_t kNoValidVeInfo = 0xC000'0704'0000'0000;
constexpr std::uint64_t kEptViolation = 48;
constexpr std::uint64_t kCpuidReason = 10;

/// What VEINFO.GET gave in a handler; a handler has no context of its own.
struct Seen {
  std::uint64_t count = 0;
  std::uint64_t status = 0;
  std::uint64_t reason = 0;
  std::uint64_t qualification = 0;
  std::uint64_t gpa = 0;
  std::uint64_t instruction = 0;
  std::uint64_t accept_status = 0;
};
Seen g_seen;
PageSize g_accept_size = PageSize::k4K;

void read_ve_info() {
  const Registers info = tdcall(3);
  ++g_seen.count;
  g_seen.status = info[Gpr::kRax];
  g_seen.reason = info[Gpr::kRcx];
  g_seen.qualification = info[Gpr::kRdx];
  g_seen.gpa = info[Gpr::kR9];
  g_seen.instruction = info[Gpr::kR10];
}

/// Accepts the page that was touched and lets the instruction run again.
bool accept_on_touch(ExceptionFrame& frame) {
  if (frame.vector != kVirtualizationException) {
    return false;
  }
  read_ve_info();
  const PhysAddr page = PhysAddr{g_seen.gpa}.align_down(accede::bytes(g_accept_size));
  g_seen.accept_status = accept(page, g_accept_size);
  return g_seen.status == 0 && g_seen.accept_status == 0;
}

void no_ve_info(Probe& probe) {
  const Registers info = tdcall(3);
  probe.expect("RAX", info[Gpr::kRax], kNoValidVeInfo);
  for (const Gpr r : {Gpr::kRcx, Gpr::kRdx, Gpr::kR8, Gpr::kR9, Gpr::kR10}) {
    probe.expect("a register", info[r], 0);
  }
}

void access_first(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  const Exceptions exceptions{accept_on_touch};
  g_accept_size = PageSize::k4K;
  g_seen = {};
  const PhysAddr page = unit + 0x5000_B;
  probe.expect("the value that the load gives", load<std::uint64_t>(at_private(page + 0x18_B)), 0);
  probe.expect("exceptions", g_seen.count, 1);
  probe.expect("exit reason", g_seen.reason, kEptViolation);
  probe.expect("GPA", g_seen.gpa, (page + 0x18_B).value());
  probe.expect("qualification of a read", g_seen.qualification & 7, 1);
  for (Bytes at; at < 4_KiB; at += 8_B) {
    probe.expect("memory is zero", load<std::uint64_t>(at_private(page + at)), 0);
  }
  probe.expect("a second VEINFO.GET", tdcall(3)[Gpr::kRax], kNoValidVeInfo);

  store<std::uint64_t>(at_private(page + 0x1000_B), 42);
  probe.expect("exceptions", g_seen.count, 2);
  probe.expect("qualification of a write", g_seen.qualification & 7, 2);
  probe.expect("what was written", load<std::uint64_t>(at_private(page + 0x1000_B)), 42);
}

/// The host added 2 MiB on the touch; an accept of 4 KiB makes it split them.
void demote_pending(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  const Exceptions exceptions{accept_on_touch};
  g_accept_size = PageSize::k4K;
  g_seen = {};
  static_cast<void>(load<std::uint64_t>(at_private(unit)));
  static_cast<void>(load<std::uint64_t>(at_private(unit + 4_KiB)));
  static_cast<void>(load<std::uint64_t>(at_private(unit + 2_MiB - 8_B)));
  probe.expect("every page raises its own exception", g_seen.count, 3);
  probe.expect("2M over the 4K pages", accept(unit, PageSize::k2M), 0xC000'0B0B'0000'0001);
}

void accept_2m_on_touch(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  const Exceptions exceptions{accept_on_touch};
  g_accept_size = PageSize::k2M;
  g_seen = {};
  for (Bytes at; at < 2_MiB; at += 64_KiB) {
    store<std::uint64_t>(at_private(unit + at), at.value());
  }
  probe.expect("one exception for the unit", g_seen.count, 1);
}

// A second touch before VEINFO.GET: #DF, and the information of the first stays.
PhysAddr g_second;
Attempt g_nested;

bool touch_again(ExceptionFrame& frame) {
  if (frame.vector != kVirtualizationException) {
    return false;
  }
  g_nested = attempt_load(at_private(g_second));
  return accept_on_touch(frame);
}

void nested(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  const Exceptions exceptions{touch_again};
  g_accept_size = PageSize::k4K;
  g_seen = {};
  g_second = unit + 0x9000_B;
  probe.expect("the value that the load gives", load<std::uint64_t>(at_private(unit)), 0);
  probe.expect("vector of the second exception", g_nested.vector, kDoubleFault);
  probe.expect("its error code", g_nested.error, 0);
  probe.expect("GPA of the first", g_seen.gpa, unit.value());
  probe.expect("the second page is not accepted", accept(g_second, PageSize::k4K), 0);
}

/// CPUIDVE.SET makes every CPUID a #VE; the handler answers instead.
bool answer_cpuid(ExceptionFrame& frame) {
  if (frame.vector != kVirtualizationException) {
    return false;
  }
  read_ve_info();
  frame.rax = 0xACCE;
  frame.rip += 2;
  return g_seen.reason == kCpuidReason;
}

void cpuid_exception(Probe& probe) {
  const Exceptions exceptions{answer_cpuid};
  g_seen = {};
  // The firmware's timer handler may use CPUID too.
  asm volatile("cli" : : : "memory");
  probe.expect("CPUIDVE.SET", tdcall(5, 1)[Gpr::kRax], 0);
  const std::uint32_t answer = accede::emulator::cpu::cpuid(0, 0).eax;
  probe.expect("CPUIDVE.SET", tdcall(5, 0)[Gpr::kRax], 0);
  asm volatile("sti" : : : "memory");
  probe.expect("the handler answered", answer, 0xACCE);
  probe.expect("exceptions", g_seen.count, 1);
  probe.expect("exit reason", g_seen.reason, kCpuidReason);
  probe.expect("instruction length", g_seen.instruction, 2);
  probe.expect("CPUID itself works again", accede::emulator::cpu::cpuid(0, 0).eax >= 0x21);
  probe.expect("exceptions", g_seen.count, 1);
}

constexpr auto kScenarios = std::to_array<Scenario>({
    {"no-ve-info", no_ve_info},
    {"ve-access-first", access_first},
    {"ve-demote-pending", demote_pending},
    {"ve-accept-2m", accept_2m_on_touch},
    {"ve-nested", nested},
    {"cpuid-exception", cpuid_exception},
});

}  // namespace

std::span<const Scenario> virtualization_exception_scenarios() {
  return kScenarios;
}

}  // namespace probe
