#include "accede/host/rmp_duties.hpp"

#include "accede/base/assert.hpp"

namespace accede::host {

RmpUpdateCode assign_page(Rmp& rmp, PhysAddr spa, const RmpUpdate& to, const HostDuties* duties) {
  ACCEDE_ASSERT(to.assigned);
  const PhysRange pages = PhysRange::page(spa, to.size);
  if (duties != nullptr) {
    duties->leave_direct_map(pages);
  }
  const RmpUpdateCode code = rmp.update(spa, to);
  if (code == RmpUpdateCode::kSuccess || duties == nullptr) {
    return code;
  }
  for (PhysAddr page = pages.begin(); page < pages.end(); page += 4_KiB) {
    // What others hold was not mapped before either.
    if (rmp.check_shared(page, true) == RmpVerdict::kAllowed) {
      duties->enter_direct_map(PhysRange::page(page, PageSize::k4K));
    }
  }
  return code;
}

RmpUpdateCode return_page(Rmp& rmp, PhysAddr spa, PageSize size, const HostDuties* duties) {
  const bool immutable = RmpEntry::Immutable::get(rmp.lookup(spa).low) != 0;
  if (immutable && (duties == nullptr || !duties->reclaim(spa, size))) {
    return RmpUpdateCode::kFailPermission;
  }
  const RmpUpdateCode code = rmp.update(spa, RmpUpdate::hypervisor(size));
  if (code == RmpUpdateCode::kSuccess && duties != nullptr) {
    const PhysRange pages = PhysRange::page(spa, size);
    duties->flush_caches(pages);
    duties->enter_direct_map(pages);
  }
  return code;
}

std::optional<HeldPage> find_held(const Rmp& rmp, PhysRange pages) {
  for (PhysAddr spa = pages.begin().align_down(4_KiB); spa < pages.end(); spa += 4_KiB) {
    const RmpEntry entry = rmp.lookup(spa);
    const bool in_use = rmp.in_use(spa, PageSize::k4K);
    if (RmpEntry::Assigned::get(entry.low) != 0 || in_use) {
      return HeldPage{.spa = spa,
                      .state = abi::rmp::state_of(entry),
                      .asid = static_cast<std::uint32_t>(RmpEntry::Asid::get(entry.low)),
                      .gpa = PhysAddr{RmpEntry::Gfn::get(entry.low) << 12},
                      .in_use = in_use};
    }
  }
  return std::nullopt;
}

}  // namespace accede::host
