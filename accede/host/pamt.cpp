// PAMT: walks, entry locks, tables on demand.
#include "accede/host/pamt.hpp"

#include "accede/base/assert.hpp"
#include "accede/host/pamt_entry.hpp"

#include <algorithm>

namespace accede::host {

using namespace internal;
using namespace std::string_view_literals;

namespace {

bool try_shared(PamtEntry& entry) {
  std::uint64_t word = word_of(entry).load(std::memory_order_relaxed);
  while (ExclusiveBit::get(word) == 0 && SharedCount::get(word) < SharedCount::kMax) {
    const std::uint64_t next = SharedCount::set(word, SharedCount::get(word) + 1);
    if (word_of(entry).compare_exchange_weak(word, next, std::memory_order_acquire,
                                             std::memory_order_relaxed)) {
      return true;
    }
  }
  return false;
}

void release_shared(PamtEntry& entry) {
  word_of(entry).fetch_sub(1ULL << 2, std::memory_order_release);
}

/// From the caller's shared lock to an exclusive one; false when there is another holder.
bool promote(PamtEntry& entry) {
  std::uint64_t word = word_of(entry).load(std::memory_order_relaxed);
  while (SharedCount::get(word) == 1) {
    const std::uint64_t next = LockField::set(word, ExclusiveBit::kMask);
    if (word_of(entry).compare_exchange_weak(word, next, std::memory_order_acquire,
                                             std::memory_order_relaxed)) {
      return true;
    }
  }
  return false;
}

std::size_t index_in_table(PhysAddr hpa, PageSize of) {
  return (hpa.value() >> page_shift(of)) % kPamtEntries;
}

std::uint64_t gibs_of(std::span<const abi::tdx::TdmrInfo> tdmrs) {
  std::uint64_t gibs = 0;
  for (const abi::tdx::TdmrInfo& tdmr : tdmrs) {
    gibs += Bytes{tdmr.size} / 1_GiB;
  }
  return gibs;
}

/// Tables that the entries of 1 GiB take.
std::uint64_t tables_for(std::uint64_t gibs) {
  return (gibs + kPamtEntries - 1) / kPamtEntries;
}

/// Tables that a GiB in use takes: its entries of 2 MiB, and with dynamic PAMT a bit a page.
std::uint64_t tables_of_gib(bool dynamic) {
  return dynamic ? 1 + (1_GiB / 4_KiB) / 8 / Pamt::kTableBytes.value() : 1;
}

}  // namespace

std::string_view name(PamtType type) {
  switch (type) {
    case PamtType::kFree:
      return "NDA"sv;
    case PamtType::kReserved:
      return "RSVD"sv;
    case PamtType::kRegular:
      return "REG"sv;
    case PamtType::kTdr:
      return "TDR"sv;
    case PamtType::kTdcx:
      return "TDCX"sv;
    case PamtType::kTdvpr:
      return "TDVPR"sv;
    case PamtType::kSept:
      return "EPT"sv;
    case PamtType::kPamt:
      return "PAMT"sv;
  }
  return "unknown"sv;
}

std::string_view name(PamtRefusal refusal) {
  switch (refusal) {
    case PamtRefusal::kOutsideTdmrs:
      return "outside the initialized TDMRs"sv;
    case PamtRefusal::kBusy:
      return "busy"sv;
    case PamtRefusal::kOutOfStorage:
      return "page-metadata storage exhausted"sv;
  }
  return "unknown"sv;
}

// --- One page ---

PamtPage::~PamtPage() {
  const auto level = static_cast<std::size_t>(level_);
  if (path_[level] == nullptr) {
    return;
  }
  if (lock_ == PamtLock::kExclusive) {
    // Nobody else changes a word that is locked exclusively.
    const std::uint64_t word = word_of(entry()).load(std::memory_order_relaxed);
    word_of(entry()).store(LockField::set(word, 0), std::memory_order_release);
  } else {
    release_shared(entry());
  }
  for (std::size_t above = level + 1; above < path_.size(); ++above) {
    release_shared(*path_[above]);
  }
}

PamtType PamtPage::type() const {
  return type_of(entry());
}

PhysAddr PamtPage::owner() const {
  return PhysAddr{OwnerField::get(word_of(entry()).load(std::memory_order_relaxed)) << 12};
}

std::uint64_t PamtPage::record() const {
  ACCEDE_ASSERT(level_ == PageSize::k4K);
  return entry().link;
}

void PamtPage::assign(PamtType type, PhysAddr owner, std::uint64_t record) {
  ACCEDE_ASSERT(lock_ == PamtLock::kExclusive && owner.is_aligned(4_KiB));
  ACCEDE_ASSERT(level_ == PageSize::k4K || record == 0);
  std::uint64_t word = word_of(entry()).load(std::memory_order_relaxed);
  word = TypeField::set(word, static_cast<std::uint64_t>(type));
  word_of(entry()).store(OwnerField::set(word, owner.value() >> 12), std::memory_order_relaxed);
  if (level_ == PageSize::k4K) {
    entry().link = record;
  }
}

// --- The whole ---

Pamt::Pamt(std::span<std::byte> storage) : storage_{storage} {
  ACCEDE_ASSERT(reinterpret_cast<std::uintptr_t>(storage.data()) % kTableBytes.value() == 0);
}

Bytes Pamt::storage_bound(std::span<const abi::tdx::TdmrInfo> tdmrs, std::uint64_t gibs,
                          std::uint64_t regions_2m, bool dynamic) {
  return kTableBytes * (tables_for(gibs_of(tdmrs)) + gibs * tables_of_gib(dynamic) + regions_2m);
}

bool Pamt::configure(std::span<const abi::tdx::TdmrInfo> tdmrs, bool dynamic) {
  ACCEDE_ASSERT(tdmrs.size() <= tdmrs_.size());
  const std::uint64_t gibs = gibs_of(tdmrs);
  if (kTableBytes * tables_for(gibs) > Bytes{storage_.size()}) {
    return false;
  }
  dynamic_ = dynamic;
  gib_count_ = 0;
  for (std::size_t i = 0; i < tdmrs.size(); ++i) {
    tdmrs_[i].info = tdmrs[i];
    tdmrs_[i].first_entry = gib_count_;
    tdmrs_[i].initialized.store(tdmrs[i].base, std::memory_order_relaxed);
    gib_count_ += Bytes{tdmrs[i].size} / 1_GiB;
  }
  tdmr_count_ = tdmrs.size();
  first_table_ = tables_for(gibs);
  tables_.store(first_table_, std::memory_order_relaxed);
  std::fill_n(table(0), gib_count_, PamtEntry{});
  return true;
}

std::expected<PhysAddr, Pamt::InitializeError> Pamt::initialize(PhysAddr base) {
  const auto end = tdmrs_.begin() + static_cast<std::ptrdiff_t>(tdmr_count_);
  const auto found = std::find_if(
      tdmrs_.begin(), end, [base](const Tdmr& tdmr) { return tdmr.info.base == base.value(); });
  if (found == end) {
    return std::unexpected{InitializeError::kNoSuchTdmr};
  }
  Tdmr& tdmr = *found;
  if (tdmr.locked.exchange(true, std::memory_order_acquire)) {
    return std::unexpected{InitializeError::kBusy};
  }
  const std::uint64_t before = tdmr.initialized.load(std::memory_order_relaxed);
  const bool done = before == tdmr.info.base + tdmr.info.size;
  const std::uint64_t after = done ? before : before + kInitializeStep.value();
  tdmr.initialized.store(after, std::memory_order_release);
  tdmr.locked.store(false, std::memory_order_release);
  if (done) {
    return std::unexpected{InitializeError::kAlreadyDone};
  }
  return PhysAddr{after}.align_down(1_GiB);
}

const Pamt::Tdmr* Pamt::covering(PhysAddr hpa) const {
  for (std::size_t i = 0; i < tdmr_count_; ++i) {
    const Tdmr& tdmr = tdmrs_[i];
    // A GiB can be used when all of it is initialized.
    const PhysAddr usable =
        PhysAddr{tdmr.initialized.load(std::memory_order_acquire)}.align_down(1_GiB);
    if (tdmr.info.base <= hpa.value() && hpa < usable) {
      return &tdmr;
    }
  }
  return nullptr;
}

bool Pamt::reserved(const Tdmr& tdmr, PhysAddr begin, Bytes size) {
  const std::uint64_t offset = begin.value() - tdmr.info.base;
  return std::ranges::any_of(tdmr.info.reserved, [&](const abi::tdx::ReservedArea& area) {
    return area.size != 0 && offset < area.offset + area.size &&
           area.offset < offset + size.value();
  });
}

PamtEntry* Pamt::table(std::uint64_t link) const {
  return reinterpret_cast<PamtEntry*>(storage_.data() + link * kTableBytes.value());
}

PamtEntry& Pamt::gib_entry(const Tdmr& tdmr, PhysAddr hpa) const {
  return table(0)[tdmr.first_entry + (hpa - PhysAddr{tdmr.info.base}) / 1_GiB];
}

/// The entries of size `of` below `entry`, whose page begins at `begin`; nothing when the storage
/// is used up. Precondition: `entry` is locked, at least shared.
PamtEntry* Pamt::table_below(PamtEntry& entry, const Tdmr& tdmr, PhysAddr begin, PageSize of) {
  const std::atomic_ref link{entry.link};
  if (const std::uint64_t number = TableField::get(link.load(std::memory_order_acquire));
      number != 0) {
    return table(number);
  }
  const SpinGuard guard{table_lock_};
  const std::uint64_t word = link.load(std::memory_order_relaxed);
  if (TableField::get(word) != 0) {
    return table(TableField::get(word));
  }
  const std::uint64_t number = tables_.load(std::memory_order_relaxed);
  const std::uint64_t next = number + (of == PageSize::k2M ? tables_of_gib(dynamic_) : 1);
  if (next * kTableBytes.value() > storage_.size() || next > TableField::kMax) {
    return nullptr;
  }
  tables_.store(next, std::memory_order_relaxed);
  std::fill_n(table(number), (next - number) * kPamtEntries, PamtEntry{});
  for (std::size_t i = 0; of == PageSize::k4K && i < kPamtEntries; ++i) {
    if (reserved(tdmr, begin + bytes(of) * i, bytes(of))) {
      table(number)[i].word = TypeField::set(0, static_cast<std::uint64_t>(PamtType::kReserved));
    }
  }
  link.store(TableField::set(word, number), std::memory_order_release);
  return table(number);
}

std::expected<PamtPage, PamtRefusal> Pamt::walk(PhysAddr hpa, PageSize size, PamtLock lock) {
  const Tdmr* tdmr = covering(hpa);
  if (tdmr == nullptr) {
    return std::unexpected{PamtRefusal::kOutsideTdmrs};
  }
  std::array<PamtEntry*, 3> path{};
  PamtRefusal refusal = PamtRefusal::kBusy;
  PamtEntry* entry = &gib_entry(*tdmr, hpa);
  for (PageSize level = PageSize::k1G;;
       level = static_cast<PageSize>(static_cast<int>(level) - 1)) {
    if (!try_shared(*entry)) {
      break;
    }
    path[static_cast<std::size_t>(level)] = entry;
    const PamtType node = dynamic_ && level == PageSize::k2M ? PamtType::kPamt : PamtType::kFree;
    if (level == size || level == PageSize::k4K || type_of(*entry) != node) {
      if (lock == PamtLock::kExclusive && !promote(*entry)) {
        break;
      }
      return PamtPage{path, level, lock};
    }
    const auto below = static_cast<PageSize>(static_cast<int>(level) - 1);
    PamtEntry* entries = table_below(*entry, *tdmr, hpa.align_down(bytes(level)), below);
    if (entries == nullptr) {
      refusal = PamtRefusal::kOutOfStorage;
      break;
    }
    entry = entries + index_in_table(hpa, below);
  }
  for (PamtEntry* held : path) {
    if (held != nullptr) {
      release_shared(*held);
    }
  }
  return std::unexpected{refusal};
}

bool Pamt::range_free(const PamtPage& page, PhysAddr hpa) const {
  ACCEDE_ASSERT(page.level() == PageSize::k2M && page.lock_ == PamtLock::kExclusive);
  const Tdmr* tdmr = covering(hpa);
  ACCEDE_ASSERT(tdmr != nullptr);
  if (reserved(*tdmr, hpa, bytes(PageSize::k2M))) {
    return false;
  }
  if (dynamic_) {
    for (PhysAddr at = hpa; at < hpa + bytes(PageSize::k2M); at += 4_KiB * 64) {
      if (lent_word(at).load(std::memory_order_relaxed) != 0) {
        return false;
      }
    }
    return page.type() == PamtType::kFree;
  }
  return !pair_in_use(page).has_value();
}

Bytes Pamt::storage_used() const {
  return kTableBytes * tables_.load(std::memory_order_relaxed);
}

bool Pamt::invariants() const {
  std::uint64_t links = 0;
  const auto sound = [&](std::span<PamtEntry> entries, PageSize level, auto& self) -> bool {
    return std::ranges::all_of(entries, [&](PamtEntry& entry) {
      if (LockField::get(entry.word) != 0) {
        return false;
      }
      const std::uint64_t number = TableField::get(entry.link);
      if (level == PageSize::k4K || number == 0) {
        return true;
      }
      links += level == PageSize::k1G ? tables_of_gib(dynamic_) : 1;
      const auto below = static_cast<PageSize>(static_cast<int>(level) - 1);
      return number >= first_table_ && number < tables_.load(std::memory_order_relaxed) &&
             self(std::span{table(number), kPamtEntries}, below, self);
    });
  };
  return gib_count_ == 0 || (sound(std::span{table(0), gib_count_}, PageSize::k1G, sound) &&
                             first_table_ + links == tables_.load(std::memory_order_relaxed));
}

}  // namespace accede::host
