// Internal to accede/host. Spin bits of the secure EPT: one entry locked, or a whole table.
#pragma once

#include "accede/abi/tdx_status.hpp"
#include "accede/base/units.hpp"
#include "accede/host/secure_ept.hpp"
#include "accede/host/sept_entry.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <expected>
#include <optional>

namespace accede::host::internal {

using abi::tdx::Operand;
using abi::tdx::Status;
using abi::tdx::status;

/// Takes the spin bit; returns the entry without it.
inline std::uint64_t spin_lock(std::uint64_t& entry) {
  const std::atomic_ref target{entry};
  for (;;) {
    std::uint64_t raw = target.load(std::memory_order_relaxed);
    if (SpinBit::get(raw) == 0 &&
        target.compare_exchange_weak(raw, raw | SpinBit::kMask, std::memory_order_acquire,
                                     std::memory_order_relaxed)) {
      return raw;
    }
    __builtin_ia32_pause();
  }
}

/// The spin bits of a whole table of 2M entries, for the calls that change all of it.
class TableLock {
 public:
  explicit TableLock(std::uint64_t* entries) : entries_{entries} {
    for (unsigned i = 0; i < kEntries; ++i) {
      spin_lock(entries_[i]);
    }
  }
  ~TableLock() {
    for (unsigned i = 0; i < kEntries; ++i) {
      store(entries_[i], get(i));
    }
  }
  TableLock(const TableLock&) = delete;
  TableLock& operator=(const TableLock&) = delete;

  [[nodiscard]] std::uint64_t get(unsigned i) const { return load(entries_[i]) & ~SpinBit::kMask; }
  void set(unsigned i, std::uint64_t value) { store(entries_[i], value | SpinBit::kMask); }

 private:
  std::uint64_t* entries_;
};

/// The entry of one level for one GPA, with the spin bit held that guards it (its own, or that of
/// the 2M entry above a 4K entry); or, when the walk ends above, what it ended in.
class LockedEntry {
 public:
  LockedEntry(SecureEpt& sept, PhysAddr gpa, SeptLevel level)
      : sept_{sept}, gpa_{gpa}, level_{level} {
    while (!walk()) {
      __builtin_ia32_pause();
    }
  }
  /// Locks again an entry that `guard` guarded before and that TDEL kept in place.
  LockedEntry(SecureEpt& sept, PhysAddr gpa, SeptLevel level, std::uint64_t* guard)
      : sept_{sept}, gpa_{gpa}, level_{level}, at_{level}, guard_{guard}, raw_{spin_lock(*guard)} {}
  ~LockedEntry() {
    if (guard_ != nullptr) {
      internal::store(*guard_, raw_);
    }
  }
  LockedEntry(const LockedEntry&) = delete;
  LockedEntry& operator=(const LockedEntry&) = delete;

  /// False: the walk ended in an entry above `level`; value() and at() tell which.
  [[nodiscard]] bool reached() const { return at_ == level_; }
  [[nodiscard]] SeptLevel at() const { return at_; }
  [[nodiscard]] std::uint64_t* guard() const { return guard_; }
  [[nodiscard]] PhysAddr gpa() const { return gpa_; }

  [[nodiscard]] std::uint64_t value() const {
    if (at_ != SeptLevel::k4K) {
      return raw_;
    }
    const unsigned index = index_of(gpa_, SeptLevel::k4K);
    return is_virtual(raw_) ? child_of_virtual(raw_, index) : load(children()[index]);
  }
  [[nodiscard]] SeptState state() const { return entry_state(value(), at_); }
  [[nodiscard]] bool busy() const { return SeptEntry::Tdel::get(value()) != 0; }
  /// Host base address of the leaf, or 0.
  [[nodiscard]] PhysAddr hpa() const {
    if (!is_leaf(state())) {
      return PhysAddr{};
    }
    if (at_ == SeptLevel::k1G) {
      return hpa_field(load(children()[0]));
    }
    return leaf_hpa(value(), at_);
  }
  /// The table below the guarded entry (also one kept by a 1G leaf). Not for a virtual table.
  [[nodiscard]] std::uint64_t* children() const { return table_at(sept_.storage_, link_of(raw_)); }

