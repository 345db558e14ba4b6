// What tests ask of the secure EPT: its invariants, and states that no call reaches.
#include "accede/host/secure_ept.hpp"

#include "accede/base/assert.hpp"
#include "accede/host/sept_entry.hpp"
#include "accede/host/sept_lock.hpp"

#include <algorithm>

namespace accede::host {

using namespace internal;

bool SecureEpt::force_state(PhysAddr gpa, SeptLevel level, SeptState state) {
  ACCEDE_ASSERT(!is_non_leaf(state) && level <= SeptLevel::k1G && legal(gpa, level));
  Locked entry{*this, gpa, level};
  if (!entry.reached() || entry.busy() || is_non_leaf(entry.state())) {
    return false;
  }
  const bool keeps_table = level == SeptLevel::k1G;
  if (keeps_table && (!is_leaf(entry.state()) || !is_leaf(state))) {
    return false;
  }
  std::uint64_t raw = make_entry(state);
  if (is_blocked(state)) {
    raw = with_epoch(raw & ~EpochLow::kMask, epoch());
  }
  if (keeps_table) {
    return entry.store(raw | (entry.value() & (SeptEntry::Hpa::kMask | VirtualBit::kMask)));
  }
  return entry.store(is_leaf(state) ? raw | entry.hpa().value() : raw);
}

/// Sums over the tables that are linked: equal to the sums over those in use unless some table is
/// linked twice or lost.
struct SecureEpt::TreeCheck {
  std::uint64_t tables = 0;
  std::uint64_t mixed_sum = 0;

  void add(std::uint64_t index) {
    ++tables;
    std::uint64_t x = (index + 1) * 0x9E3779B97F4A7C15ULL;
    x = (x ^ (x >> 29)) * 0xBF58476D1CE4E5B9ULL;
    mixed_sum += x ^ (x >> 32);
  }
};

bool SecureEpt::check_entry(std::uint64_t raw, SeptLevel level, TreeCheck& check) const {
  const SeptState state = entry_state(raw, level);
  const bool kept = level == SeptLevel::k1G && is_virtual(raw);
  if (static_cast<std::uint8_t>(state) == kNoState || SpinBit::get(raw) != 0 ||
      SeptEntry::Tdel::get(raw) != 0 || (DeadBit::get(raw) != 0)) {
    return false;
  }
  if (level == SeptLevel::k2M && is_virtual(raw)) {
    const SeptState children = state_of(raw);
    return !is_blocked(children) && !is_non_leaf(children) &&
           (is_leaf(children) || hpa_field(raw) == PhysAddr{});
  }
  if (kept) {
    check.add(LinkIndex::get(link_of(raw)));
    Entry* entries = table_at(storage_, link_of(raw));
    return !is_non_leaf(state) && std::all_of(entries + 1, entries + kEntries, [](Entry& entry) {
      return load(entry) == kDeadEntry;
    });
  }
  if (is_non_leaf(state)) {
    return level != SeptLevel::k4K &&
           check_table(table_at(storage_, link_of(raw)), below(level), check);
  }
  if (is_free(state)) {
    return raw == make_entry(state);
  }
  const bool counts = level == SeptLevel::k2M && (is_pending(state) || is_blocked(state));
  return level <= SeptLevel::k2M && (counts || hpa_field(raw).is_aligned(level_bytes(level)));
}

bool SecureEpt::check_table(const Entry* entries, SeptLevel level, TreeCheck& check) const {
  auto* writable = const_cast<Entry*>(entries);
  check.add(static_cast<std::uint64_t>(entries - table_at(storage_, 0)) / kEntries);
  for (unsigned i = 0; i < kEntries; ++i) {
    if (!check_entry(load(writable[i]), level, check)) {
      return false;
    }
  }
  return level != SeptLevel::k4K || !is_uniform(writable, 0);
}

bool SecureEpt::invariants() const {
  TreeCheck linked;
  if (!check_table(table_at(storage_, 0), top_level_, linked)) {
    return false;
  }
  TreeCheck all;
  for (std::uint64_t i = 0; i < fresh_; ++i) {
    all.add(i);
  }
  TreeCheck free;
  for (std::uint64_t i = free_head_; i != 0 && free.tables < all.tables;) {
    free.add(i);
    i = load(table_at(storage_, i)[0]);
  }
  return linked.tables == used_.load(std::memory_order_relaxed) &&
         linked.tables + free.tables == all.tables &&
         linked.mixed_sum + free.mixed_sum == all.mixed_sum;
}

}  // namespace accede::host
