#include "accede/host/rmp.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>
#include <atomic>

namespace accede::host {

using namespace std::string_view_literals;

namespace {

using E = RmpEntry;

constexpr std::uint64_t kPagesPerRegion = 512;
constexpr std::uint32_t kMaxAsid = 1023;
constexpr PhysAddr kGpaEnd{1ULL << 51};  // 39 bits of page number

std::uint64_t load(std::uint64_t& word) {
  return std::atomic_ref{word}.load(std::memory_order_acquire);
}
void store(std::uint64_t& word, std::uint64_t value) {
  std::atomic_ref{word}.store(value, std::memory_order_release);
}

bool assigned(std::uint64_t low) {
  return E::Assigned::get(low) != 0;
}
/// A 2 MiB page: the region's first entry speaks for all.
bool whole(std::uint64_t low) {
  return assigned(low) && E::Large::get(low) != 0;
}

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

/// Checks 2 to 4 of a private access.
RmpVerdict check_owner(std::uint64_t low, PhysAddr gpa, std::uint32_t asid) {
  if (!assigned(low) || E::Asid::get(low) != asid || asid == 0) {
    return RmpVerdict::kNotAssigned;
  }
  if (E::Gfn::get(low) != gpa.value() >> 12) {
    return RmpVerdict::kWrongGpa;
  }
  return E::Immutable::get(low) != 0 ? RmpVerdict::kImmutable : RmpVerdict::kAllowed;
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

/// Holds the Lock bit of a region. What is stored to the first entry meanwhile keeps the bit.
class Rmp::RegionLock {
 public:
  explicit RegionLock(RmpEntry* first) : first_{first} {
    while ((std::atomic_ref{first_->low}.fetch_or(E::Lock::kMask, std::memory_order_acquire) &
            E::Lock::kMask) != 0) {
      __builtin_ia32_pause();
    }
  }
  ~RegionLock() {
    std::atomic_ref{first_->low}.fetch_and(~E::Lock::kMask, std::memory_order_release);
  }
  RegionLock(const RegionLock&) = delete;
  RegionLock& operator=(const RegionLock&) = delete;

  void write(RmpEntry* entry, std::uint64_t low) {
    store(entry->low, entry == first_ ? low | E::Lock::kMask : low);
  }

 private:
  RmpEntry* first_;
};

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

/// The checks of RMPUPDATE that need no lock.
RmpUpdateCode Rmp::check_update(PhysAddr spa, const RmpUpdate& to) const {
  ACCEDE_ASSERT(to.size != PageSize::k1G);
  if (!spa.is_aligned(bytes(to.size)) || !covers(spa, to.size)) {
    return RmpUpdateCode::kFailInput;
  }
  if (!to.assigned) {
    return to.immutable ? RmpUpdateCode::kFailInput : RmpUpdateCode::kSuccess;
  }
  const bool operands = to.gpa.is_aligned(bytes(to.size)) && to.gpa < kGpaEnd &&
                        to.asid <= kMaxAsid && (to.asid != 0 || to.immutable);
  return operands ? RmpUpdateCode::kSuccess : RmpUpdateCode::kFailInput;
}

RmpUpdateCode Rmp::update(PhysAddr spa, const RmpUpdate& to) {
  if (const RmpUpdateCode code = check_update(spa, to); code != RmpUpdateCode::kSuccess) {
    return code;
  }
  RmpEntry* const first = region_slot(spa);
  RmpEntry* const entry = slot(spa);
  RegionLock lock{first};
  const std::uint64_t old = load(entry->low);
  const std::uint64_t region = load(first->low);
  if (E::Immutable::get(old) != 0) {
    return RmpUpdateCode::kFailPermission;
  }
  const std::uint64_t count = E::SubpageCount::get(region);
  const bool small_inside = !whole(region) && (assigned(region) || count != 0);
  if (to.size == PageSize::k2M ? small_inside : whole(region)) {
    return RmpUpdateCode::kFailOverlap;
  }
  store(entry->high, to.assigned ? kDefaultPermissions : 0);
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

PsmashCode Rmp::psmash(PhysAddr spa) {
  if (!spa.is_aligned(2_MiB) || !covers(spa, PageSize::k2M)) {
    return PsmashCode::kFailInput;
  }
  RmpEntry* const first = slot(spa);
  RegionLock lock{first};
  const std::uint64_t low = E::Lock::set(load(first->low), 0);
  if (!whole(low)) {
    return PsmashCode::kFailInput;
  }
  if (E::Immutable::get(low) != 0) {
    return PsmashCode::kFailPermission;
  }
  const std::uint64_t small = E::Large::set(low, 0);
  // The first entry last: until then it speaks for the whole region.
  for (std::uint64_t i = 1; i < kPagesPerRegion; ++i) {
    store(first[i].high, load(first->high));
    lock.write(first + i, E::Gfn::set(small, E::Gfn::get(low) + i));
  }
  lock.write(first, E::SubpageCount::set(small, kPagesPerRegion - 1));
  return PsmashCode::kSuccess;
}

bool Rmp::launch_update(PhysAddr spa, bool vmsa) {
  if (!covers(spa, PageSize::k4K)) {
    return false;
  }
  RmpEntry* const first = region_slot(spa);
  RegionLock lock{first};
  RmpEntry* const entry = whole(load(first->low)) ? first : slot(spa);
  const std::uint64_t low = load(entry->low);
  if (abi::rmp::state_of({.low = low, .high = 0}) != RmpState::kPreGuest) {
    return false;
  }
  lock.write(entry, E::Vmsa::set(E::Immutable::set(E::Validated::set(low, 1), 0), vmsa ? 1 : 0));
  return true;
}

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
  const bool entry_large = whole(load(first->low));
  const RmpVerdict owner = check_owner(lookup(spa).low, gpa, asid);
  if (owner != RmpVerdict::kAllowed) {
    return {.fault = owner};
  }
  if (entry_large && !large) {
    return {.fault = RmpVerdict::kSizeMismatch};
  }
  if (large && !entry_large) {
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

RmpEntry Rmp::lookup(PhysAddr spa) const {
  if (!covers(spa, PageSize::k4K)) {
    return {};
  }
  constexpr std::uint64_t kBooks = E::Lock::kMask | E::SubpageCount::kMask;
  RmpEntry* const first = region_slot(spa);
  RmpEntry* const own = slot(spa);
  const std::uint64_t region = load(first->low);
  if (!whole(region)) {
    const std::uint64_t low = own == first ? region : load(own->low);
    return {.low = low & ~kBooks, .high = load(own->high)};
  }
  const auto offset = static_cast<std::uint64_t>(own - first);
  return {.low = E::Gfn::set(region & ~kBooks, E::Gfn::get(region) + offset),
          .high = load(first->high)};
}

RmpVerdict Rmp::check_private(PhysAddr spa, const RmpAccess& access) const {
  ACCEDE_ASSERT(access.vmpl < 4);
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
  const std::uint64_t permissions = entry.high >> (8 * access.vmpl);
  const std::uint8_t needed = access.write ? abi::rmp::kPermWrite : abi::rmp::kPermRead;
  return (permissions & needed) != 0 ? RmpVerdict::kAllowed : RmpVerdict::kNoPermission;
}

RmpVerdict Rmp::check_shared(PhysAddr spa, bool write) const {
  return write && assigned(lookup(spa).low) ? RmpVerdict::kNotHypervisor : RmpVerdict::kAllowed;
}

bool Rmp::region_sound(PhysAddr region) const {
  const RmpEntry& first = *slot(region);
  const std::uint64_t pages = std::min(kPagesPerRegion, (covered_.end() - region).value() / 4096);
  std::uint64_t count = 0;
  for (std::uint64_t i = 1; i < pages; ++i) {
    const RmpEntry& entry = (&first)[i];
    if (!assigned(entry.low) ? entry != RmpEntry{} : (entry.low & E::Large::kMask) != 0) {
      return false;
    }
    count += assigned(entry.low) ? 1 : 0;
  }
  if (whole(first.low) && count != 0) {
    return false;
  }
  const bool clean =
      assigned(first.low) || ((first.low & ~E::SubpageCount::kMask) == 0 && first.high == 0);
  return clean && E::Lock::get(first.low) == 0 && E::SubpageCount::get(first.low) == count;
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
