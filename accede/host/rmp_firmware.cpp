// State changes that only the firmware makes.
#include "accede/base/assert.hpp"
#include "accede/host/rmp.hpp"
#include "accede/host/rmp_entry.hpp"

#include <algorithm>
#include <array>

namespace accede::host {

using namespace rmp_internal;

namespace {

using E = RmpEntry;

struct Edge {
  RmpState from;
  RmpState to;
};
/// The edges of move() (reference 2.3; Context, Metadata: SNP firmware ABI, page states).
constexpr std::array kEdges{
    Edge{RmpState::kHypervisor, RmpState::kHvFixed},
    Edge{RmpState::kFirmware, RmpState::kReclaim},
    Edge{RmpState::kPreGuest, RmpState::kReclaim},
    Edge{RmpState::kFirmware, RmpState::kContext},
    Edge{RmpState::kContext, RmpState::kFirmware},
    Edge{RmpState::kFirmware, RmpState::kMetadata},
    Edge{RmpState::kMetadata, RmpState::kFirmware},
    Edge{RmpState::kGuestValid, RmpState::kPreSwap},
    Edge{RmpState::kPreSwap, RmpState::kGuestValid},
};

constexpr bool is_edge(RmpState from, RmpState to) {
  return std::ranges::any_of(kEdges, [&](Edge edge) { return edge.from == from && edge.to == to; });
}

RmpState state(std::uint64_t low) {
  return abi::rmp::state_of({.low = low, .high = 0});
}

/// `low` in the state `to`, to which there is an edge from its own.
std::uint64_t moved(std::uint64_t low, RmpState to, PhysAddr metadata) {
  switch (to) {
    case RmpState::kHvFixed:
    case RmpState::kPreSwap:
      return E::Immutable::set(low, 1);
    case RmpState::kGuestValid:
      return E::Immutable::set(low, 0);
    case RmpState::kReclaim:
      return low & (E::Assigned::kMask | E::Large::kMask | E::SubpageCount::kMask);
    case RmpState::kContext:
      return E::Vmsa::set(low, 1);
    case RmpState::kMetadata:
      return E::Gfn::set(low, metadata.value() >> 12);
    default:
      return E::Vmsa::set(E::Gfn::set(low, 0), 0);
  }
}

/// These are 4 KiB, whatever the entry.
constexpr bool is_small(LaunchPageType type) {
  return type == LaunchPageType::kVmsa || type == LaunchPageType::kSecrets ||
         type == LaunchPageType::kCpuid;
}

bool is_sound(const LaunchPage& page) {
  return page.type >= LaunchPageType::kNormal && page.type <= LaunchPageType::kCpuid &&
         std::ranges::all_of(page.permissions,
                             [](std::uint8_t mask) { return mask <= abi::rmp::kPermAll; });
}

}  // namespace

/// That a command may work on the page at all; its place was checked. Under the region's lock.
FirmwareCode Rmp::check_firmware(PhysAddr spa, PageSize size, const RegionLock& lock) const {
  if (lock.is_whole() != (size == PageSize::k2M)) {
    return FirmwareCode::kInvalidPageSize;
  }
  return users_in(spa, size) ? FirmwareCode::kInvalidPageState : FirmwareCode::kSuccess;
}

FirmwareCode Rmp::launch_update(PhysAddr spa, const LaunchPage& page) {
  if (!is_sound(page)) {
    return FirmwareCode::kInvalidParam;
  }
  if (page.size == PageSize::k1G || (page.size == PageSize::k2M && is_small(page.type))) {
    return FirmwareCode::kInvalidPageSize;
  }
  if (!spa.is_aligned(bytes(page.size)) || !covers(spa, page.size)) {
    return FirmwareCode::kInvalidAddress;
  }
  RegionLock lock{region_slot(spa)};
  RmpEntry* const entry = slot(spa);
  if (const FirmwareCode code = check_firmware(spa, page.size, lock);
      code != FirmwareCode::kSuccess) {
    return code;
  }
  std::uint64_t low = load(entry->low);
  if (state(low) != RmpState::kPreGuest) {
    return FirmwareCode::kInvalidPageState;
  }
  if (E::Asid::get(low) != page.asid) {
    return FirmwareCode::kInvalidPageOwner;
  }
  const std::uint64_t high = load(entry->high) & ~kOwnBits;
  const auto [vmpl1, vmpl2, vmpl3] = page.permissions;
  lock.write_high(entry, E::Vmpl3::set(E::Vmpl2::set(E::Vmpl1::set(high, vmpl1), vmpl2), vmpl3));
  low = E::Immutable::set(E::Validated::set(low, 1), 0);
  lock.write(entry, E::Vmsa::set(low, page.type == LaunchPageType::kVmsa ? 1 : 0));
  return FirmwareCode::kSuccess;
}

FirmwareCode Rmp::move(PhysAddr spa, PageSize size, RmpState to, PhysAddr metadata) {
  ACCEDE_ASSERT(size != PageSize::k1G);
  if (!spa.is_aligned(bytes(size)) || !covers(spa, size)) {
    return FirmwareCode::kInvalidAddress;
  }
  if (to == RmpState::kMetadata &&
      (metadata == PhysAddr{} || !metadata.is_aligned(4_KiB) || metadata >= kGpaEnd)) {
    return FirmwareCode::kInvalidParam;
  }
  RmpEntry* const first = region_slot(spa);
  RmpEntry* const entry = slot(spa);
  RegionLock lock{first};
  if (const FirmwareCode code = check_firmware(spa, size, lock); code != FirmwareCode::kSuccess) {
    return code;
  }
  const std::uint64_t low = load(entry->low);
  if (!is_edge(state(low), to)) {
    return FirmwareCode::kInvalidPageState;
  }
  if (to == RmpState::kReclaim) {
    lock.write_high(entry, 0);
  }
  if (to == RmpState::kHvFixed) {
    lock.set_watched(lock.watched() + 1);
  }
  lock.write(entry, moved(low, to, metadata));
  return FirmwareCode::kSuccess;
}

/// Under the region's lock.
bool Rmp::can_unsmash(const RmpEntry* first) const {
  constexpr std::uint64_t kIgnored = E::Lock::kMask | E::SubpageCount::kMask;
  auto* const entries = const_cast<RmpEntry*>(first);
  const std::uint64_t low = load(entries[0].low) & ~kIgnored;
  const std::uint64_t high = load(entries[0].high) & ~kOwnBits;
  if (!assigned(low) || E::Asid::get(low) == 0 || E::Vmsa::get(low) != 0 ||
      E::Gfn::get(low) % kPagesPerRegion != 0) {
    return false;
  }
  for (std::uint64_t i = 1; i < kPagesPerRegion; ++i) {
    if (load(entries[i].low) != part_of(low, i) || (load(entries[i].high) & ~kOwnBits) != high) {
      return false;
    }
  }
  return true;
}

FirmwareCode Rmp::unsmash(PhysAddr spa) {
  if (!spa.is_aligned(2_MiB) || !covers(spa, PageSize::k2M)) {
    return FirmwareCode::kInvalidAddress;
  }
  RmpEntry* const first = slot(spa);
  RegionLock lock{first};
  if (lock.is_whole()) {
    return FirmwareCode::kInvalidPageSize;
  }
  if (users_in(spa, PageSize::k2M) || !can_unsmash(first)) {
    return FirmwareCode::kInvalidPageState;
  }
  // The first entry first: from then on it speaks for the others.
  lock.write(first, E::SubpageCount::set(E::Large::set(lock.region(), 1), 0));
  for (std::uint64_t i = 1; i < kPagesPerRegion; ++i) {
    store(first[i].low, 0);
    store(first[i].high, 0);
  }
  return FirmwareCode::kSuccess;
}

}  // namespace accede::host
