// The guest's instructions: PVALIDATE, RMPADJUST, RMPQUERY.
#include "accede/base/assert.hpp"
#include "accede/host/rmp.hpp"
#include "accede/host/rmp_check.hpp"
#include "accede/host/rmp_entry.hpp"

namespace accede::host {

using namespace rmp_internal;

namespace {

using E = RmpEntry;
using Operand = abi::rmp::RmpAdjustOperand;

std::uint64_t with_permissions(std::uint64_t high, unsigned vmpl, std::uint64_t mask) {
  const unsigned shift = 8 * vmpl;
  return (high & ~(0xFFULL << shift)) | mask << shift;
}

/// No bit that RMPADJUST does not define.
bool is_sound(std::uint64_t rdx) {
  constexpr std::uint64_t kDefined = Operand::TargetVmpl::kMask |
                                     Operand::Permissions::set(0, abi::rmp::kPermAll) |
                                     Operand::Vmsa::kMask;
  return (rdx & ~kDefined) == 0 && Operand::TargetVmpl::get(rdx) < abi::rmp::kVmplCount;
}

}  // namespace

PvalidateOutcome Rmp::pvalidate(PhysAddr spa, PhysAddr gpa, std::uint32_t asid, std::uint32_t ecx,
                                bool validate) {
  const bool large = ecx == abi::rmp::kSize2M;
  if (ecx > abi::rmp::kSize2M || !gpa.is_aligned(large ? 2_MiB : 4_KiB)) {
    return {.code = PvalidateCode::kFailInput};
  }
  if (!covers(spa, PageSize::k4K)) {
    return {.fault = RmpVerdict::kNotCovered};
  }
  RmpEntry* const first = region_slot(spa);
  RegionLock lock{first};
  const RmpVerdict owner = check_owner(lookup(spa).low, gpa, asid);
  if (owner != RmpVerdict::kAllowed) {
    return {.fault = owner};
  }
  if (lock.is_whole() && !large) {
    return {.fault = RmpVerdict::kSizeMismatch};
  }
  if (large && !lock.is_whole()) {
    return {.code = PvalidateCode::kFailSizeMismatch};
  }
  RmpEntry* const entry = large ? first : slot(spa);
  const std::uint64_t low = load(entry->low);
  const std::uint64_t wanted = validate ? 1 : 0;
  if (E::Validated::get(low) == wanted) {
    return {.carry = true};
  }
  lock.write(entry, E::Validated::set(low, wanted));
  return {};
}

/// Checks 1 to 4 and 6 of a private access.
RmpVerdict Rmp::check_guest_page(const GuestPage& page) const {
  if (!covers(page.spa, PageSize::k4K)) {
    return RmpVerdict::kNotCovered;
  }
  const std::uint64_t low = lookup(page.spa).low;
  const RmpVerdict owner = check_owner(low, page.gpa, page.asid);
  if (owner != RmpVerdict::kAllowed) {
    return owner;
  }
  return E::Validated::get(low) != 0 ? RmpVerdict::kAllowed : RmpVerdict::kNotValidated;
}

RmpAdjustOutcome Rmp::rmpadjust(const GuestPage& page, std::uint64_t rcx, std::uint64_t rdx) {
  ACCEDE_ASSERT(page.vmpl < abi::rmp::kVmplCount);
  const bool large = rcx == abi::rmp::kSize2M;
  if (rcx > abi::rmp::kSize2M || !page.gpa.is_aligned(large ? 2_MiB : 4_KiB) || !is_sound(rdx)) {
    return {.code = RmpAdjustCode::kFailInput};
  }
  const auto target = static_cast<unsigned>(Operand::TargetVmpl::get(rdx));
  if (target <= page.vmpl) {
    return {.code = RmpAdjustCode::kFailPermission};
  }
  if (!covers(page.spa, PageSize::k4K)) {
    return {.fault = RmpVerdict::kNotCovered};
  }
  RegionLock lock{region_slot(page.spa)};
  const RmpVerdict verdict = check_guest_page(page);
  if (verdict != RmpVerdict::kAllowed && verdict != RmpVerdict::kNotValidated) {
    return {.fault = verdict};
  }
  if (lock.is_whole() && !large) {
    return {.fault = RmpVerdict::kSizeMismatch};
  }
  if (large && !lock.is_whole()) {
    return {.code = RmpAdjustCode::kFailSizeMismatch};
  }
  if (verdict != RmpVerdict::kAllowed) {
    return {.fault = verdict};
  }
  RmpEntry* const entry = lock.governing(slot(page.spa));
  const std::uint64_t low = load(entry->low);
  const std::uint64_t high = load(entry->high) & ~kOwnBits;
  const std::uint64_t mask = Operand::Permissions::get(rdx);
  if ((mask & ~std::uint64_t{permissions(high, page.vmpl)}) != 0) {
    return {.code = RmpAdjustCode::kFailPermission};
  }
  const std::uint64_t vmsa = page.vmpl == 0 ? Operand::Vmsa::get(rdx) : E::Vmsa::get(low);
  const PageSize size = large ? PageSize::k2M : PageSize::k4K;
  if (vmsa != E::Vmsa::get(low) && users_in(page.spa, size)) {
    return {.code = RmpAdjustCode::kFailInUse};
  }
  lock.write_high(entry, with_permissions(high, target, mask));
  lock.write(entry, E::Vmsa::set(low, vmsa));
  return {};
}

RmpAdjustOutcome Rmp::rmpquery(const GuestPage& page, std::uint64_t rdx) const {
  ACCEDE_ASSERT(page.vmpl < abi::rmp::kVmplCount);
  if (!page.gpa.is_aligned(4_KiB) || rdx >= abi::rmp::kVmplCount) {
    return {.code = RmpAdjustCode::kFailInput};
  }
  if (rdx < page.vmpl) {
    return {.code = RmpAdjustCode::kFailPermission};
  }
  if (const RmpVerdict verdict = check_guest_page(page); verdict != RmpVerdict::kAllowed) {
    return {.fault = verdict};
  }
  const RmpEntry entry = lookup(page.spa);
  const auto vmpl = static_cast<unsigned>(rdx);
  return {.rcx = E::Large::get(entry.low),
          .rdx = Operand::make(vmpl, permissions(entry.high, vmpl), E::Vmsa::get(entry.low) != 0)};
}

}  // namespace accede::host
