// Single privileged instructions, each as a function. x86-64, ring 0.
#pragma once

#include <cstdint>

namespace accede::emulator::cpu {

inline std::uint64_t read_msr(std::uint32_t msr) {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
  return (std::uint64_t{high} << 32) | low;
}

inline void write_msr(std::uint32_t msr, std::uint64_t value) {
  asm volatile("wrmsr"
               :
               : "c"(msr), "a"(static_cast<std::uint32_t>(value)),
                 "d"(static_cast<std::uint32_t>(value >> 32))
               : "memory");
}

struct CpuidResult {
  std::uint32_t eax, ebx, ecx, edx;
};

inline CpuidResult cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  CpuidResult r{};
  asm volatile("cpuid"
               : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
               : "a"(leaf), "c"(subleaf));
  return r;
}

inline std::uint64_t read_tsc() {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return (std::uint64_t{high} << 32) | low;
}

inline void out8(std::uint16_t port, std::uint8_t value) {
  asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
inline void out16(std::uint16_t port, std::uint16_t value) {
  asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
inline void out32(std::uint16_t port, std::uint32_t value) {
  asm volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}
inline std::uint8_t in8(std::uint16_t port) {
  std::uint8_t value = 0;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline std::uint16_t in16(std::uint16_t port) {
  std::uint16_t value = 0;
  asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline std::uint32_t in32(std::uint16_t port) {
  std::uint32_t value = 0;
  asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

inline std::uint64_t read_cr0() {
  std::uint64_t value = 0;
  asm volatile("mov %%cr0, %0" : "=r"(value));
  return value;
}
inline std::uint64_t read_cr3() {
  std::uint64_t value = 0;
  asm volatile("mov %%cr3, %0" : "=r"(value));
  return value;
}
inline std::uint64_t read_cr4() {
  std::uint64_t value = 0;
  asm volatile("mov %%cr4, %0" : "=r"(value));
  return value;
}
inline void write_cr3(std::uint64_t value) {
  asm volatile("mov %0, %%cr3" : : "r"(value) : "memory");
}

inline void write_dr7(std::uint64_t value) {
  asm volatile("mov %0, %%dr7" : : "r"(value));
}

/// Operand of LGDT, LIDT, SGDT and SIDT in 64-bit mode: ten bytes without padding.
struct [[gnu::packed]] TableRegister {
  std::uint16_t limit;
  std::uint64_t base;
};
static_assert(sizeof(TableRegister) == 10);

/// Stores what VMRUN leaves in the CPU: FS, GS, TR, LDTR, the system call MSRs.
inline void vmsave(std::uint64_t vmcb_pa) {
  asm volatile("vmsave" : : "a"(vmcb_pa) : "memory");
}

inline void pause() {
  asm volatile("pause");
}

/// Stops this CPU for good: nothing wakes a CPU that halts with GIF clear and interrupts masked.
[[noreturn]] inline void stop_for_ever() {
  for (;;) {
    asm volatile("cli; hlt");
  }
}

/// Writes what the caches hold of a 4 KiB page to memory: under SEV's C-bit and without it a page
/// has different lines, and one that is written back later would spoil the other.
inline void flush_page(const void* page) {
  constexpr std::uint64_t kLine = 64;  // of every processor with SEV-SNP
  const auto* const bytes = static_cast<const volatile char*>(page);
  for (std::uint64_t offset = 0; offset < 4096; offset += kLine) {
    asm volatile("clflush %0" : : "m"(bytes[offset]) : "memory");
  }
  asm volatile("mfence" : : : "memory");
}

/// Fills a 4 KiB page with zero. An unrolled loop and not `rep stosq`: where the machine is itself
/// emulated (QEMU TCG), each iteration of a string instruction costs as much as eight plain stores.
inline void zero_page(void* page) {
  std::uint64_t chunks = 4096 / 128;
  asm volatile(
      "1:\n\t"
      ".set offset, 0\n\t"
      ".rept 16\n\t"
      "movq %[zero], offset(%[to])\n\t"
      ".set offset, offset + 8\n\t"
      ".endr\n\t"
      "addq $128, %[to]\n\t"
      "decq %[chunks]\n\t"
      "jnz 1b"
      : [to] "+r"(page), [chunks] "+r"(chunks)
      : [zero] "r"(0ULL)
      : "memory", "cc");
}

}  // namespace accede::emulator::cpu
