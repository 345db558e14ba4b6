// The arguments of TDG.VP.VMCALL<MapGPA>, checked.
#pragma once

#include "accede/abi/tdx_vmcall.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/page_attributes.hpp"

#include <cstdint>
#include <expected>

namespace accede::host {

struct MapGpaRequest {
  PhysRange gpas;  ///< 4 KiB aligned, not empty, without the shared bit. Need not be RAM
  PageAttribute to = PageAttribute::kPrivate;
};

/// `start` = R12, `size` = R13, `shared_bit`: the bit of the GPA that says shared. Checks in KVM's
/// order (reference: TDX 3): zero length, wrap, beyond the GPA width, shared bit of first and last
/// byte differ -> INVALID_OPERAND; not multiples of 4 KiB -> ALIGN_ERROR.
[[nodiscard]] constexpr std::expected<MapGpaRequest, abi::tdx::VmcallStatus> map_gpa_request(
    std::uint64_t start, std::uint64_t size, std::uint64_t shared_bit) {
  using abi::tdx::VmcallStatus;
  const std::uint64_t last = start + size - 1;
  if (size == 0 || last < start || last + 1 == 0 || last >= shared_bit * 2 ||
      ((start ^ last) & shared_bit) != 0) {
    return std::unexpected{VmcallStatus::kInvalidOperand};
  }
  if (start % 4096 != 0 || size % 4096 != 0) {
    return std::unexpected{VmcallStatus::kAlignError};
  }
  return MapGpaRequest{
      .gpas = *PhysRange::make(PhysAddr{start & ~shared_bit}, Bytes{size}),
      .to = (start & shared_bit) != 0 ? PageAttribute::kShared : PageAttribute::kPrivate};
}

}  // namespace accede::host