  /// Changes the entry. False: a table is needed and no storage is left; nothing changed.
  [[nodiscard]] bool store(std::uint64_t value) {
    if (at_ != SeptLevel::k4K) {
      raw_ = value;
      return true;
    }
    const unsigned index = index_of(gpa_, SeptLevel::k4K);
    if (is_virtual(raw_)) {
      if (value == child_of_virtual(raw_, index)) {
        return true;
      }
      if (!materialise()) {
        return false;
      }
    }
    internal::store(children()[index], value);
    collapse(index);
    return true;
  }

  [[nodiscard]] HostResult result(std::uint64_t status_word) const {
    return {.status = status_word, .state = state(), .level = at_, .hpa = hpa()};
  }
  [[nodiscard]] HostResult refuse(Status code) const { return result(status(code, Operand::kRcx)); }
  [[nodiscard]] HostCall commit(std::uint64_t value) {
    if (!store(value)) {
      return std::unexpected{SeptError::kOutOfStorage};
    }
    return result(0);
  }

 private:
  /// False: met a kept table; the walk must start again.
  [[nodiscard]] bool walk() {
    const SeptLevel guard_level = std::max(level_, SeptLevel::k2M);
    std::uint64_t* entries = table_at(sept_.storage_, 0);
    for (at_ = sept_.top_level_; at_ > guard_level; at_ = below(at_)) {
      raw_ = load(entries[index_of(gpa_, at_)]) & ~SpinBit::kMask;
      if (state_of(raw_) != SeptState::kNonLeafMapped) {
        return true;
      }
      entries = table_at(sept_.storage_, link_of(raw_));
    }
    guard_ = &entries[index_of(gpa_, at_)];
    raw_ = spin_lock(*guard_);
    if (DeadBit::get(raw_) != 0) {
      internal::store(*guard_, raw_);
      guard_ = nullptr;
      return false;
    }
    if (level_ == SeptLevel::k4K && entry_state(raw_, at_) == SeptState::kNonLeafMapped) {
      at_ = SeptLevel::k4K;
    }
    return true;
  }

  [[nodiscard]] bool materialise() {
    const std::optional<std::uint64_t> link = sept_.take_table();
    if (!link.has_value()) {
      return false;
    }
    std::uint64_t* entries = table_at(sept_.storage_, *link);
    for (unsigned i = 0; i < kEntries; ++i) {
      internal::store(entries[i], child_of_virtual(raw_, i));
    }
    // The table is reached only through NL_MAPPED entries (walk()), so this one is not blocked.
    raw_ = make_table(*link);
    internal::store(*guard_, raw_ | SpinBit::kMask);
    return true;
  }

  void collapse(unsigned changed) {
    std::uint64_t* entries = children();
    if (!is_uniform(entries, changed)) {
      return;
    }
    const std::uint64_t link = link_of(raw_);
    const std::uint64_t first = load(entries[0]);
    const std::uint64_t table_raw = raw_;
    raw_ = make_virtual(state_of(first), hpa_field(first));
    if (state_of(table_raw) == SeptState::kNonLeafBlocked) {
      // Blocked while an accept below was under way.
      raw_ = with_epoch(raw_ | TableBlockedBit::kMask, epoch_of(table_raw));
    }
    internal::store(*guard_, raw_ | SpinBit::kMask);
    sept_.give_table(link);
  }

  SecureEpt& sept_;
  PhysAddr gpa_;
  SeptLevel level_;  ///< asked for
  SeptLevel at_ = SeptLevel::k4K;
  std::uint64_t* guard_ = nullptr;
  std::uint64_t raw_ = 0;  ///< of the guard (without spin bit), or where the walk ended
};

}  // namespace accede::host::internal
