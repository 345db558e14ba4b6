#include "accede/image/kernel_signals.hpp"

#include "accede/abi/efi.hpp"
#include "accede/image/pattern.hpp"

namespace accede::image {

using namespace std::string_view_literals;

namespace {

/// In the order of KernelSignal. Linux: init/version-timestamp.c, mm/vmstat.c, init/main.c,
/// arch/x86/coco/tdx/tdx.c, arch/x86/mm/mem_encrypt*.c, arch/x86/coco/sev/core.c,
/// fs/proc/meminfo.c, drivers/firmware/efi/efi.c, kernel/kexec_core.c, kernel/configs.c.
/// "\1c" goes before a message that continues a line.
constexpr PatternSet<kKernelSignalCount> kPatterns{{{
    text_pattern("Linux version "sv),
    text_pattern("nr_free_pages\0"sv),
    text_pattern("Kernel command line: "sv),
    text_pattern("tdx: Guest detected"sv),
    text_pattern("IntelTDX    "sv),
    text_pattern("TDX: Failed to accept memory"sv),
    text_pattern("\1c SEV\0"sv),
    text_pattern("Secure Encrypted Virtualization (SEV)"sv),
    text_pattern("\1c SEV-ES\0"sv),
    text_pattern("\1c SEV-SNP\0"sv),
    text_pattern("SNP guest platform device initialized"sv),
    text_pattern("nr_unaccepted\0"sv),
    text_pattern("Unaccepted:     "sv),
    guid_pattern(abi::efi::kLinuxUnacceptedTable, 0, 16),
    text_pattern("kexec_core: Starting new kernel"sv),
    text_pattern("IKCFG_ST"sv),
}}};

}  // namespace

std::string_view to_string(KernelSignal signal) {
  switch (signal) {
    case KernelSignal::kBanner:
      return "version banner"sv;
    case KernelSignal::kFreePagesCounter:
      return "counter of free pages"sv;
    case KernelSignal::kCommandLine:
      return "message about the command line"sv;
    case KernelSignal::kTdxGuest:
      return "message: TDX guest detected"sv;
    case KernelSignal::kTdxSignature:
      return "CPUID signature of TDX"sv;
    case KernelSignal::kTdxAccept:
      return "message: TDX acceptance failed"sv;
    case KernelSignal::kSev:
      return "message: SEV active"sv;
    case KernelSignal::kSevOld:
      return "message: SEV active (old form)"sv;
    case KernelSignal::kSevEs:
      return "message: SEV-ES active"sv;
    case KernelSignal::kSnp:
      return "message: SNP active"sv;
    case KernelSignal::kSnpDevice:
      return "message: SNP guest device"sv;
    case KernelSignal::kUnacceptedCounter:
      return "counter of unaccepted pages"sv;
    case KernelSignal::kUnacceptedMeminfo:
      return "meminfo line of unaccepted memory"sv;
    case KernelSignal::kUnacceptedTable:
      return "GUID of the unaccepted table"sv;
    case KernelSignal::kKexec:
      return "message: starting a new kernel"sv;
    case KernelSignal::kConfig:
      return "embedded configuration"sv;
  }
  return "unknown signal"sv;
}

KernelSignals find_kernel_signals(std::span<const std::byte> kernel) {
  KernelSignals signals;
  kPatterns.search(kernel, 0, kernel.size(), [&](std::size_t index, std::size_t offset) {
    auto& first = signals.offsets_[index];
    if (!first) {
      first = offset;
    }
  });
  return signals;
}

}  // namespace accede::image
