// A kernel that runs on Intel TDX, on AMD SEV-SNP and on an ordinary machine: finds out where it is
// and sets up its memory. Compiles freestanding.
#include "examples/kernel_memory.hpp"
#include "accede/guest/detect.hpp"
#include "accede/guest/snp_platform.hpp"
#include "accede/guest/tdx_platform.hpp"

#include <cstddef>
#include <cstdint>

namespace example {

namespace {

/// The host of an SNP guest, without a GHCB page: one 4 KiB page an exit.
struct MsrTransport {
  std::uint64_t msr_exchange(std::uint64_t request) {
    const std::uint64_t before = read_msr(kGhcbMsr);
    write_msr(kGhcbMsr, request);
    asm volatile("rep; vmmcall" ::: "memory");  // VMGEXIT
    const std::uint64_t response = read_msr(kGhcbMsr);
    write_msr(kGhcbMsr, before);
    return response;
  }
  void page_exchange(PhysAddr) {}

  static std::uint64_t read_msr(std::uint32_t number) {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number));
    return std::uint64_t{high} << 32 | low;
  }
  static void write_msr(std::uint32_t number, std::uint64_t value) {
    asm volatile("wrmsr" ::"a"(static_cast<std::uint32_t>(value)),
                 "d"(static_cast<std::uint32_t>(value >> 32)), "c"(number)
                 : "memory");
  }
  static constexpr std::uint32_t kGhcbMsr = 0xC001'0130;
  static constexpr std::uint32_t kSevStatusMsr = 0xC001'0131;
};

CpuidResult cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  CpuidResult result{.eax = leaf, .ebx = 0, .ecx = subleaf, .edx = 0};
  asm volatile("cpuid" : "+a"(result.eax), "=b"(result.ebx), "+c"(result.ecx), "=d"(result.edx));
  return result;
}

/// The rest of the kernel: takes a page and gives it back.
template <AcceptPlatform Platform>
[[nodiscard]] bool run(Platform& platform, const BootInfo& boot) {
  static KernelMemory<Platform> memory{platform, PhysWindow{boot.direct_map}};
  if (!memory.start(boot)) {
    return false;
  }
  const auto page = memory.pages().allocate(Order{0});
  return page && memory.pages().free(*page, Order{0});
}

/// False: stop. A kernel prints the text; here there is nothing to print with.
[[nodiscard]] bool kernel_main(const BootInfo& boot) {
  const auto found = detect_platform(
      [](std::uint32_t leaf, std::uint32_t subleaf) { return cpuid(leaf, subleaf); },
      [] { return MsrTransport::read_msr(MsrTransport::kSevStatusMsr); });
  if (!found) {
    return false;
  }
  switch (found->kind) {
    case PlatformKind::kTdx: {
      auto tdx = TdxPlatform::make();
      return tdx && run(*tdx, boot);
    }
    case PlatformKind::kSnp: {
      static MsrTransport transport;
      SnpPlatform snp{transport, PhysWindow{boot.direct_map},
                      SnpOptions{.evict_caches = !found->coherency_sfw_no}};
      return run(snp, boot);
    }
    case PlatformKind::kNone:
      break;
  }
  NoPlatform none;
  return run(none, boot);
}

}  // namespace

}  // namespace example

/// Called by the assembly that a kernel starts with.
extern "C" int example_main(const void* efi_map, std::size_t bytes, std::size_t stride,
                            std::uint64_t kernel_begin, std::uint64_t kernel_end) {
  const auto kernel =
      accede::PhysRange::make(accede::PhysAddr{kernel_begin}, accede::PhysAddr{kernel_end});
  return kernel && example::kernel_main({.efi_map = {static_cast<const std::byte*>(efi_map), bytes},
                                         .efi_stride = stride,
                                         .kernel = *kernel,
                                         .direct_map = 0})
             ? 0
             : 1;
}
