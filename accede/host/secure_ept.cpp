#include "accede/host/secure_ept.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>
#include <array>

namespace accede::host {

using namespace std::string_view_literals;

namespace {

using E = abi::tdx::SeptEntry;
using abi::tdx::ExtendedQualification;
using abi::tdx::level_bytes;
using abi::tdx::level_shift;
using abi::tdx::Operand;
using abi::tdx::PageOperand;
using abi::tdx::Status;
using abi::tdx::status;

constexpr unsigned kEntries = 512;

// Bits of an entry that the module does not use (or not without L2 VMs) and the model does. They
// never leave this file: module_form() takes them out.
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
constexpr std::uint64_t kEpochMask = (1U << (EpochHigh::kWidth + EpochLow::kWidth)) - 1;

/// A link to a table, kept in the HPA field: page number in the storage, and how often it was
/// reused (for readers that take no lock).
using LinkGeneration = BitField<std::uint64_t, 39, 24>;
using LinkIndex = BitField<std::uint64_t, 23, 0>;

// --- State arithmetic ----------------------------------------------------------------------------

constexpr std::uint8_t kNoState = 0xFF;

constexpr std::size_t state_index(std::uint64_t raw) {
  return static_cast<std::size_t>(E::Dirty::get(raw) | (((raw >> 53) & 0xF) << 1) |
                                  (((raw >> 6) & 0x3) << 5));
}

constexpr auto kStateByIndex = [] {
  std::array<std::uint8_t, 128> table{};
  table.fill(kNoState);
  for (const auto& info : abi::tdx::kSeptStates) {
    table[state_index(info.mask)] = static_cast<std::uint8_t>(info.state);
  }
  // D is ignored for plain MAPPED (reference 2.4).
  table[state_index(E::Leaf::kMask | E::Ipat::kMask | E::Dirty::kMask)] =
      static_cast<std::uint8_t>(SeptState::kMapped);
  return table;
}();

constexpr SeptState state_of(std::uint64_t raw) {
  return static_cast<SeptState>(kStateByIndex[state_index(raw)]);
}

constexpr auto kMaskByState = [] {
  std::array<std::uint64_t, 256> table{};
  for (const auto& info : abi::tdx::kSeptStates) {
    table[static_cast<std::uint8_t>(info.state)] = info.mask;
  }
  return table;
}();

constexpr std::uint64_t mask_of(SeptState state) {
  return kMaskByState[static_cast<std::uint8_t>(state)];
}

constexpr bool is_free(SeptState state) {
  return state == SeptState::kFree || state == SeptState::kRemoved;
}
constexpr bool is_non_leaf(SeptState state) {
  return state == SeptState::kNonLeafMapped || state == SeptState::kNonLeafBlocked;
}
constexpr bool is_leaf(SeptState state) {
  return !is_free(state) && !is_non_leaf(state);
}
constexpr bool is_blocked(SeptState state) {
  return state == SeptState::kBlocked || state == SeptState::kPendingBlocked ||
         state == SeptState::kNonLeafBlocked;
}
constexpr bool is_write_blocked(SeptState state) {
  return state == SeptState::kBlockedW || state == SeptState::kExportedBlockedW ||
         state == SeptState::kExportedDirtyBlockedW;
}
/// Rows 1 and 5 of the decision table: a leaf that the guest can already use.
constexpr bool is_usable(SeptState state) {
  return state == SeptState::kMapped || state == SeptState::kExportedDirty ||
         is_write_blocked(state);
}
/// Leaves whose guest access meets "not accepted" rather than "not there".
constexpr bool is_pending(SeptState state) {
  return state == SeptState::kPending || state == SeptState::kPendingBlockedW ||
         state == SeptState::kPendingExportedBlockedW ||
         state == SeptState::kPendingExportedDirty ||
         state == SeptState::kPendingExportedDirtyBlockedW;
}
/// Row 7: the state after an accept, or nothing when an accept does not apply.
constexpr std::optional<SeptState> accepted(SeptState state) {
  if (state == SeptState::kPending) {
    return SeptState::kMapped;
  }
  if (state == SeptState::kPendingExportedDirty) {
    return SeptState::kExportedDirty;
  }
  return std::nullopt;
}
/// The legal sources of RANGE.BLOCK and what they become.
constexpr std::optional<SeptState> blocked(SeptState state) {
  switch (state) {
    case SeptState::kMapped:
    case SeptState::kBlockedW:
      return SeptState::kBlocked;
    case SeptState::kPending:
    case SeptState::kPendingBlockedW:
      return SeptState::kPendingBlocked;
    case SeptState::kNonLeafMapped:
      return SeptState::kNonLeafBlocked;
    default:
      return std::nullopt;
  }
}
constexpr SeptState unblocked(SeptState state) {
  switch (state) {
    case SeptState::kBlocked:
      return SeptState::kMapped;
    case SeptState::kPendingBlocked:
      return SeptState::kPending;
    case SeptState::kNonLeafBlocked:
      return SeptState::kNonLeafMapped;
    default:
      return state;
  }
}

// --- Entry arithmetic ----------------------------------------------------------------------------

/// A leaf, or FREE or REMOVED (then `hpa` is 0), in the module's layout.
constexpr std::uint64_t make_entry(SeptState state, PhysAddr hpa = PhysAddr{}) {
  std::uint64_t raw = E::SuppressVe::kMask | mask_of(state) | hpa.value();
  if (is_leaf(state)) {
    raw |= E::MemoryType::set(0, E::kMemoryTypeWriteBack);
  }
  if (is_usable(state)) {
    raw |= E::Read::kMask | E::Execute::kMask | (is_write_blocked(state) ? 0 : E::Write::kMask);
  }
  return raw;
}

constexpr std::uint64_t make_table(std::uint64_t link) {
  return E::SuppressVe::kMask | mask_of(SeptState::kNonLeafMapped) | E::kPermissionMask |
         E::Hpa::set(0, link);
}

constexpr std::uint64_t make_virtual(SeptState children, PhysAddr first) {
  return E::SuppressVe::kMask | mask_of(children) | first.value() | VirtualBit::kMask;
}

constexpr std::uint64_t kDeadEntry = E::kFresh | DeadBit::kMask;

constexpr bool is_virtual(std::uint64_t raw) {
  return VirtualBit::get(raw) != 0;
}
constexpr std::uint64_t link_of(std::uint64_t raw) {
  return E::Hpa::get(raw);
}
constexpr PhysAddr hpa_field(std::uint64_t raw) {
  return PhysAddr{raw & E::Hpa::kMask};
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
  const std::uint64_t keep =
      E::Tdel::kMask | E::Dirty::kMask | (level == SeptLevel::k2M ? E::AcceptCounter::kMask : 0);
  return make_entry(state, hpa) | (raw & keep);
}

/// True when a table whose children look like this entry may be virtual (class comment).
constexpr bool can_be_virtual(std::uint64_t child) {
  return E::Tdel::get(child) == 0 && !is_blocked(state_of(child));
}

constexpr unsigned index_of(PhysAddr gpa, SeptLevel level) {
  return static_cast<unsigned>((gpa.value() >> level_shift(level)) % kEntries);
}

constexpr SeptLevel below(SeptLevel level) {
  return static_cast<SeptLevel>(static_cast<unsigned>(level) - 1);
}

// --- Atomic access -------------------------------------------------------------------------------

std::uint64_t load(std::uint64_t& entry) {
  return std::atomic_ref{entry}.load(std::memory_order_acquire);
}
void store(std::uint64_t& entry, std::uint64_t value) {
  std::atomic_ref{entry}.store(value, std::memory_order_release);
}

/// Takes the spin bit; returns the entry without it.
std::uint64_t spin_lock(std::uint64_t& entry) {
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

/// Equal children on contiguous host memory. A sum compares state and HPA at once; a carry out of
/// the HPA field cannot look like a valid entry because every child was checked to end below 2^52.
bool is_uniform(std::uint64_t* children, unsigned changed) {
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

bool hpa_ok(PhysAddr hpa, SeptLevel level) {
  constexpr std::uint64_t kEnd = 1ULL << 52;
  return hpa.is_aligned(level_bytes(level)) && hpa.value() < kEnd;
}

GuestCallResult completed(std::uint64_t rax) {
  return {.kind = GuestCallKind::kCompleted, .rax = rax, .rcx = 0, .exit = {}};
}

}  // namespace

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
  using X = ExtendedQualification;
  std::uint64_t word = X::TypeField::set(0, static_cast<std::uint64_t>(X::Type::kAccept));
  word = X::RequestedLevel::set(word, static_cast<std::uint64_t>(requested_level));
  word = X::ErrorLevel::set(word, static_cast<std::uint64_t>(error_level));
  word = X::ErrorState::set(word, static_cast<std::uint64_t>(error_state));
  return X::IsLeaf::set(word, is_leaf ? 1 : 0);
}

// --- An entry under its spin bit
// -------------------------------------------------------------------

/// The entry of one level for one GPA, with the spin bit held that guards it (its own, or that of
/// the 2M entry above a 4K entry); or, when the walk ends above, what it ended in.
class SecureEpt::Locked {
 public:
  Locked(SecureEpt& sept, PhysAddr gpa, SeptLevel level) : sept_{sept}, gpa_{gpa}, level_{level} {
    while (!walk()) {
      __builtin_ia32_pause();
    }
  }
  /// Locks again an entry that `guard` guarded before and that TDEL kept in place.
  Locked(SecureEpt& sept, PhysAddr gpa, SeptLevel level, Entry* guard)
      : sept_{sept}, gpa_{gpa}, level_{level}, at_{level}, guard_{guard}, raw_{spin_lock(*guard)} {}
  ~Locked() {
    if (guard_ != nullptr) {
      host::store(*guard_, raw_);
    }
  }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

