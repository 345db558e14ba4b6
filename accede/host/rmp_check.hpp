// Internal to accede/host. Checks that accesses and the guest's instructions share.
#pragma once

#include "accede/base/units.hpp"
#include "accede/host/rmp_types.hpp"

#include <cstdint>

namespace accede::host::rmp_internal {

/// Checks 2 to 4 of a private access.
[[nodiscard]] RmpVerdict check_owner(std::uint64_t low, PhysAddr gpa, std::uint32_t asid);

/// The permission byte of a VMPL. Precondition: below 4.
[[nodiscard]] constexpr std::uint8_t permissions(std::uint64_t high, unsigned vmpl) {
  return static_cast<std::uint8_t>(high >> (8 * vmpl));
}

}  // namespace accede::host::rmp_internal
