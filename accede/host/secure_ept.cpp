// The secure EPT: names, construction, table storage, and reading without locks.
#include "accede/host/secure_ept.hpp"

#include "accede/base/assert.hpp"
#include "accede/host/sept_entry.hpp"

#include <algorithm>

namespace accede::host {

using namespace internal;
using namespace std::string_view_literals;

std::string_view name(GuestCallKind kind) {
  switch (kind) {
    case GuestCallKind::kCompleted:
      return "completed"sv;
    case GuestCallKind::kInterrupted:
      return "interrupted"sv;
    case GuestCallKind::kExit:
      return "TD exit"sv;
    case GuestCallKind::kOutOfStorage:
      return "page-state storage exhausted"sv;
  }
  return "unknown"sv;
}

std::string_view name(AccessKind kind) {
  switch (kind) {
    case AccessKind::kMapped:
      return "mapped"sv;
    case AccessKind::kViolationExit:
      return "EPT violation exit"sv;
    case AccessKind::kPendingExit:
      return "pending, TD exit"sv;
    case AccessKind::kPendingVe:
      return "pending, #VE"sv;
    case AccessKind::kNotPrivate:
      return "not a private address"sv;
  }
  return "unknown"sv;
}

std::string_view name(SeptError error) {
  switch (error) {
    case SeptError::kOutOfStorage:
      return "page-state storage exhausted"sv;
  }
  return "unknown"sv;
}

std::uint64_t TdExit::extended_qualification() const {
  using X = abi::tdx::ExtendedQualification;
  std::uint64_t word = X::TypeField::set(0, static_cast<std::uint64_t>(X::Type::kAccept));
  word = X::RequestedLevel::set(word, static_cast<std::uint64_t>(requested_level));
  word = X::ErrorLevel::set(word, static_cast<std::uint64_t>(error_level));
  word = X::ErrorState::set(word, static_cast<std::uint64_t>(error_state));
  return X::IsLeaf::set(word, is_leaf ? 1 : 0);
}

// --- Construction and storage ---

SecureEpt::SecureEpt(const SecureEptConfig& config, std::span<std::byte> storage)
    : storage_{storage},
      gpa_width_{config.gpa_width},
      top_level_{config.gpa_width == 52 ? SeptLevel::k256T : SeptLevel::k512G},
      page_release_{config.page_release},
      pending_ve_disable_{config.pending_ve_disable} {
  ACCEDE_ASSERT(config.gpa_width == 48 || config.gpa_width == 52);
  ACCEDE_ASSERT(storage.size() >= kTableBytes.value());
  ACCEDE_ASSERT(reinterpret_cast<std::uintptr_t>(storage.data()) % kTableBytes.value() == 0);
  std::fill_n(table_at(storage_, 0), kEntries, SeptEntry::kFresh);
}

Bytes SecureEpt::storage_bound(std::span<const PhysRange> ranges, unsigned gpa_width,
                               std::uint64_t mixed_2m_regions) {
  std::uint64_t tables = 1 + mixed_2m_regions;
  for (const PhysRange range : ranges) {
    if (range.empty()) {
      continue;
    }
    const auto touched = [range](SeptLevel level) {
      const unsigned shift = level_shift(level);
      return ((range.end().value() - 1) >> shift) - (range.begin().value() >> shift) + 1;
    };
    tables += touched(SeptLevel::k1G) + touched(SeptLevel::k512G) +
              (gpa_width == 52 ? touched(SeptLevel::k256T) : 0);
  }
  return kTableBytes * tables;
}

std::optional<std::uint64_t> SecureEpt::take_table() {
  const std::uint64_t capacity =
      std::min<std::uint64_t>(storage_.size() / kTableBytes.value(), LinkIndex::kMax + 1);
  const SpinGuard guard{free_lock_};
  std::uint64_t link = 0;
  if (free_head_ != 0) {
    Entry* page = table_at(storage_, free_head_);
    link = LinkIndex::set(LinkGeneration::set(0, load(page[1])), free_head_);
    free_head_ = static_cast<std::uint32_t>(load(page[0]));
  } else if (fresh_ < capacity) {
    link = fresh_++;
  } else {
    return std::nullopt;
  }
  used_.fetch_add(1, std::memory_order_relaxed);
  return link;
}

void SecureEpt::give_table(std::uint64_t link) {
  Entry* page = table_at(storage_, link);
  const SpinGuard guard{free_lock_};
  store(page[0], free_head_);
  store(page[1], (LinkGeneration::get(link) + 1) & LinkGeneration::kMax);
  free_head_ = static_cast<std::uint32_t>(LinkIndex::get(link));
  used_.fetch_sub(1, std::memory_order_relaxed);
}

Bytes SecureEpt::storage_used() const {
  return kTableBytes * used_.load(std::memory_order_relaxed);
}

// --- Reading without locks ---

std::optional<SecureEpt::Found> SecureEpt::find_once(PhysAddr gpa, SeptLevel level) const {
  Entry* entries = table_at(storage_, 0);
  for (SeptLevel at = top_level_;; at = below(at)) {
    Entry& entry = entries[index_of(gpa, at)];
    const std::uint64_t raw = load(entry) & ~SpinBit::kMask;
    if (DeadBit::get(raw) != 0) {
      return std::nullopt;
    }
    const SeptState state = entry_state(raw, at);
    if (at == level || state != SeptState::kNonLeafMapped) {
      PhysAddr hpa = at <= SeptLevel::k2M ? leaf_hpa(raw, at) : PhysAddr{};
      if (at == SeptLevel::k1G && is_leaf(state)) {
        hpa = hpa_field(load(table_at(storage_, link_of(raw))[0]));
      }
      if (at == SeptLevel::k1G && (load(entry) & ~SpinBit::kMask) != raw) {
        return std::nullopt;
      }
      return Found{module_form(raw, at, hpa), at, at};
    }
    if (at == SeptLevel::k2M) {
      const unsigned index = index_of(gpa, SeptLevel::k4K);
      if (is_virtual(raw)) {
        return Found{child_of_virtual(raw, index), SeptLevel::k4K, SeptLevel::k2M};
      }
      const std::uint64_t child = load(table_at(storage_, link_of(raw))[index]);
      // The table may have been recycled while we read; then the entry above has changed too.
      if ((load(entry) & ~SpinBit::kMask) != raw) {
        return std::nullopt;
      }
      return Found{module_form(child, SeptLevel::k4K, leaf_hpa(child, SeptLevel::k4K)),
                   SeptLevel::k4K, SeptLevel::k4K};
    }
    entries = table_at(storage_, link_of(raw));
  }
}

SecureEpt::Found SecureEpt::find(PhysAddr gpa, SeptLevel level) const {
  for (;;) {
    if (const std::optional<Found> found = find_once(gpa, level)) {
      return *found;
    }
    __builtin_ia32_pause();
  }
}

std::optional<EntryView> SecureEpt::lookup(PhysAddr gpa) const {
  if (!is_private(gpa)) {
    return std::nullopt;
  }
  const Found found = find(gpa, SeptLevel::k4K);
  EntryView view{.state = state_of(found.raw), .level = found.level, .hpa = {}};
  if (is_leaf(view.state)) {
    const std::uint64_t offset = gpa.value() & (level_bytes(view.level).value() - 1);
    view.hpa = (leaf_hpa(found.raw, view.level) + Bytes{offset}).align_down(4_KiB);
  }
  return view;
}

Access SecureEpt::access(PhysAddr gpa) const {
  const std::optional<EntryView> view = lookup(gpa);
  if (!view.has_value()) {
    return {};
  }
  AccessKind kind = AccessKind::kViolationExit;
  if (is_usable(view->state)) {
    kind = AccessKind::kMapped;
  } else if (is_pending(view->state)) {
    kind = pending_ve_disable() ? AccessKind::kPendingExit : AccessKind::kPendingVe;
  }
  return {.kind = kind, .entry = *view};
}

std::optional<std::uint64_t> SecureEpt::raw_entry(PhysAddr gpa, SeptLevel level) const {
  if (!is_private(gpa) || level > top_level_) {
    return std::nullopt;
  }
  const Found found = find(gpa, level);
  if (found.level != level) {
    return std::nullopt;
  }
  return found.raw;
}

void SecureEpt::visit(PhysRange range, Visitor visitor) const {
  const PhysAddr end = std::min(range.end(), private_end());
  std::optional<StateRun> run;
  for (PhysAddr gpa = range.begin(); gpa < end;) {
    const Found found = find(gpa, SeptLevel::k4K);
    const PhysAddr next =
        std::min(end, gpa.align_down(level_bytes(found.uniform)) + level_bytes(found.uniform));
    const SeptState state = state_of(found.raw);
    if (run.has_value() && run->state == state && run->level == found.level) {
      run->range = *PhysRange::make(run->range.begin(), next);
    } else {
      if (run.has_value()) {
        visitor(*run);
      }
      run = StateRun{*PhysRange::make(gpa, next), state, found.level};
    }
    gpa = next;
  }
  if (run.has_value()) {
    visitor(*run);
  }
}

void SecureEpt::set_pending_ve_disable(bool disable) {
  pending_ve_disable_.store(disable, std::memory_order_release);
}

bool SecureEpt::pending_ve_disable() const {
  return pending_ve_disable_.load(std::memory_order_acquire);
}

}  // namespace accede::host