  /// False: the walk ended in an entry above `level`; value() and at() tell which.
  [[nodiscard]] bool reached() const { return at_ == level_; }
  [[nodiscard]] SeptLevel at() const { return at_; }
  [[nodiscard]] Entry* guard() const { return guard_; }
  [[nodiscard]] PhysAddr gpa() const { return gpa_; }

  [[nodiscard]] std::uint64_t value() const {
    if (at_ != SeptLevel::k4K) {
      return raw_;
    }
    const unsigned index = index_of(gpa_, SeptLevel::k4K);
    return is_virtual(raw_) ? child_of_virtual(raw_, index) : load(children()[index]);
  }
  [[nodiscard]] SeptState state() const { return entry_state(value(), at_); }
  [[nodiscard]] bool busy() const { return E::Tdel::get(value()) != 0; }
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
  [[nodiscard]] Entry* children() const { return sept_.table(link_of(raw_)); }

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
    host::store(children()[index], value);
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
    Entry* entries = sept_.table(0);
    for (at_ = sept_.top_level_; at_ > guard_level; at_ = below(at_)) {
      raw_ = load(entries[index_of(gpa_, at_)]) & ~SpinBit::kMask;
      if (state_of(raw_) != SeptState::kNonLeafMapped) {
        return true;
      }
      entries = sept_.table(link_of(raw_));
    }
    guard_ = &entries[index_of(gpa_, at_)];
    raw_ = spin_lock(*guard_);
    if (DeadBit::get(raw_) != 0) {
      host::store(*guard_, raw_);
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
    Entry* entries = sept_.table(*link);
    for (unsigned i = 0; i < kEntries; ++i) {
      host::store(entries[i], child_of_virtual(raw_, i));
    }
    // The table is reached only through NL_MAPPED entries (walk()), so this one is not blocked.
    raw_ = make_table(*link);
    host::store(*guard_, raw_ | SpinBit::kMask);
    return true;
  }

