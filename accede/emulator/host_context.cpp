#include "accede/emulator/host_context.hpp"

#include "accede/emulator/cpu.hpp"
#include "accede/emulator/world_switch.hpp"

namespace accede::emulator {
namespace {

using cpu::TableRegister;

constexpr std::uint64_t kTable = 0x3;          // present, writable
constexpr std::uint64_t kGibibyteLeaf = 0x83;  // ... and large
constexpr std::uint64_t kCode64 = 0x00AF'9B00'0000'FFFF;
constexpr std::uint64_t kData = 0x00CF'9300'0000'FFFF;
constexpr std::uint64_t kInterruptGate = 0x8E00;
constexpr std::uint64_t kCodeSelector = 8;
constexpr std::size_t kEntryStride = 16;  // of exception_entries

template <class Table>
TableRegister table_register(const Table& table) {
  return {static_cast<std::uint16_t>(sizeof(table) - 1), reinterpret_cast<std::uintptr_t>(&table)};
}

}  // namespace

void HostContext::build() {
  pml4 = {};
  pml4[0] = reinterpret_cast<std::uintptr_t>(&pdpt) | kTable;
  for (std::uint64_t i = 0; i < pdpt.size(); ++i) {
    pdpt[i] = (i << 30) | kGibibyteLeaf;
  }
  gdt = {0, kCode64, kData};
  for (std::size_t vector = 0; vector < idt.size(); ++vector) {
    const auto entry = reinterpret_cast<std::uintptr_t>(exception_entries) + vector * kEntryStride;
    idt[vector][0] = (entry & 0xFFFF) | (kCodeSelector << 16) | (kInterruptGate << 32) |
                     ((entry >> 16 & 0xFFFF) << 48);
    idt[vector][1] = entry >> 32;
  }
}

void HostContext::enter() {
  const TableRegister gdt_register = table_register(gdt);
  const TableRegister idt_register = table_register(idt);
  cpu::write_cr3(reinterpret_cast<std::uintptr_t>(&pml4));
  load_tables(&gdt_register, &idt_register);
}

}  // namespace accede::emulator
