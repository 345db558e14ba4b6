// TDCALL as a UEFI program issues it, and accepting a range with it.
#pragma once

#include "accede/base/phys_range.hpp"

#include <cstdint>
#include <expected>

namespace accede::efi {

/// TDG.MEM.PAGE.ACCEPT of the page at `gpa`. Returns the status word (RAX).
/// Precondition: the program runs as a TD.
[[nodiscard]] std::uint64_t tdg_accept(PhysAddr gpa, PageSize size);

/// A page that could not be accepted, and the platform's status word for it.
struct AcceptError {
  PhysAddr gpa;
  std::uint64_t status;
};

/// Accepts `range` (4 KiB aligned) in the largest pages that fit, 2 MiB at most: the module refuses
/// 1 GiB. A 2 MiB page that the host backs with 4 KiB pages is accepted in 512 parts. Stops at the
/// first page that fails, an already accepted one included: the caller knows what it accepted, so
/// a page that is accepted already is a bug or an attack.
[[nodiscard]] std::expected<void, AcceptError> accept_range(PhysRange range);

}  // namespace accede::efi
