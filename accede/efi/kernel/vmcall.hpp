// TDG.VP.VMCALL as the kernel issues it: what a TD asks its host for instead of executing it.
#pragma once

#include "accede/abi/tdx.hpp"

#include <cstdint>
#include <optional>
#include <string_view>

namespace accede::efi::kernel {

/// R12 to R15 of a standard call.
struct VmcallArguments {
  std::uint64_t r12 = 0;
  std::uint64_t r13 = 0;
  std::uint64_t r14 = 0;
  std::uint64_t r15 = 0;
};

/// What the host answered: R10 and R11.
struct VmcallAnswer {
  abi::tdx::VmcallStatus status;
  std::uint64_t r11;
};

/// Executes TDCALL for `function`, with R10 to R15 exposed to the host and nothing else.
/// Precondition of everything in this file: the CPU runs as a TD at CPL 0.
[[nodiscard]] VmcallAnswer vmcall(abi::tdx::Vmcall function, const VmcallArguments& arguments);

/// TDVMCALL<Instruction.RDMSR>; nothing when the host refuses.
[[nodiscard]] std::optional<std::uint64_t> vmcall_read_msr(std::uint32_t msr);
/// TDVMCALL<Instruction.WRMSR>; false when the host refuses.
[[nodiscard]] bool vmcall_write_msr(std::uint32_t msr, std::uint64_t value);

/// TDVMCALL<ReportFatalError> with the first 64 bytes of `message`. The host is expected to stop
/// the TD; returns when it does not.
void vmcall_report_fatal_error(std::string_view message);

/// TDG.VP.VEINFO.GET: what the pending #VE is about. Must come before anything that could raise
/// another one. Nothing when none is pending.
[[nodiscard]] std::optional<abi::tdx::VeInfo> virtualization_exception_info();

/// The bit of a guest physical address that makes it shared (TDG.VP.INFO: GPAW - 1).
[[nodiscard]] std::uint64_t shared_bit();

}  // namespace accede::efi::kernel
