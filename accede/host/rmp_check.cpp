// Access checks, and what the processor makes of their verdicts.
#include "accede/host/rmp_check.hpp"

#include "accede/base/assert.hpp"
#include "accede/host/rmp.hpp"
#include "accede/host/rmp_entry.hpp"

namespace accede::host {

using namespace rmp_internal;
using namespace std::string_view_literals;

namespace {

using E = RmpEntry;

/// The permission that an access needs. Shadow stacks have one of their own.
std::uint8_t needed(const RmpAccess& access) {
  if (access.shadow_stack) {
    return abi::rmp::kPermShadowStack;
  }
  if (access.fetch) {
    return access.user ? abi::rmp::kPermUserExecute : abi::rmp::kPermSupervisorExecute;
  }
  return access.write ? abi::rmp::kPermWrite : abi::rmp::kPermRead;
}

}  // namespace

std::string_view name(RmpVerdict verdict) {
  switch (verdict) {
    case RmpVerdict::kAllowed:
      return "allowed"sv;
    case RmpVerdict::kNotCovered:
      return "not covered by the RMP"sv;
    case RmpVerdict::kNotAssigned:
      return "not assigned to the guest"sv;
    case RmpVerdict::kWrongGpa:
      return "assigned for another guest address"sv;
    case RmpVerdict::kImmutable:
      return "immutable"sv;
    case RmpVerdict::kSizeMismatch:
      return "page size mismatch"sv;
    case RmpVerdict::kNotValidated:
      return "not validated"sv;
    case RmpVerdict::kNoPermission:
      return "no VMPL permission"sv;
    case RmpVerdict::kNotHypervisor:
      return "not owned by the hypervisor"sv;
  }
  return "unknown"sv;
}

std::uint64_t fault_bits(RmpVerdict verdict) {
  switch (verdict) {
    case RmpVerdict::kAllowed:
    case RmpVerdict::kNotValidated:
      return 0;
    case RmpVerdict::kSizeMismatch:
      return abi::rmp::kNpfRmp | abi::rmp::kNpfSizeMismatch;
    case RmpVerdict::kNoPermission:
      return abi::rmp::kNpfRmp | abi::rmp::kNpfVmpl;
    default:
      return abi::rmp::kNpfRmp;
  }
}

RmpFault fault_of(RmpVerdict verdict, const RmpAccess& access) {
  using namespace abi::rmp;
  if (verdict == RmpVerdict::kAllowed) {
    return {};
  }
  if (verdict == RmpVerdict::kNotValidated) {
    return {.kind = RmpFaultKind::kNotValidated, .code = kVcNotValidated};
  }
  std::uint64_t code = kNpfPresent | kNpfUser | kNpfEncrypted | fault_bits(verdict);
  code |= access.write ? kNpfWrite : 0;
  code |= access.fetch ? kNpfFetch : 0;
  code |= access.table_walk ? kNpfPageTable : kNpfFinal;
  if (access.shadow_stack) {
    code |= kNpfShadowStack | (verdict == RmpVerdict::kNoPermission ? kNpfVmplShadowStack : 0);
  }
  return {.kind = RmpFaultKind::kNestedPageFault, .code = code};
}

RmpFault shared_fault_of(RmpVerdict verdict) {
  using namespace abi::rmp;
  if (verdict == RmpVerdict::kAllowed) {
    return {};
  }
  return {.kind = RmpFaultKind::kNestedPageFault,
          .code = kNpfPresent | kNpfWrite | kNpfUser | kNpfFinal | fault_bits(verdict)};
}

RmpFault host_fault_of(RmpVerdict verdict) {
  using namespace abi::rmp;
  if (verdict == RmpVerdict::kAllowed) {
    return {};
  }
  return {.kind = RmpFaultKind::kHostPageFault, .code = kPfPresent | kPfWrite | kPfRmp};
}

RmpVerdict rmp_internal::check_owner(std::uint64_t low, PhysAddr gpa, std::uint32_t asid) {
  if (!assigned(low) || E::Asid::get(low) != asid || asid == 0) {
    return RmpVerdict::kNotAssigned;
  }
  if (E::Gfn::get(low) != gpa.value() >> 12) {
    return RmpVerdict::kWrongGpa;
  }
  return immutable(low) ? RmpVerdict::kImmutable : RmpVerdict::kAllowed;
}

RmpVerdict Rmp::check_private(PhysAddr spa, const RmpAccess& access) const {
  ACCEDE_ASSERT(access.vmpl < abi::rmp::kVmplCount);
  if (!covers(spa, PageSize::k4K)) {
    return RmpVerdict::kNotCovered;
  }
  const RmpEntry entry = lookup(spa);
  const RmpVerdict owner = check_owner(entry.low, access.gpa, access.asid);
  if (owner != RmpVerdict::kAllowed) {
    return owner;
  }
  if ((E::Large::get(entry.low) != 0) != (access.nested_size != PageSize::k4K)) {
    return RmpVerdict::kSizeMismatch;
  }
  if (E::Validated::get(entry.low) == 0) {
    return RmpVerdict::kNotValidated;
  }
  return (permissions(entry.high, access.vmpl) & needed(access)) != 0 ? RmpVerdict::kAllowed
                                                                      : RmpVerdict::kNoPermission;
}

RmpVerdict Rmp::check_shared(PhysAddr spa, bool write, PageSize mapping) const {
  if (!write || !covers(spa, PageSize::k4K)) {
    return RmpVerdict::kAllowed;
  }
  const std::uint64_t region = load(region_slot(spa)->low);
  const bool held = mapping == PageSize::k4K
                        ? assigned(lookup(spa).low)
                        : assigned(region) || E::SubpageCount::get(region) != 0;
  return held ? RmpVerdict::kNotHypervisor : RmpVerdict::kAllowed;
}

}  // namespace accede::host
