// Pages in use: what VMRUN checks and marks.
#include "accede/base/assert.hpp"
#include "accede/host/rmp.hpp"
#include "accede/host/rmp_check.hpp"
#include "accede/host/rmp_entry.hpp"

namespace accede::host {

using namespace rmp_internal;
using namespace std::string_view_literals;

std::string_view name(RunVerdict verdict) {
  switch (verdict) {
    case RunVerdict::kEntered:
      return "entered"sv;
    case RunVerdict::kGeneralProtection:
      return "#GP(0): the VMCB is not the hypervisor's"sv;
    case RunVerdict::kVmexitInvalid:
      return "VMEXIT_INVALID: not a VMSA of the guest"sv;
    case RunVerdict::kTooManyUsers:
      return "too many users of one page"sv;
  }
  return "unknown"sv;
}

/// Adds a user to a covered page when `fits(governing low word, users so far)`.
template <class Fits>
Rmp::Mark Rmp::mark(PhysAddr spa, Fits fits) {
  RegionLock lock{region_slot(spa)};
  RmpEntry* const entry = slot(spa);
  const std::uint64_t users = Users::get(load(entry->high));
  const std::uint64_t low = lookup(spa).low;
  if (!fits(low, users)) {
    return Mark::kUnfit;
  }
  if (users == Users::kMax) {
    return Mark::kFull;
  }
  lock.set_users(entry, users + 1);
  // An HV-Fixed page is counted already.
  if (users == 0 && (assigned(low) || !immutable(low))) {
    lock.set_watched(lock.watched() + 1);
  }
  return Mark::kMarked;
}

bool Rmp::begin_use(PhysAddr spa) {
  return !covers(spa, PageSize::k4K) ||
         mark(spa, [](std::uint64_t, std::uint64_t) { return true; }) == Mark::kMarked;
}

void Rmp::end_use(PhysAddr spa) {
  if (!covers(spa, PageSize::k4K)) {
    return;
  }
  RegionLock lock{region_slot(spa)};
  RmpEntry* const entry = slot(spa);
  const std::uint64_t users = Users::get(load(entry->high));
  const std::uint64_t low = lookup(spa).low;
  ACCEDE_ASSERT(users != 0);
  lock.set_users(entry, users - 1);
  if (users == 1 && (assigned(low) || !immutable(low))) {
    lock.set_watched(lock.watched() - 1);
  }
}

bool Rmp::in_use(PhysAddr spa, PageSize size) const {
  ACCEDE_ASSERT(size != PageSize::k1G);
  const PhysAddr base = spa.align_down(bytes(size));
  return covers(base, size) && users_in(base, size);
}

Rmp::Mark Rmp::mark_vmcb(PhysAddr spa) {
  if (!covers(spa, PageSize::k4K)) {
    return Mark::kMarked;
  }
  return mark(spa, [](std::uint64_t low, std::uint64_t) { return !assigned(low); });
}

Rmp::Mark Rmp::mark_vmsa(const RunPages::Vmsa& vmsa) {
  if (!covers(vmsa.spa, PageSize::k4K)) {
    return Mark::kUnfit;
  }
  return mark(vmsa.spa, [&](std::uint64_t low, std::uint64_t users) {
    return check_owner(low, vmsa.gpa, vmsa.asid) == RmpVerdict::kAllowed &&
           RmpEntry::Vmsa::get(low) != 0 && users == 0;
  });
}

RunVerdict Rmp::vmrun(const RunPages& pages) {
  if (const Mark vmcb = mark_vmcb(pages.vmcb); vmcb != Mark::kMarked) {
    return vmcb == Mark::kUnfit ? RunVerdict::kGeneralProtection : RunVerdict::kTooManyUsers;
  }
  if (pages.vmsa.has_value()) {
    if (const Mark vmsa = mark_vmsa(*pages.vmsa); vmsa != Mark::kMarked) {
      end_use(pages.vmcb);
      return vmsa == Mark::kUnfit ? RunVerdict::kVmexitInvalid : RunVerdict::kTooManyUsers;
    }
  }
  for (std::size_t i = 0; i < pages.avic.size(); ++i) {
    if (!begin_use(pages.avic[i])) {
      vmexit({.vmcb = pages.vmcb, .vmsa = pages.vmsa, .avic = pages.avic.first(i)});
      return RunVerdict::kTooManyUsers;
    }
  }
  return RunVerdict::kEntered;
}

void Rmp::vmexit(const RunPages& pages) {
  for (const PhysAddr page : pages.avic) {
    end_use(page);
  }
  if (pages.vmsa.has_value()) {
    end_use(pages.vmsa->spa);
  }
  end_use(pages.vmcb);
}

}  // namespace accede::host
