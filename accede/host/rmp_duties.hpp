// What a host must do beside the RMP when pages come and go, and who still holds a page.
#pragma once

#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/rmp.hpp"

#include <cstdint>
#include <optional>

namespace accede::host {

/// The host's part around a change of ownership, called in this order (Linux: rmpupdate and the
/// direct map; KVM: gmem_prepare, gmem_invalidate). Ranges and addresses are system physical. A
/// callback must not change the pages that it is called for, `reclaim` aside.
struct HostDuties {
  /// Before pages are assigned: afterwards no writable mapping of the host's covers them. A large
  /// mapping that does would fault on a write to its neighbours too.
  FunctionRef<void(PhysRange)> leave_direct_map;
  /// The page to take back is immutable: have the firmware reclaim it (SNP_PAGE_RECLAIM). False: it
  /// cannot, and the page stays lost.
  FunctionRef<bool(PhysAddr spa, PageSize size)> reclaim;
  /// Pages are the hypervisor's again, but lines of the guest's may be in the caches: flush them.
  FunctionRef<void(PhysRange)> flush_caches;
  /// Then the host may map them.
  FunctionRef<void(PhysRange)> enter_direct_map;
};

/// RMPUPDATE to an assigned state with the duties around it; `duties` null: none. Refused pages
/// enter the direct map again. Precondition: to.assigned.
[[nodiscard]] RmpUpdateCode assign_page(Rmp& rmp, PhysAddr spa, const RmpUpdate& to,
                                        const HostDuties* duties);

/// RMPUPDATE to Hypervisor with the duties around it; `duties` null: none, and an immutable page is
/// refused with FAIL_PERMISSION. A page that is refused must not be used again by the host.
[[nodiscard]] RmpUpdateCode return_page(Rmp& rmp, PhysAddr spa, PageSize size,
                                        const HostDuties* duties);

/// A page that is not the host's to use.
struct HeldPage {
  PhysAddr spa;  ///< of the 4 KiB page
  RmpState state = RmpState::kHypervisor;
  std::uint32_t asid = 0;
  PhysAddr gpa;
  bool in_use = false;  ///< by VMRUN or the firmware

  friend bool operator==(const HeldPage&, const HeldPage&) = default;
};

/// The first page of `pages` that somebody else holds: assigned, or in use. Nothing: the host may
/// use them all. For a host that is about to give pages to another use. The answer stays true only
/// while nobody assigns them.
[[nodiscard]] std::optional<HeldPage> find_held(const Rmp& rmp, PhysRange pages);

}  // namespace accede::host
