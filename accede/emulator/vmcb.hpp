// The SVM virtual machine control block and what surrounds VMRUN.
// Source: AMD64 APM volume 2, chapter 15 and appendices B and C.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace accede::emulator {

struct VmcbSegment {
  std::uint16_t selector;
  std::uint16_t attributes;  ///< descriptor bits 55:52 and 47:40, packed to 12 bits
  std::uint32_t limit;
  std::uint64_t base;
};
static_assert(sizeof(VmcbSegment) == 16);

struct VmcbControl {
  std::uint16_t intercept_cr_read;
  std::uint16_t intercept_cr_write;
  std::uint16_t intercept_dr_read;
  std::uint16_t intercept_dr_write;
  std::uint32_t intercept_exceptions;
  std::uint32_t intercept_misc1;
  std::uint32_t intercept_misc2;
  std::array<std::byte, 0x2C> reserved1;
  std::uint64_t iopm_base_pa;
  std::uint64_t msrpm_base_pa;
  std::uint64_t tsc_offset;
  std::uint32_t asid;
  std::uint32_t tlb_control;
  std::uint64_t virtual_interrupt;
  std::uint64_t interrupt_shadow;
  std::uint64_t exit_code;
  std::uint64_t exit_info1;
  std::uint64_t exit_info2;
  std::uint64_t exit_int_info;
  std::uint64_t nested_control;
  std::array<std::byte, 0x10> reserved2;
  std::uint64_t event_injection;
  std::uint64_t nested_cr3;
  std::uint64_t lbr_control;
  std::uint64_t clean_bits;
  std::uint64_t next_rip;
  std::array<std::byte, 0x330> reserved3;
};
static_assert(sizeof(VmcbControl) == 0x400);
static_assert(offsetof(VmcbControl, iopm_base_pa) == 0x40);
static_assert(offsetof(VmcbControl, asid) == 0x58);
static_assert(offsetof(VmcbControl, exit_code) == 0x70);
static_assert(offsetof(VmcbControl, nested_control) == 0x90);
static_assert(offsetof(VmcbControl, event_injection) == 0xA8);
static_assert(offsetof(VmcbControl, next_rip) == 0xC8);

struct VmcbSave {
  VmcbSegment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
  std::array<std::byte, 0x2B> reserved1;
  std::uint8_t cpl;
  std::uint32_t reserved2;
  std::uint64_t efer;
  std::array<std::byte, 0x70> reserved3;
  std::uint64_t cr4;
  std::uint64_t cr3;
  std::uint64_t cr0;
  std::uint64_t dr7;
  std::uint64_t dr6;
  std::uint64_t rflags;
  std::uint64_t rip;
  std::array<std::byte, 0x58> reserved4;
  std::uint64_t rsp;
  std::array<std::byte, 0x18> reserved5;
  std::uint64_t rax;
  std::array<std::uint64_t, 8> syscall_msrs;  ///< STAR .. SYSENTER_EIP: VMLOAD and VMSAVE only
  std::uint64_t cr2;
  std::array<std::byte, 0x20> reserved6;
  std::uint64_t g_pat;
  std::array<std::byte, 0x990> reserved7;
};
static_assert(offsetof(VmcbSave, cpl) == 0xCB);
static_assert(offsetof(VmcbSave, efer) == 0xD0);
static_assert(offsetof(VmcbSave, cr4) == 0x148);
static_assert(offsetof(VmcbSave, rip) == 0x178);
static_assert(offsetof(VmcbSave, rsp) == 0x1D8);
static_assert(offsetof(VmcbSave, rax) == 0x1F8);
static_assert(offsetof(VmcbSave, cr2) == 0x240);
static_assert(offsetof(VmcbSave, g_pat) == 0x268);

struct Vmcb {
  VmcbControl control;
  VmcbSave save;
};
static_assert(sizeof(Vmcb) == 4096);

