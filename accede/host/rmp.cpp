// The table itself, and the host's instructions.
#include "accede/host/rmp.hpp"

#include "accede/base/assert.hpp"
#include "accede/host/rmp_entry.hpp"

#include <algorithm>

namespace accede::host {

using namespace rmp_internal;

namespace {

using E = RmpEntry;

/// The low word of a page as RMPUPDATE leaves it: not validated, no VMSA.
std::uint64_t low_of(const RmpUpdate& to) {
  if (!to.assigned) {
    return 0;
  }
  std::uint64_t low = E::Assigned::set(0, 1);
  low = E::Large::set(low, to.size == PageSize::k2M ? 1 : 0);
  low = E::Immutable::set(low, to.immutable ? 1 : 0);
  low = E::Gfn::set(low, to.gpa.value() >> 12);
  return E::Asid::set(low, to.asid);
}
constexpr std::uint64_t kDefaultPermissions = E::Vmpl0::set(0, abi::rmp::kPermAll);

/// What is not shown of the words.
constexpr std::uint64_t kBooks = E::Lock::kMask | E::SubpageCount::kMask;

}  // namespace

Bytes Rmp::storage_bound(PhysRange covered) {
  return Bytes{covered.size().value() / 4096 * sizeof(RmpEntry)};
}

Rmp::Rmp(PhysRange covered, std::span<std::byte> storage)
    : covered_{covered}, entries_{reinterpret_cast<RmpEntry*>(storage.data())} {
  ACCEDE_ASSERT(covered.begin().is_aligned(2_MiB) && covered.end().is_aligned(4_KiB));
  ACCEDE_ASSERT(covered.end() <= PhysAddr{1ULL << 52});
  ACCEDE_ASSERT(storage.size() >= storage_bound(covered).value());
  ACCEDE_ASSERT(reinterpret_cast<std::uintptr_t>(storage.data()) % sizeof(RmpEntry) == 0);
  std::fill_n(entries_, covered.size().value() / 4096, RmpEntry{});
}

bool Rmp::covers(PhysAddr spa, PageSize size) const {
  return covered_.contains(spa) && covered_.end() - spa >= bytes(size);
}

std::uint64_t Rmp::pages_in_region(PhysAddr region) const {
  return std::min(kPagesPerRegion, (covered_.end() - region).value() / 4096);
}

/// The checks of RMPUPDATE that need no lock.
RmpUpdateCode Rmp::check_update(PhysAddr spa, const RmpUpdate& to) const {
  ACCEDE_ASSERT(to.size != PageSize::k1G);
  if (!spa.is_aligned(bytes(to.size)) || !covers(spa, to.size)) {
    return RmpUpdateCode::kFailInput;
  }
  if (!to.assigned) {
    const bool operands = !to.immutable && to.asid == 0;
    return operands ? RmpUpdateCode::kSuccess : RmpUpdateCode::kFailInput;
  }
  // Without an ASID it can only become a Firmware page, which has no GPA.
  const bool owner = to.asid != 0 ? to.asid <= kMaxAsid : to.immutable && to.gpa == PhysAddr{};
  const bool operands = owner && to.gpa.is_aligned(bytes(to.size)) && to.gpa < kGpaEnd;
  return operands ? RmpUpdateCode::kSuccess : RmpUpdateCode::kFailInput;
}

/// True when a 4K page of the page at `spa` has users. Covered; for an answer that lasts, under the
/// region's lock.
bool Rmp::users_in(PhysAddr spa, PageSize size) const {
  RmpEntry* const first = slot(spa);
  const std::uint64_t pages = size == PageSize::k4K ? 1 : kPagesPerRegion;
  if (pages != 1 && Watched::get(load(first->high)) == 0) {
    return false;
  }
  return std::any_of(first, first + pages,
                     [](RmpEntry& entry) { return Users::get(load(entry.high)) != 0; });
}

/// What of the present state forbids RMPUPDATE. Under the region's lock.
RmpUpdateCode Rmp::check_target(PhysAddr spa, PageSize size, const RegionLock& lock) const {
  RmpEntry* const entry = slot(spa);
  const std::uint64_t region = lock.region();
  const bool large = size == PageSize::k2M;
  const bool fixed_inside =
      large && lock.watched() != 0 && std::any_of(entry, entry + kPagesPerRegion, [](E& page) {
        const std::uint64_t low = load(page.low);
        return immutable(low) && !assigned(low);
      });
  if (immutable(load(entry->low)) || fixed_inside) {
    return RmpUpdateCode::kFailPermission;
  }
  if (users_in(spa, size)) {
    return RmpUpdateCode::kFailInUse;
  }
  const bool small_inside =
      !whole(region) && (assigned(region) || E::SubpageCount::get(region) != 0);
  return (large ? small_inside : whole(region)) ? RmpUpdateCode::kFailOverlap
                                                : RmpUpdateCode::kSuccess;
}

RmpUpdateCode Rmp::update(PhysAddr spa, const RmpUpdate& to, std::uint32_t caller_asid) {
  if (const RmpUpdateCode code = check_update(spa, to); code != RmpUpdateCode::kSuccess) {
    return code;
  }
  if (caller_asid != 0) {
    return RmpUpdateCode::kFailPermission;
  }
  RmpEntry* const first = region_slot(spa);
  RmpEntry* const entry = slot(spa);
  RegionLock lock{first};
  if (const RmpUpdateCode code = check_target(spa, to.size, lock);
      code != RmpUpdateCode::kSuccess) {
    return code;
  }
  const std::uint64_t old = load(entry->low);
  const std::uint64_t region = lock.region();
  const std::uint64_t count = E::SubpageCount::get(region);
  lock.write_high(entry, to.assigned ? kDefaultPermissions : 0);
  const std::uint64_t low = low_of(to);
  if (entry == first) {
    lock.write(first, E::SubpageCount::set(low, count));
    return RmpUpdateCode::kSuccess;
  }
  lock.write(entry, low);
  const std::uint64_t now = count + (to.assigned ? 1U : 0U) - (assigned(old) ? 1U : 0U);
  lock.write(first, E::SubpageCount::set(region, now));
  return RmpUpdateCode::kSuccess;
}

PsmashCode Rmp::psmash(PhysAddr spa, std::uint32_t caller_asid) {
  if (!spa.is_aligned(2_MiB) || !covers(spa, PageSize::k2M)) {
    return PsmashCode::kFailInput;
  }
  if (caller_asid != 0) {
    return PsmashCode::kFailPermission;
  }
  RmpEntry* const first = slot(spa);
  RegionLock lock{first};
  if (!lock.is_whole()) {
    return PsmashCode::kFailInput;
  }
  const std::uint64_t low = lock.region();
  if (immutable(low)) {
    return PsmashCode::kFailPermission;
  }
  if (users_in(spa, PageSize::k2M)) {
    return PsmashCode::kFailInUse;
  }
  const std::uint64_t small = E::Large::set(low, 0);
  // The first entry last: until then it speaks for the whole region.
  for (std::uint64_t i = 1; i < kPagesPerRegion; ++i) {
    lock.write_high(first + i, load(first->high) & ~kOwnBits);
    lock.write(first + i, part_of(small, i));
  }
  lock.write(first, E::SubpageCount::set(small, kPagesPerRegion - 1));
  return PsmashCode::kSuccess;
}

std::optional<RmpStateWords> Rmp::read(PhysAddr spa) const {
  if (!covers(spa, PageSize::k4K)) {
    return std::nullopt;
  }
  const std::uint64_t low = load(slot(spa)->low);
  const std::uint64_t region = load(region_slot(spa)->low);
  const bool any = assigned(region) || E::SubpageCount::get(region) != 0;
  return RmpStateWords{.gpa = E::Gfn::get(low) << 12,
                       .assigned = static_cast<std::uint8_t>(E::Assigned::get(low)),
                       .page_size = static_cast<std::uint8_t>(E::Large::get(low) |
                                                              (any ? abi::rmp::kRegionStatus : 0U)),
                       .immutable = static_cast<std::uint8_t>(E::Immutable::get(low)),
                       .asid = static_cast<std::uint32_t>(E::Asid::get(low))};
}

RmpEntry Rmp::lookup(PhysAddr spa) const {
  if (!covers(spa, PageSize::k4K)) {
    return {};
  }
  RmpEntry* const first = region_slot(spa);
  RmpEntry* const own = slot(spa);
  std::uint64_t region = load(first->low);
  if (!whole(region)) {
    const std::uint64_t low = load(own->low);
    const std::uint64_t high = load(own->high);
    region = own == first ? low : load(first->low);
    // Else the region became one page in between, and its entries were cleared.
    if (!whole(region)) {
      return {.low = low & ~kBooks, .high = high & ~kOwnBits};
    }
  }
  const auto offset = static_cast<std::uint64_t>(own - first);
  return {.low = part_of(region & ~kBooks, offset), .high = load(first->high) & ~kOwnBits};
}

bool Rmp::region_sound(PhysAddr region) const {
  const RmpEntry& first = *slot(region);
  std::uint64_t count = 0;
  std::uint64_t watched = 0;
  for (std::uint64_t i = 0; i < pages_in_region(region); ++i) {
    const RmpEntry& entry = (&first)[i];
    const std::uint64_t high = entry.high & ~kOwnBits;
    const std::uint64_t low = i == 0 ? entry.low & ~E::SubpageCount::kMask : entry.low;
    const bool fixed = low == E::Immutable::kMask;
    if ((low & E::Lock::kMask) != 0 || (!assigned(low) && ((low != 0 && !fixed) || high != 0)) ||
        (i != 0 && (whole(low) || Watched::get(entry.high) != 0))) {
      return false;
    }
    count += i != 0 && assigned(low) ? 1 : 0;
    watched += fixed || Users::get(entry.high) != 0 ? 1 : 0;
    if (fixed && whole(first.low)) {
      return false;
    }
  }
  return (!whole(first.low) || count == 0) && E::SubpageCount::get(first.low) == count &&
         Watched::get(first.high) == watched;
}

bool Rmp::invariants() const {
  for (PhysAddr region = covered_.begin(); region < covered_.end(); region += 2_MiB) {
    if (!region_sound(region)) {
      return false;
    }
  }
  return true;
}

}  // namespace accede::host
