// The TDX module's record of physical memory: which page of a TDMR is used for what, and by whom.
#pragma once

#include "accede/abi/tdmr.hpp"
#include "accede/base/spin_lock.hpp"
#include "accede/base/units.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace accede::host {

/// What a page is used for. The module's numbers.
enum class PamtType : std::uint8_t {
  kFree = 0,      ///< NDA: not directly assigned; at 2M and 1G also "look below"
  kReserved = 1,  ///< in a reserved area of its TDMR
  kRegular = 3,   ///< private memory of a TD
  kTdr = 4,       ///< root of a TD
  kTdcx = 5,      ///< a page of TDCS or TDVPS
  kTdvpr = 6,     ///< root of a vCPU
  kSept = 8,      ///< a secure-EPT table
  kPamt = 15,     ///< at 2M with dynamic PAMT: has a pair of pages for the entries below
};
/// The vendor's name, e.g. "TDVPR".
[[nodiscard]] std::string_view name(PamtType type);

enum class PamtLock : std::uint8_t { kShared, kExclusive };

enum class PamtRefusal : std::uint8_t {
  kOutsideTdmrs,  ///< in no TDMR, or in a part of one that is not initialized yet
  kBusy,          ///< another call holds an entry on the way
  kOutOfStorage,  ///< the model has no table left; nothing changed. Not architectural
};
[[nodiscard]] std::string_view name(PamtRefusal refusal);

/// An entry, 16 bytes as the module's: lock 15:0, type 23:16, owner 63:24 in 4 KiB pages; then the
/// word in which the module keeps the epoch of a blocked page. SecureEpt keeps those, so that here
/// the word links the table below (2M, 1G) or says what the owner of the Pamt wants (4K). With
/// dynamic PAMT the pages of the pair are in the owner field and in the link's bits 63:28, as the
/// module's.
struct PamtEntry {
  std::uint64_t word = 0;
  std::uint64_t link = 0;
};
static_assert(sizeof(PamtEntry) == 16);

/// An entry that a walk found and locked, with the entries above it locked shared; dropped with the
/// object. Only a holder of an exclusive lock may change it.
class PamtPage {
 public:
  PamtPage(PamtPage&& other) noexcept
      : path_{std::exchange(other.path_, {})}, level_{other.level_}, lock_{other.lock_} {}
  PamtPage& operator=(PamtPage&&) = delete;
  ~PamtPage();

  [[nodiscard]] PamtType type() const;
  /// The TDR of the TD that uses the page; 0 for a free one and for a TDR.
  [[nodiscard]] PhysAddr owner() const;
  [[nodiscard]] PageSize level() const { return level_; }
  /// The embedder's number; what assign() set.
  [[nodiscard]] std::uint64_t record() const;

  /// Precondition: locked exclusively; `owner` is a 4 KiB page; at 4K level if record is not 0.
  void assign(PamtType type, PhysAddr owner, std::uint64_t record = 0);
  void free() { assign(PamtType::kFree, PhysAddr{}); }

 private:
  friend class Pamt;
  PamtPage(std::array<PamtEntry*, 3> path, PageSize level, PamtLock lock)
      : path_{path}, level_{level}, lock_{lock} {}
  [[nodiscard]] PamtEntry& entry() const { return *path_[static_cast<std::size_t>(level_)]; }

  std::array<PamtEntry*, 3> path_{};  ///< by PageSize; none below level_
  PageSize level_;
  PamtLock lock_;
};

/// The metadata of all TDMRs, with the module's three levels and locks: entries of 1 GiB and 2 MiB
/// above those of 4 KiB. An entry that is not free at a larger size describes the whole page.
///
/// The module has all entries in memory that the host gives; here those of a 2M region and of a
/// GiB get a table of 8 KiB when a page of them is first locked, so that a host of any size costs
/// what its TDs use. Tables stay until configure().
///
/// Dynamic PAMT (module 2.0): entries of 4 KiB pages exist only while the host lends a pair of
/// pages for them (add_pair()); a bit a page says which pages are lent. Such a GiB takes 40 KiB.
///
/// Thread-safe, configure() aside. Entry locks are never waited for: the loser is kBusy, as in the
/// module. A spin lock guards the list of tables; longest section: filling one (512 entries).
class Pamt {
 public:
  static constexpr Bytes kTableBytes{8192};
  /// Progress of one initialize(): the module does 1024 entries.
  static constexpr Bytes kInitializeStep = 4_MiB;

  /// No TDMRs: every page is outside. `storage`, 8 KiB aligned, must outlive the object.
  explicit Pamt(std::span<std::byte> storage);
  Pamt(const Pamt&) = delete;
  Pamt& operator=(const Pamt&) = delete;

