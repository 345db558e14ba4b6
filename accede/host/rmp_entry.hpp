// Internal to accede/host. How the RMP's words are read and written, and the lock of a 2M region.
#pragma once

#include "accede/abi/rmp.hpp"
#include "accede/base/units.hpp"

#include <atomic>
#include <cstdint>

namespace accede::host::rmp_internal {

using abi::rmp::RmpEntry;

inline constexpr std::uint64_t kPagesPerRegion = 512;
inline constexpr std::uint32_t kMaxAsid = 1023;
inline constexpr PhysAddr kGpaEnd{1ULL << 51};  // 39 bits of page number

/// The model's own fields, in reserved bits of `high`. Where the processor keeps these is not
/// documented.
using Users = BitField<std::uint64_t, 38, 33>;    ///< who uses this 4K page: VMRUN, the firmware
using Watched = BitField<std::uint64_t, 48, 39>;  ///< 2M-aligned entry: 4K pages in use or HV-Fixed
inline constexpr std::uint64_t kOwnBits = Users::kMask | Watched::kMask;

inline std::uint64_t load(std::uint64_t& word) {
  return std::atomic_ref{word}.load(std::memory_order_acquire);
}
inline void store(std::uint64_t& word, std::uint64_t value) {
  std::atomic_ref{word}.store(value, std::memory_order_release);
}

inline bool assigned(std::uint64_t low) {
  return RmpEntry::Assigned::get(low) != 0;
}
inline bool immutable(std::uint64_t low) {
  return RmpEntry::Immutable::get(low) != 0;
}
/// A 2 MiB page: the region's first entry speaks for all.
inline bool whole(std::uint64_t low) {
  return assigned(low) && RmpEntry::Large::get(low) != 0;
}

/// The low word of a 2 MiB page's entry as the page `index` in it has it: the GPA counts up, where
/// there is one (the firmware's pages have none, or one that is not their own).
inline std::uint64_t part_of(std::uint64_t low, std::uint64_t index) {
  return RmpEntry::Asid::get(low) == 0 ? low
                                       : RmpEntry::Gfn::set(low, RmpEntry::Gfn::get(low) + index);
}

/// Holds the Lock bit of a region. What is stored to the first entry meanwhile keeps the bit.
class RegionLock {
 public:
  explicit RegionLock(RmpEntry* first) : first_{first} {
    while (
        (std::atomic_ref{first_->low}.fetch_or(RmpEntry::Lock::kMask, std::memory_order_acquire) &
         RmpEntry::Lock::kMask) != 0) {
      __builtin_ia32_pause();
    }
  }
  ~RegionLock() {
    std::atomic_ref{first_->low}.fetch_and(~RmpEntry::Lock::kMask, std::memory_order_release);
  }
  RegionLock(const RegionLock&) = delete;
  RegionLock& operator=(const RegionLock&) = delete;

  /// The first entry's low word.
  [[nodiscard]] std::uint64_t region() const { return load(first_->low) & ~RmpEntry::Lock::kMask; }
  [[nodiscard]] bool is_whole() const { return whole(region()); }
  [[nodiscard]] std::uint64_t watched() const { return Watched::get(load(first_->high)); }
  /// The entry that governs the page whose slot is `own`.
  [[nodiscard]] RmpEntry* governing(RmpEntry* own) const { return is_whole() ? first_ : own; }

  void write(RmpEntry* entry, std::uint64_t low) {
    store(entry->low, entry == first_ ? low | RmpEntry::Lock::kMask : low);
  }
  /// Stores the processor's part of `high`; the model's stays.
  void write_high(RmpEntry* entry, std::uint64_t high) {
    store(entry->high, (load(entry->high) & kOwnBits) | high);
  }
  void set_users(RmpEntry* entry, std::uint64_t users) {
    store(entry->high, Users::set(load(entry->high), users));
  }
  void set_watched(std::uint64_t pages) {
    store(first_->high, Watched::set(load(first_->high), pages));
  }

 private:
  RmpEntry* first_;
};

}  // namespace accede::host::rmp_internal