namespace svm {

// VmcbControl::intercept_misc1
inline constexpr std::uint32_t kInterceptIntr = 1U << 0;
inline constexpr std::uint32_t kInterceptSmi = 1U << 2;
inline constexpr std::uint32_t kInterceptInit = 1U << 3;
inline constexpr std::uint32_t kInterceptCpuid = 1U << 18;
inline constexpr std::uint32_t kInterceptInvlpga = 1U << 26;
inline constexpr std::uint32_t kInterceptIo = 1U << 27;
inline constexpr std::uint32_t kInterceptMsr = 1U << 28;
inline constexpr std::uint32_t kInterceptShutdown = 1U << 31;
// VmcbControl::intercept_misc2: VMRUN must be intercepted; the others keep SVM out of reach.
inline constexpr std::uint32_t kInterceptVmrun = 1U << 0;
inline constexpr std::uint32_t kInterceptVmmcall = 1U << 1;
inline constexpr std::uint32_t kInterceptVmload = 1U << 2;
inline constexpr std::uint32_t kInterceptVmsave = 1U << 3;
inline constexpr std::uint32_t kInterceptStgi = 1U << 4;
inline constexpr std::uint32_t kInterceptClgi = 1U << 5;
inline constexpr std::uint32_t kInterceptSkinit = 1U << 6;

inline constexpr std::uint64_t kNestedPaging = 1;
inline constexpr std::uint64_t kVirtualInterruptMasking = 1ULL << 24;
inline constexpr std::uint32_t kTlbFlushAll = 1;

/// VMEXIT codes.
enum class Exit : std::uint64_t {
  kExceptionUd = 0x46,
  kIntr = 0x60,
  kSmi = 0x62,
  kInit = 0x63,
  kCpuid = 0x72,
  kInvlpga = 0x7A,
  kIo = 0x7B,
  kMsr = 0x7C,
  kShutdown = 0x7F,
  kVmrun = 0x80,
  kVmmcall = 0x81,
  kVmload = 0x82,
  kVmsave = 0x83,
  kStgi = 0x84,
  kClgi = 0x85,
  kSkinit = 0x86,
  kNestedPageFault = 0x400,
  kInvalid = ~0ULL,
  kInvalid32 = 0xFFFF'FFFF,  ///< what QEMU's TCG writes for it
};

// EVENTINJ and EXITINTINFO.
inline constexpr std::uint64_t kEventValid = 1ULL << 31;
inline constexpr std::uint64_t kEventType = 7ULL << 8;  ///< 0: external interrupt
inline constexpr std::uint64_t kEventTypeException = 3ULL << 8;
inline constexpr std::uint64_t kEventHasError = 1ULL << 11;

// EXITINFO1 of a nested page fault.
inline constexpr std::uint64_t kNpfWrite = 1ULL << 1;
inline constexpr std::uint64_t kNpfFetch = 1ULL << 4;
inline constexpr std::uint64_t kNpfTableWalk = 1ULL << 33;

// EXITINFO1 of an I/O intercept.
inline constexpr std::uint64_t kIoIn = 1ULL << 0;
inline constexpr std::uint64_t kIoString = 1ULL << 2;

}  // namespace svm

// Model specific registers that the emulator owns or shows.
inline constexpr std::uint32_t kMsrPat = 0x277;
inline constexpr std::uint32_t kMsrEfer = 0xC0000080;
inline constexpr std::uint32_t kMsrVmCr = 0xC0010114;
inline constexpr std::uint32_t kMsrVmHsavePa = 0xC0010117;

inline constexpr std::uint64_t kEferSce = 1ULL << 0;
inline constexpr std::uint64_t kEferLme = 1ULL << 8;
inline constexpr std::uint64_t kEferLma = 1ULL << 10;
inline constexpr std::uint64_t kEferNxe = 1ULL << 11;
inline constexpr std::uint64_t kEferSvme = 1ULL << 12;

}  // namespace accede::emulator
