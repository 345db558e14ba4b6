// Internal to accede/host. One entry of the model's secure EPT: its bits, its forms, its memory.
#pragma once

#include "accede/abi/tdx_sept.hpp"
#include "accede/base/bit_field.hpp"
#include "accede/base/units.hpp"
#include "accede/host/sept_state.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace accede::host::internal {

using abi::tdx::level_bytes;
using abi::tdx::level_shift;

/// Entries of a table.
inline constexpr unsigned kEntries = 512;

// Bits of an entry that the module does not use (or not without L2 VMs) and the model does. They
// never leave SecureEpt: module_form() takes them out.
using SpinBit = BitField<std::uint64_t, 10>;
/// Of a 2M entry: a virtual table; the state bits are the children's, the HPA is the first child's.
/// Of a 1G entry that is no table: its old table is kept (see promote_1g); the HPA is the link.
using VirtualBit = BitField<std::uint64_t, 62>;
/// Of a virtual table: the 2M entry is NL_BLOCKED, else NL_MAPPED.
using TableBlockedBit = BitField<std::uint64_t, 8>;
/// A 2M entry in a kept table: the 1G entry above is a leaf or free; whoever comes here walks anew.
using DeadBit = BitField<std::uint64_t, 61>;
/// Epoch of the last BLOCK, in blocked entries only; the low part takes the place of permissions
/// and memory type, which a blocked entry does not need.
using EpochHigh = BitField<std::uint64_t, 60, 57>;
using EpochLow = BitField<std::uint64_t, 5, 0>;
inline constexpr std::uint64_t kEpochMask = (1U << (EpochHigh::kWidth + EpochLow::kWidth)) - 1;

/// A link to a table, kept in the HPA field: page number in the storage, and how often it was
/// reused (for readers that take no lock).
using LinkGeneration = BitField<std::uint64_t, 39, 24>;
using LinkIndex = BitField<std::uint64_t, 23, 0>;

/// A leaf, or FREE or REMOVED (then `hpa` is 0), in the module's layout.
constexpr std::uint64_t make_entry(SeptState state, PhysAddr hpa = PhysAddr{}) {
  std::uint64_t raw = SeptEntry::SuppressVe::kMask | mask_of(state) | hpa.value();
  if (is_leaf(state)) {
    raw |= SeptEntry::MemoryType::set(0, SeptEntry::kMemoryTypeWriteBack);
  }
  if (is_usable(state)) {
    raw |= SeptEntry::Read::kMask | SeptEntry::Execute::kMask |
           (is_write_blocked(state) ? 0 : SeptEntry::Write::kMask);
  }
  return raw;
}

constexpr std::uint64_t make_table(std::uint64_t link) {
  return SeptEntry::SuppressVe::kMask | mask_of(SeptState::kNonLeafMapped) |
         SeptEntry::kPermissionMask | SeptEntry::Hpa::set(0, link);
}

constexpr std::uint64_t make_virtual(SeptState children, PhysAddr first) {
  return SeptEntry::SuppressVe::kMask | mask_of(children) | first.value() | VirtualBit::kMask;
}

inline constexpr std::uint64_t kDeadEntry = SeptEntry::kFresh | DeadBit::kMask;

constexpr bool is_virtual(std::uint64_t raw) {
  return VirtualBit::get(raw) != 0;
}
constexpr std::uint64_t link_of(std::uint64_t raw) {
  return SeptEntry::Hpa::get(raw);
}
constexpr PhysAddr hpa_field(std::uint64_t raw) {
  return PhysAddr{raw & SeptEntry::Hpa::kMask};
}

/// The state of the entry itself (that of a virtual table is a non-leaf's).
constexpr SeptState entry_state(std::uint64_t raw, SeptLevel level) {
  if (level == SeptLevel::k2M && is_virtual(raw)) {
    return TableBlockedBit::get(raw) != 0 ? SeptState::kNonLeafBlocked : SeptState::kNonLeafMapped;
  }
  return state_of(raw);
}

/// Host address of a leaf; without the accept counter, which shares its bits.
constexpr PhysAddr leaf_hpa(std::uint64_t raw, SeptLevel level) {
  return hpa_field(raw).align_down(level_bytes(level));
}

constexpr std::uint64_t child_of_virtual(std::uint64_t raw, unsigned index) {
  const SeptState state = state_of(raw);
  if (is_free(state)) {
    return make_entry(state);
  }
  return make_entry(state, hpa_field(raw) + Bytes{4096} * index);
}

/// `raw` with a block epoch. Precondition: bits 5:0 are free.
constexpr std::uint64_t with_epoch(std::uint64_t raw, std::uint64_t epoch) {
  return EpochHigh::set(EpochLow::set(raw, epoch & EpochLow::kMax),
                        (epoch >> EpochLow::kWidth) & EpochHigh::kMax);
}
constexpr std::uint64_t epoch_of(std::uint64_t raw) {
  return (EpochHigh::get(raw) << EpochLow::kWidth) | EpochLow::get(raw);
}

/// An entry as the module would hold it, with `hpa` if it is a leaf.
constexpr std::uint64_t module_form(std::uint64_t raw, SeptLevel level, PhysAddr hpa) {
  const SeptState state = entry_state(raw, level);
  if (state == SeptState::kNonLeafMapped) {
    return make_table(0);
  }
  if (!is_leaf(state)) {
    return make_entry(state);
  }
  const std::uint64_t keep = SeptEntry::Tdel::kMask | SeptEntry::Dirty::kMask |
                             (level == SeptLevel::k2M ? SeptEntry::AcceptCounter::kMask : 0);
  return make_entry(state, hpa) | (raw & keep);
}

/// True when a table whose children look like this entry may be virtual (class comment).
constexpr bool can_be_virtual(std::uint64_t child) {
  return SeptEntry::Tdel::get(child) == 0 && !is_blocked(state_of(child));
}

constexpr unsigned index_of(PhysAddr gpa, SeptLevel level) {
  return static_cast<unsigned>((gpa.value() >> level_shift(level)) % kEntries);
}

constexpr SeptLevel below(SeptLevel level) {
  return static_cast<SeptLevel>(static_cast<unsigned>(level) - 1);
}

// --- Atomic access ---

inline std::uint64_t load(std::uint64_t& entry) {
  return std::atomic_ref{entry}.load(std::memory_order_acquire);
}
inline void store(std::uint64_t& entry, std::uint64_t value) {
  std::atomic_ref{entry}.store(value, std::memory_order_release);
}

/// The table that `link` names.
inline std::uint64_t* table_at(std::span<std::byte> storage, std::uint64_t link) {
  return reinterpret_cast<std::uint64_t*>(storage.data()) + LinkIndex::get(link) * kEntries;
}

/// Equal children on contiguous host memory. A sum compares state and HPA at once; a carry out of
/// the HPA field cannot look like a valid entry because every child was checked to end below 2^52.
inline bool is_uniform(std::uint64_t* children, unsigned changed) {
  const std::uint64_t first = load(children[0]);
  if (!can_be_virtual(first)) {
    return false;
  }
  const std::uint64_t step = is_leaf(state_of(first)) ? 4096 : 0;
  const auto fits = [&](unsigned i) { return load(children[i]) == first + step * i; };
  // Memory is mostly worked on in order: a neighbour tells in nearly all cases.
  if (!fits(changed) || !fits((changed + 1) % kEntries) ||
      !fits((changed + kEntries - 1) % kEntries)) {
    return false;
  }
  for (unsigned i = 1; i < kEntries; ++i) {
    if (!fits(i)) {
      return false;
    }
  }
  return true;
}

}  // namespace accede::host::internal