  void collapse(unsigned changed) {
    Entry* entries = children();
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
    host::store(*guard_, raw_ | SpinBit::kMask);
    sept_.give_table(link);
  }

  SecureEpt& sept_;
  PhysAddr gpa_;
  SeptLevel level_;  ///< asked for
  SeptLevel at_ = SeptLevel::k4K;
  Entry* guard_ = nullptr;
  std::uint64_t raw_ = 0;  ///< of the guard (without spin bit), or where the walk ended
};

// --- Construction and storage
// ----------------------------------------------------------------------

SecureEpt::SecureEpt(const SecureEptConfig& config, std::span<std::byte> storage)
    : storage_{storage},
      gpa_width_{config.gpa_width},
      top_level_{config.gpa_width == 52 ? SeptLevel::k256T : SeptLevel::k512G},
      page_release_{config.page_release},
      pending_ve_disable_{config.pending_ve_disable} {
  ACCEDE_ASSERT(config.gpa_width == 48 || config.gpa_width == 52);
  ACCEDE_ASSERT(storage.size() >= kTableBytes.value());
  ACCEDE_ASSERT(reinterpret_cast<std::uintptr_t>(storage.data()) % kTableBytes.value() == 0);
  std::fill_n(table(0), kEntries, E::kFresh);
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

SecureEpt::Entry* SecureEpt::table(std::uint64_t link) const {
  return reinterpret_cast<Entry*>(storage_.data()) + LinkIndex::get(link) * kEntries;
}

std::optional<std::uint64_t> SecureEpt::take_table() {
  const std::uint64_t capacity =
      std::min<std::uint64_t>(storage_.size() / kTableBytes.value(), LinkIndex::kMax + 1);
  const SpinGuard guard{free_lock_};
  std::uint64_t link = 0;
  if (free_head_ != 0) {
    Entry* page = table(free_head_);
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
  Entry* page = table(link);
  const SpinGuard guard{free_lock_};
  store(page[0], free_head_);
  store(page[1], (LinkGeneration::get(link) + 1) & LinkGeneration::kMax);
  free_head_ = static_cast<std::uint32_t>(LinkIndex::get(link));
  used_.fetch_sub(1, std::memory_order_relaxed);
}

Bytes SecureEpt::storage_used() const {
  return kTableBytes * used_.load(std::memory_order_relaxed);
}

bool SecureEpt::legal(PhysAddr gpa, SeptLevel level) const {
  return is_private(gpa) && gpa.is_aligned(level_bytes(level));
}

// --- Reading without locks
// -------------------------------------------------------------------------

std::optional<SecureEpt::Found> SecureEpt::find_once(PhysAddr gpa, SeptLevel level) const {
  Entry* entries = table(0);
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
        hpa = hpa_field(load(table(link_of(raw))[0]));
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
      const std::uint64_t child = load(table(link_of(raw))[index]);
      // The table may have been recycled while we read; then the entry above has changed too.
      if ((load(entry) & ~SpinBit::kMask) != raw) {
        return std::nullopt;
      }
      return Found{module_form(child, SeptLevel::k4K, leaf_hpa(child, SeptLevel::k4K)),
                   SeptLevel::k4K, SeptLevel::k4K};
    }
    entries = table(link_of(raw));
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

// --- Guest calls
// -----------------------------------------------------------------------------------

namespace {

/// Checks the operand of ACCEPT and RELEASE against everything but the GPA width.
bool operand_ok(std::uint64_t rcx) {
  return PageOperand::ReservedHigh::get(rcx) == 0 && PageOperand::ReservedLow::get(rcx) == 0 &&
         PageOperand::Level::get(rcx) <= static_cast<std::uint64_t>(SeptLevel::k2M);
}

GuestCallResult violation_exit(PhysAddr gpa, SeptLevel requested, SeptLevel at, SeptState state) {
  GuestCallResult result{.kind = GuestCallKind::kExit, .rax = 0, .rcx = 0, .exit = {}};
  result.exit = TdExit{.rax = static_cast<std::uint64_t>(abi::tdx::ExitReason::kEptViolation),
                       .gpa = gpa,
                       .requested_level = requested,
                       .error_level = at,
                       .error_state = state,
                       .is_leaf = is_leaf(state)};
  return result;
}

/// Decision table rows 1, 2 and 4 to 6: an entry in which an ACCEPT of `requested` ends without
/// accepting. Nothing: row 7.
std::optional<GuestCallResult> refusal(PhysAddr gpa, SeptLevel requested, SeptLevel at,
                                       SeptState state) {
  if (is_usable(state)) {
    return completed(status(Status::kPageAlreadyAccepted, static_cast<std::uint32_t>(at)));
  }
  if (at == requested && is_non_leaf(state)) {
    return completed(status(Status::kPageSizeMismatch, static_cast<std::uint32_t>(at)));
  }
  if (at == requested && accepted(state).has_value()) {
    return std::nullopt;
  }
  return violation_exit(gpa, requested, at, state);
}

}  // namespace

std::optional<GuestCallResult> SecureEpt::injected_busy() {
  std::uint64_t word = busy_left_.load(std::memory_order_relaxed);
  do {
    if (static_cast<std::uint32_t>(word) == 0) {
      return std::nullopt;
    }
  } while (!busy_left_.compare_exchange_weak(word, word - 1, std::memory_order_relaxed));
  if (static_cast<BusyCause>(word >> 32) == BusyCause::kHostPriorityTimeout) {
    GuestCallResult result{.kind = GuestCallKind::kExit, .rax = 0, .rcx = 0, .exit = {}};
    result.exit.rax = status(Status::kHostPriorityBusyTimeout);
    return result;
  }
  return completed(status(Status::kOperandBusy, Operand::kRcx));
}

void SecureEpt::inject_busy(std::uint32_t count, BusyCause cause) {
  busy_left_.store((std::uint64_t{static_cast<std::uint8_t>(cause)} << 32) | count,
                   std::memory_order_relaxed);
}

GuestCallResult SecureEpt::accept(std::uint64_t rcx, ZeroPage zero_page,
                                  InterruptPending interrupt_pending) {
  return accept_impl(rcx, &zero_page, &interrupt_pending);
}

GuestCallResult SecureEpt::accept_keeping_content(std::uint64_t rcx) {
  return accept_impl(rcx, nullptr, nullptr);
}

GuestCallResult SecureEpt::accept_impl(std::uint64_t rcx, const ZeroPage* zero_page,
                                       const InterruptPending* interrupt_pending) {
  const auto level = static_cast<SeptLevel>(PageOperand::Level::get(rcx));
  const PhysAddr gpa = PageOperand::gpa(rcx);
  if (!operand_ok(rcx) || !legal(gpa, level)) {
    return completed(status(Status::kOperandInvalid, Operand::kRcx));
  }
  Entry* guard = nullptr;
  std::uint64_t pending = 0;
  {
    Locked entry{*this, gpa, level};
    if (entry.reached()) {
      if (const std::optional<GuestCallResult> busy = injected_busy()) {
        return *busy;
      }
      if (entry.busy()) {
        return completed(status(Status::kOperandBusy, Operand::kRcx));
      }
    }
    if (const auto refused = refusal(gpa, level, entry.at(), entry.state())) {
      return *refused;
    }
    pending = entry.value();
    if (!entry.store(pending | E::Tdel::kMask)) {
      return {.kind = GuestCallKind::kOutOfStorage, .rax = 0, .rcx = 0, .exit = {}};
    }
    guard = entry.guard();
  }
  // TDEL keeps the entry and the tables above it in place while no spin bit is held.
  const PhysAddr hpa = leaf_hpa(pending, level);
  const std::uint64_t pages = level_bytes(level) / kTableBytes;
  std::uint64_t done = level == SeptLevel::k2M ? E::AcceptCounter::get(pending) : 0;
  while (zero_page != nullptr && done < pages) {
    (*zero_page)(hpa + PageCount{done}.bytes());
    ++done;
    if (done < pages && (*interrupt_pending)()) {
      Locked entry{*this, gpa, level, guard};
      const bool stored = entry.store(E::AcceptCounter::set(pending, done));
      ACCEDE_ASSERT(stored);
      return {.kind = GuestCallKind::kInterrupted, .rax = 0, .rcx = 0, .exit = {}};
    }
  }
  Locked entry{*this, gpa, level, guard};
  const bool stored = entry.store(make_entry(*accepted(state_of(pending)), hpa));
  ACCEDE_ASSERT(stored);
  return completed(0);
}

GuestCallResult SecureEpt::release(std::uint64_t rcx) {
  if (!page_release_) {
    return completed(status(Status::kOperandInvalid, Operand::kRax));
  }
  const auto level = static_cast<SeptLevel>(PageOperand::Level::get(rcx));
  const PhysAddr gpa = PageOperand::gpa(rcx);
  if (!operand_ok(rcx) || !legal(gpa, level)) {
    return completed(status(Status::kOperandInvalid, Operand::kRcx));
  }
  Locked entry{*this, gpa, level};
  const auto answer = [&](std::uint64_t rax) {
    GuestCallResult result = completed(rax);
    result.rcx = PageOperand::PendingFlag::set(
        PageOperand::Level::set(PageOperand::Gpa::kMask & rcx,
                                static_cast<std::uint64_t>(entry.at())),
        is_pending(entry.state()) ? 1 : 0);
    return result;
  };
  const SeptState state = entry.state();
  if (is_free(state)) {
    return answer(status(Status::kEptEntryFree, Operand::kRcx));
  }
  if ((!entry.reached() && is_leaf(state)) || (entry.reached() && is_non_leaf(state))) {
    return answer(status(Status::kPageSizeMismatch, static_cast<std::uint32_t>(entry.at())));
  }
  if (entry.reached() && entry.busy()) {
    return answer(status(Status::kOperandBusy, Operand::kRcx));
  }
  if (state != SeptState::kMapped) {
    return answer(status(Status::kEptEntryStateIncorrect, Operand::kRcx));
  }
  if (!entry.store(make_entry(SeptState::kPending, entry.hpa()))) {
    return {.kind = GuestCallKind::kOutOfStorage, .rax = 0, .rcx = 0, .exit = {}};
  }
  return answer(0);
}

// --- Host calls
// ------------------------------------------------------------------------------------

namespace {

HostResult refuse_operand(Status code, Operand operand) {
  HostResult result;
  result.status = status(code, operand);
  return result;
}

}  // namespace

template <class Op>
HostCall SecureEpt::at_entry(PhysAddr gpa, SeptLevel level, Op op) {
  if (!legal(gpa, level)) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  Locked entry{*this, gpa, level};
  if (!entry.reached()) {
    return entry.refuse(Status::kEptWalkFailed);
  }
  if (entry.busy()) {
    return entry.refuse(Status::kOperandBusy);
  }
  return op(entry);
}

HostCall SecureEpt::page_add(PhysAddr gpa, PhysAddr hpa) {
  if (finalized()) {
    return refuse_operand(Status::kOpStateIncorrect, Operand::kRax);
  }
  return at_entry(gpa, SeptLevel::k4K, [&](Locked& entry) -> HostCall {
    if (entry.state() != SeptState::kFree) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    if (!hpa_ok(hpa, SeptLevel::k4K)) {
      return refuse_operand(Status::kOperandInvalid, Operand::kR8);
    }
    return entry.commit(make_entry(SeptState::kMapped, hpa));
  });
}

HostCall SecureEpt::page_aug(PhysAddr gpa, SeptLevel level, PhysAddr hpa) {
  if (!finalized()) {
    return refuse_operand(Status::kOpStateIncorrect, Operand::kRax);
  }
  if (level > SeptLevel::k2M) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  return at_entry(gpa, level, [&](Locked& entry) -> HostCall {
    if (!is_free(entry.state())) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    if (!hpa_ok(hpa, level)) {
      return refuse_operand(Status::kOperandInvalid, Operand::kR8);
    }
    return entry.commit(make_entry(SeptState::kPending, hpa));
  });
}

HostCall SecureEpt::sept_add(PhysAddr gpa, SeptLevel level) {
  if (level < SeptLevel::k2M || level > top_level_) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  return at_entry(gpa, level, [&](Locked& entry) -> HostCall {
    if (entry.state() != SeptState::kFree) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    if (level == SeptLevel::k2M) {
      return entry.commit(make_virtual(SeptState::kFree, PhysAddr{}));
    }
    if (is_virtual(entry.value())) {
      TableLock children{entry.children()};
      for (unsigned i = 0; i < kEntries; ++i) {
        children.set(i, E::kFresh);
      }
      return entry.commit(make_table(link_of(entry.value())));
    }
    const std::optional<std::uint64_t> link = take_table();
    if (!link.has_value()) {
      return std::unexpected{SeptError::kOutOfStorage};
    }
    Entry* entries = table(*link);
    for (unsigned i = 0; i < kEntries; ++i) {
      store(entries[i], E::kFresh);
    }
    return entry.commit(make_table(*link));
  });
}

HostCall SecureEpt::range_block(PhysAddr gpa, SeptLevel level) {
  if (level > top_level_) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  return at_entry(gpa, level, [&](Locked& entry) -> HostCall {
    const SeptState state = entry.state();
    if (is_blocked(state)) {
      return entry.refuse(Status::kGpaRangeAlreadyBlocked);
    }
    const std::optional<SeptState> target = blocked(state);
    if (!target.has_value()) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    const std::uint64_t raw = entry.value();
    if (level == SeptLevel::k2M && is_virtual(raw)) {
      return entry.commit(with_epoch(raw | TableBlockedBit::kMask, epoch()));
    }
    const std::uint64_t keep = raw & (E::Hpa::kMask | VirtualBit::kMask);
    return entry.commit(with_epoch(keep | E::SuppressVe::kMask | mask_of(*target), epoch()));
  });
}

/// TLB_TRACKING_NOT_DONE|RCX or GPA_RANGE_NOT_BLOCKED|RCX when a runnable TD may still use the
/// entry; else 0.
std::uint64_t SecureEpt::unblocked_refusal(std::uint64_t raw) const {
  if (!finalized()) {
    return 0;
  }
  if (!is_blocked(state_of(raw)) && TableBlockedBit::get(raw) == 0) {
    return status(Status::kGpaRangeNotBlocked, Operand::kRcx);
  }
  return tracked(raw) ? 0 : status(Status::kTlbTrackingNotDone, Operand::kRcx);
}

HostCall SecureEpt::range_unblock(PhysAddr gpa, SeptLevel level) {
  if (level > top_level_) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  return at_entry(gpa, level, [&](Locked& entry) -> HostCall {
    const SeptState state = entry.state();
    if (!is_blocked(state)) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    const std::uint64_t raw = entry.value();
    if (const std::uint64_t refused = unblocked_refusal(raw); refused != 0) {
      return entry.result(refused);
    }
    if (level == SeptLevel::k2M && is_virtual(raw)) {
      return entry.commit(make_virtual(state_of(raw), hpa_field(raw)));
    }
    if (state == SeptState::kNonLeafBlocked) {
      return entry.commit(make_table(link_of(raw)));
    }
    return entry.commit(make_entry(unblocked(state), hpa_field(raw)) | (raw & VirtualBit::kMask));
  });
}

HostCall SecureEpt::page_remove(PhysAddr gpa, SeptLevel level) {
  if (level > SeptLevel::k1G) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  return at_entry(gpa, level, [&](Locked& entry) -> HostCall {
    const SeptState state = entry.state();
    if (!is_leaf(state)) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    const std::uint64_t raw = entry.value();
    if (const std::uint64_t refused = unblocked_refusal(raw); refused != 0) {
      return entry.result(refused);
    }
    const PhysAddr removed = entry.hpa();
    const bool keeps_table = level == SeptLevel::k1G;
    const std::uint64_t keep = keeps_table ? raw & (E::Hpa::kMask | VirtualBit::kMask) : 0;
    HostCall call = entry.commit(make_entry(SeptState::kFree) | keep);
    if (call.has_value()) {
      call->hpa = removed;
    }
    return call;
  });
}

HostCall SecureEpt::page_demote(PhysAddr gpa, SeptLevel level) {
  if (level != SeptLevel::k2M && level != SeptLevel::k1G) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  return at_entry(gpa, level, [&](Locked& entry) -> HostCall {
    const SeptState source = unblocked(entry.state());
    if (source != SeptState::kMapped && source != SeptState::kPending) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    if (const std::uint64_t refused = unblocked_refusal(entry.value()); refused != 0) {
      return entry.result(refused);
    }
    if (level == SeptLevel::k1G) {
      return demote_1g(entry);
    }
    return entry.commit(make_virtual(source, entry.hpa()));
  });
}

HostCall SecureEpt::demote_1g(Locked& entry) {
  const SeptState state = unblocked(entry.state());
  const PhysAddr hpa = entry.hpa();
  TableLock children{entry.children()};
  for (unsigned i = 0; i < kEntries; ++i) {
    children.set(i, make_entry(state, hpa + level_bytes(SeptLevel::k2M) * i));
  }
  return entry.commit(make_table(link_of(entry.value())));
}

HostCall SecureEpt::page_promote(PhysAddr gpa, SeptLevel level) {
  if (level != SeptLevel::k2M && level != SeptLevel::k1G) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  return at_entry(gpa, level, [&](Locked& entry) -> HostCall {
    if (!is_non_leaf(entry.state())) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    if (const std::uint64_t refused = unblocked_refusal(entry.value()); refused != 0) {
      return entry.result(refused);
    }
    return level == SeptLevel::k2M ? promote_2m(entry) : promote_1g(entry);
  });
}

HostCall SecureEpt::promote_2m(Locked& entry) {
  const std::uint64_t raw = entry.value();
  if (!is_virtual(raw)) {
    // A real table is not uniform (class invariant); all that is left to tell is why.
    for (unsigned i = 0; i < kEntries; ++i) {
      if (E::Tdel::get(load(entry.children()[i])) != 0) {
        return entry.refuse(Status::kOperandBusy);
      }
    }
    return entry.refuse(Status::kEptInvalidPromoteConditions);
  }
  const SeptState state = state_of(raw);
  if ((state != SeptState::kMapped && state != SeptState::kPending) ||
      !hpa_field(raw).is_aligned(level_bytes(SeptLevel::k2M))) {
    return entry.refuse(Status::kEptInvalidPromoteConditions);
  }
  return entry.commit(make_entry(state, hpa_field(raw)));
}

/// The table of 2M entries stays linked, its entries dead, the first with the leaf's HPA: readers
/// that are on their way through it find a sign to start again, and DEMOTE needs no storage.
HostCall SecureEpt::promote_1g(Locked& entry) {
  TableLock children{entry.children()};
  const SeptState state = entry_state(children.get(0), SeptLevel::k2M);
  const PhysAddr first = leaf_hpa(children.get(0), SeptLevel::k2M);
  bool uniform = (state == SeptState::kMapped || state == SeptState::kPending) &&
                 first.is_aligned(level_bytes(SeptLevel::k1G));
  for (unsigned i = 0; i < kEntries; ++i) {
    const std::uint64_t child = children.get(i);
    if (E::Tdel::get(child) != 0) {
      return entry.refuse(Status::kOperandBusy);
    }
    uniform = uniform && entry_state(child, SeptLevel::k2M) == state &&
              leaf_hpa(child, SeptLevel::k2M) == first + level_bytes(SeptLevel::k2M) * i;
  }
  if (!uniform) {
    return entry.refuse(Status::kEptInvalidPromoteConditions);
  }
  for (unsigned i = 0; i < kEntries; ++i) {
    children.set(i, i == 0 ? kDeadEntry | first.value() : kDeadEntry);
  }
  return entry.commit(make_entry(state) | (entry.value() & E::Hpa::kMask) | VirtualBit::kMask);
}

// --- Epochs
// ----------------------------------------------------------------------------------------

namespace {

constexpr std::uint64_t kOneEpoch = 1ULL << 32;

constexpr std::uint64_t epoch_in(std::uint64_t word) {
  return word >> 32;
}
/// vCPUs inside in the epochs of the parity of `epoch`.
constexpr std::uint64_t count_shift(std::uint64_t epoch) {
  return 16 * (epoch & 1);
}
constexpr std::uint64_t vcpus_in(std::uint64_t word, std::uint64_t epoch) {
  return (word >> count_shift(epoch)) & 0xFFFF;
}

}  // namespace

std::uint64_t SecureEpt::epoch() const {
  return epoch_in(epoch_word_.load(std::memory_order_seq_cst)) & kEpochMask;
}

bool SecureEpt::tracked(std::uint64_t raw) const {
  const std::uint64_t word = epoch_word_.load(std::memory_order_seq_cst);
  const std::uint64_t since = (epoch_in(word) - epoch_of(raw)) & kEpochMask;
  // One TRACK later, vCPUs that entered before it may still use what was blocked.
  return since > 1 || (since == 1 && vcpus_in(word, epoch_in(word) - 1) == 0);
}

std::uint64_t SecureEpt::track() {
  std::uint64_t word = epoch_word_.load(std::memory_order_seq_cst);
  do {
    if (vcpus_in(word, epoch_in(word) - 1) != 0) {
      return status(Status::kPreviousTlbEpochBusy, Operand::kTdEpoch);
    }
  } while (!epoch_word_.compare_exchange_weak(word, word + kOneEpoch, std::memory_order_seq_cst));
  return 0;
}

VcpuEpoch SecureEpt::vcpu_entered() {
  std::uint64_t word = epoch_word_.load(std::memory_order_seq_cst);
  std::uint64_t next = 0;
  do {
    ACCEDE_ASSERT(vcpus_in(word, epoch_in(word)) < 0xFFFF);
    next = word + (1ULL << count_shift(epoch_in(word)));
  } while (!epoch_word_.compare_exchange_weak(word, next, std::memory_order_seq_cst));
  return static_cast<VcpuEpoch>(epoch_in(word) & 1);
}

void SecureEpt::vcpu_left(VcpuEpoch epoch) {
  const auto parity = static_cast<std::uint64_t>(epoch);
  const std::uint64_t before =
      epoch_word_.fetch_sub(1ULL << count_shift(parity), std::memory_order_seq_cst);
  ACCEDE_ASSERT(vcpus_in(before, parity) != 0);
}

std::uint64_t SecureEpt::finalize() {
  return finalized_.exchange(true, std::memory_order_acq_rel) ? status(Status::kOpStateIncorrect)
                                                              : 0;
}

bool SecureEpt::finalized() const {
  return finalized_.load(std::memory_order_acquire);
}

// --- Tests' seams
// ----------------------------------------------------------------------------------

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
    return entry.store(raw | (entry.value() & (E::Hpa::kMask | VirtualBit::kMask)));
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
      E::Tdel::get(raw) != 0 || (DeadBit::get(raw) != 0)) {
    return false;
  }
  if (level == SeptLevel::k2M && is_virtual(raw)) {
    const SeptState children = state_of(raw);
    return !is_blocked(children) && !is_non_leaf(children) &&
           (is_leaf(children) || hpa_field(raw) == PhysAddr{});
  }
  if (kept) {
    check.add(LinkIndex::get(link_of(raw)));
    Entry* entries = table(link_of(raw));
    return !is_non_leaf(state) && std::all_of(entries + 1, entries + kEntries, [](Entry& entry) {
      return load(entry) == kDeadEntry;
    });
  }
  if (is_non_leaf(state)) {
    return level != SeptLevel::k4K && check_table(table(link_of(raw)), below(level), check);
  }
  if (is_free(state)) {
    return raw == make_entry(state);
  }
  const bool counts = level == SeptLevel::k2M && (is_pending(state) || is_blocked(state));
  return level <= SeptLevel::k2M && (counts || hpa_field(raw).is_aligned(level_bytes(level)));
}

bool SecureEpt::check_table(const Entry* entries, SeptLevel level, TreeCheck& check) const {
  auto* writable = const_cast<Entry*>(entries);
  check.add(static_cast<std::uint64_t>(entries - table(0)) / kEntries);
  for (unsigned i = 0; i < kEntries; ++i) {
    if (!check_entry(load(writable[i]), level, check)) {
      return false;
    }
  }
  return level != SeptLevel::k4K || !is_uniform(writable, 0);
}

bool SecureEpt::invariants() const {
  TreeCheck linked;
  if (!check_table(table(0), top_level_, linked)) {
    return false;
  }
  TreeCheck all;
  for (std::uint64_t i = 0; i < fresh_; ++i) {
    all.add(i);
  }
  TreeCheck free;
  for (std::uint64_t i = free_head_; i != 0 && free.tables < all.tables;) {
    free.add(i);
    i = load(table(i)[0]);
  }
  return linked.tables == used_.load(std::memory_order_relaxed) &&
         linked.tables + free.tables == all.tables &&
         linked.mixed_sum + free.mixed_sum == all.mixed_sum;
}

}  // namespace accede::host
