#include "accede/host/rmp_assignment.hpp"

#include <algorithm>

namespace accede::host {

using namespace std::string_view_literals;

std::string_view name(AssignOutcome outcome) {
  switch (outcome) {
    case AssignOutcome::kAssigned4K:
      return "assigned in 4 KiB"sv;
    case AssignOutcome::kAssigned2M:
      return "assigned in 2 MiB"sv;
    case AssignOutcome::kAlreadyAssigned:
      return "already assigned"sv;
    case AssignOutcome::kNotPrivate:
      return "not private"sv;
    case AssignOutcome::kRefused:
      return "refused"sv;
  }
  return "unknown"sv;
}

bool RmpAssignment::is_ram(PhysRange pages) const {
  return std::ranges::any_of(ram_, [&](PhysRange range) { return range.contains(pages); });
}

bool RmpAssignment::assign(PhysAddr page, PageSize size, Purpose purpose,
                           const HostDuties* duties) const {
  const PhysAddr spa = page + config_.hpa_offset;
  const bool launch = purpose == Purpose::kLaunch;
  const RmpUpdate to = launch ? RmpUpdate::pre_guest(page, size, config_.asid)
                              : RmpUpdate::guest(page, size, config_.asid);
  if (assign_page(rmp_, spa, to, duties) != RmpUpdateCode::kSuccess) {
    return false;
  }
  if (!launch ||
      rmp_.launch_update(spa, {.size = size, .asid = config_.asid}) == FirmwareCode::kSuccess) {
    return true;
  }
  (void)return_page(rmp_, spa, size, duties);
  return false;
}

AssignOutcome RmpAssignment::first_use(PhysAddr gpa, PhysRange within, Purpose purpose,
                                       const HostDuties* duties) const {
  const PhysRange page = PhysRange::page(gpa, PageSize::k4K);
  if (!is_ram(page) || attributes_.get(page.begin()) != PageAttribute::kPrivate) {
    return AssignOutcome::kNotPrivate;
  }
  if (RmpEntry::Assigned::get(rmp_.lookup(page.begin() + config_.hpa_offset).low) != 0) {
    return AssignOutcome::kAlreadyAssigned;
  }
  const PhysRange block = PhysRange::page(gpa, PageSize::k2M);
  const auto unassigned = [&] {
    return rmp_.check_shared(block.begin() + config_.hpa_offset, true, PageSize::k2M) ==
           RmpVerdict::kAllowed;
  };
  if (config_.backing == Backing::k2M && within.contains(block) && is_ram(block) &&
      attributes_.all(block, PageAttribute::kPrivate) && unassigned() &&
      assign(block.begin(), PageSize::k2M, purpose, duties)) {
    return AssignOutcome::kAssigned2M;
  }
  return assign(page.begin(), PageSize::k4K, purpose, duties) ? AssignOutcome::kAssigned4K
                                                              : AssignOutcome::kRefused;
}

}  // namespace accede::host