  /// Enough for `tdmrs` while pages in at most `gibs` GiB and, one by one, in at most `regions_2m`
  /// 2M regions were ever locked.
  [[nodiscard]] static Bytes storage_bound(std::span<const abi::tdx::TdmrInfo> tdmrs,
                                           std::uint64_t gibs, std::uint64_t regions_2m,
                                           bool dynamic = false);

  /// Takes the TDMRs, nothing of them initialized. False: not even the entries of 1 GiB fit.
  /// Preconditions: check_tdmrs() took the list; no other call runs.
  [[nodiscard]] bool configure(std::span<const abi::tdx::TdmrInfo> tdmrs, bool dynamic = false);
  [[nodiscard]] bool dynamic() const { return dynamic_; }

  enum class InitializeError : std::uint8_t { kNoSuchTdmr, kBusy, kAlreadyDone };
  /// One step of TDH.SYS.TDMR.INIT for the TDMR that begins at `base`. The first address that is
  /// not usable yet: progress, rounded down to 1 GiB.
  [[nodiscard]] std::expected<PhysAddr, InitializeError> initialize(PhysAddr base);

  /// Walks down to the entry of `size`, or to the larger page that `hpa` lies in.
  [[nodiscard]] std::expected<PamtPage, PamtRefusal> walk(PhysAddr hpa, PageSize size,
                                                          PamtLock lock);

  /// True when no 4 KiB page below is in use or reserved.
  /// Precondition: `page` is a free 2M page at `hpa`, locked exclusively.
  [[nodiscard]] bool range_free(const PamtPage& page, PhysAddr hpa) const;

  /// Whether `hpa` is in a part of a TDMR that is initialized.
  [[nodiscard]] bool covers(PhysAddr hpa) const { return covering(hpa) != nullptr; }

  // --- Dynamic PAMT only. `region`: a 2M page at `hpa`, locked exclusively ---

  /// Whether the 4 KiB page is lent to the module. Precondition: a walk reached its GiB.
  [[nodiscard]] bool lent(PhysAddr page) const;
  /// Marks a page as lent; false when it is so already, or reserved. Precondition as lent().
  [[nodiscard]] bool lend(PhysAddr page);
  /// The page is the host's again. Precondition: lent, and for no pair.
  void give_back(PhysAddr page);
  /// Gives the region entries for its 4 KiB pages, in pages that were lent. False: no storage.
  /// Precondition: the region is free.
  [[nodiscard]] bool add_pair(PamtPage& region, PhysAddr hpa, std::array<PhysAddr, 2> pages);
  /// Which page of the pair describes a page in use, if one does.
  [[nodiscard]] std::optional<unsigned> pair_in_use(const PamtPage& region) const;
  /// Takes the entries away; the pages are no longer lent. Preconditions: the region has a pair,
  /// and none of its pages is in use.
  [[nodiscard]] std::array<PhysAddr, 2> remove_pair(PamtPage& region);

  [[nodiscard]] Bytes storage_used() const;
  /// True when no entry is locked and tables are linked once. Only while no other call runs.
  [[nodiscard]] bool invariants() const;

 private:
  struct Tdmr {
    abi::tdx::TdmrInfo info;
    std::size_t first_entry = 0;                 ///< of its entries of 1 GiB
    std::atomic<std::uint64_t> initialized = 0;  ///< end of the part that is
    std::atomic<bool> locked = false;            ///< an initialize() runs
  };

  [[nodiscard]] const Tdmr* covering(PhysAddr hpa) const;
  [[nodiscard]] static bool reserved(const Tdmr& tdmr, PhysAddr begin, Bytes size);
  [[nodiscard]] PamtEntry* table(std::uint64_t link) const;
  [[nodiscard]] PamtEntry* table_below(PamtEntry& entry, const Tdmr& tdmr, PhysAddr begin,
                                       PageSize of);
  [[nodiscard]] PamtEntry& gib_entry(const Tdmr& tdmr, PhysAddr hpa) const;
  [[nodiscard]] std::atomic_ref<std::uint64_t> lent_word(PhysAddr page) const;

  std::span<std::byte> storage_;
  std::array<Tdmr, abi::tdx::kMostTdmrs> tdmrs_{};
  std::size_t tdmr_count_ = 0;
  std::size_t gib_count_ = 0;
  bool dynamic_ = false;
  std::uint64_t first_table_ = 0;
  std::atomic<std::uint64_t> tables_ = 0;  ///< in use: those with numbers below
  SpinLock table_lock_;
};

}  // namespace accede::host
