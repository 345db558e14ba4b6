// What world_switch.S defines, and what it calls.
#pragma once

#include "accede/emulator/takeover.hpp"

#include <cstddef>
#include <cstdint>

namespace accede::emulator {
struct Vcpu;
}

extern "C" {

void svm_run(std::uint64_t* gpr, std::uint64_t vmcb_pa);
void svm_idle(std::uint64_t vmcb_pa);
void load_tables(const void* gdt_register, const void* idt_register);
extern const std::byte svm_idle_code[];
extern const std::byte exception_entries[];

// Called from world_switch.S.
std::int64_t emulator_prepare(const accede::emulator::LaunchInfo* info,
                              accede::emulator::LaunchFrame* frame);
[[noreturn]] void emulator_start(accede::emulator::Vcpu* vcpu);
[[noreturn]] void emulator_exception(std::uint64_t vector, std::uint64_t rip, std::uint64_t cr2);

}  // extern "C"
