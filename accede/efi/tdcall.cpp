#include "accede/efi/tdcall.hpp"

#include "accede/abi/tdx.hpp"

namespace accede::efi {

std::uint64_t tdg_accept(PhysAddr gpa, PageSize size) {
  std::uint64_t rax = static_cast<std::uint64_t>(abi::tdx::TdcallLeaf::kMemPageAccept);
  const std::uint64_t rcx = abi::tdx::PageOperand::make(gpa, size);
  asm volatile(".byte 0x66, 0x0F, 0x01, 0xCC" : "+a"(rax) : "c"(rcx) : "memory", "cc");
  return rax;
}

std::expected<void, AcceptError> accept_range(PhysRange range) {
  ACCEDE_ASSERT(range.begin().is_aligned(4_KiB) && range.end().is_aligned(4_KiB));
  const auto is_mismatch = [](std::uint64_t status) {
    return abi::tdx::code_of(status) == abi::tdx::Status::kPageSizeMismatch;
  };
  for (PhysAddr at = range.begin(); at < range.end();) {
    if (at.is_aligned(2_MiB) && range.end() - at >= 2_MiB) {
      const std::uint64_t status = tdg_accept(at, PageSize::k2M);
      if (status == 0) {
        at += 2_MiB;
        continue;
      }
      if (!is_mismatch(status)) {
        return std::unexpected{AcceptError{at, status}};
      }
    }
    const std::uint64_t status = tdg_accept(at, PageSize::k4K);
    if (status != 0) {
      return std::unexpected{AcceptError{at, status}};
    }
    at += 4_KiB;
  }
  return {};
}

}  // namespace accede::efi
