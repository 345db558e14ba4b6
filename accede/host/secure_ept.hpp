// The secure EPT of one TD: the page states of the TDX module and every call that changes them.
#pragma once

#include "accede/abi/tdx.hpp"
#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/spin_lock.hpp"
#include "accede/base/units.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

namespace accede::host {

using abi::tdx::SeptLevel;
using abi::tdx::SeptState;

namespace internal {
class LockedEntry;  // sept_lock.hpp
}

/// What a TD is created with, as far as page states depend on it.
struct SecureEptConfig {
  unsigned gpa_width = 48;         ///< GPAW: 48 or 52; the shared bit is GPAW-1
  bool pending_ve_disable = true;  ///< TD_CTLS.PENDING_VE_DISABLE (ATTRIBUTES.SEPT_VE_DISABLE)
  bool page_release = false;       ///< CONFIG_FLAGS.PAGE_RELEASE: MEM.PAGE.RELEASE exists
};

/// What the host must know of a TD exit that a guest call or access caused (reference 2.5).
struct TdExit {
  /// RAX of TDH.VP.ENTER: VMX reason 48, or 0x9000020500000000 (HOST_PRIORITY_BUSY_TIMEOUT; then
  /// no other member means anything).
  std::uint64_t rax = 0;
  PhysAddr gpa;                                ///< page that was asked for, shared bit clear
  SeptLevel requested_level = SeptLevel::k4K;  ///< level of the ACCEPT
  SeptLevel error_level = SeptLevel::k4K;      ///< level of the entry that stopped the walk
  SeptState error_state = SeptState::kFree;    ///< its state
  bool is_leaf = false;                        ///< it is a leaf (free entries are not)

  /// RDX of TDH.VP.ENTER after an ACCEPT.
  [[nodiscard]] std::uint64_t extended_qualification() const;
};

enum class GuestCallKind : std::uint8_t {
  kCompleted,     ///< RAX holds the status; RIP advances
  kInterrupted,   ///< an interrupt is pending; RIP and RAX stay, the TDCALL runs again later
  kExit,          ///< asynchronous TD exit; the host acts and the TDCALL runs again
  kOutOfStorage,  ///< the model cannot describe the result; nothing changed. Not architectural
};
[[nodiscard]] std::string_view name(GuestCallKind kind);

/// Outcome of MEM.PAGE.ACCEPT or MEM.PAGE.RELEASE.
struct GuestCallResult {
  GuestCallKind kind = GuestCallKind::kCompleted;
  std::uint64_t rax = 0;  ///< kCompleted: the status word
  std::uint64_t rcx = 0;  ///< RELEASE, kCompleted: RCX out; ACCEPT leaves RCX alone
  TdExit exit;            ///< kExit
};

enum class AccessKind : std::uint8_t {
  kMapped,         ///< the guest may use the page
  kViolationExit,  ///< FREE, REMOVED, BLOCKED or no table: TD exit 48, the host must act
  kPendingExit,    ///< PENDING, #VE disabled: TD exit of type 6, a VMM ends the TD
  kPendingVe,      ///< PENDING, #VE enabled: #VE 48 into the guest
  kNotPrivate,     ///< the address has the shared bit or is beyond GPAW: not our tree
};
[[nodiscard]] std::string_view name(AccessKind kind);

/// The entry in which a walk for an address ends.
struct EntryView {
  SeptState state = SeptState::kFree;
  SeptLevel level = SeptLevel::k4K;
  PhysAddr hpa;  ///< host address of the 4 KiB page that contains the GPA; 0 unless a leaf
};

/// What happens when the guest touches a private address.
struct Access {
  AccessKind kind = AccessKind::kNotPrivate;
  EntryView entry;
};

/// Result of a host call (SEAMCALL).
struct HostResult {
  std::uint64_t status = 0;  ///< RAX
  /// Success: the entry afterwards. SEPT error: the entry that stopped the call (RCX/RDX out).
  SeptState state = SeptState::kFree;
  SeptLevel level = SeptLevel::k4K;
  PhysAddr hpa;  ///< REMOVE: the page that was removed; else that of the entry, 0 if it has none

  [[nodiscard]] bool ok() const { return !abi::tdx::is_error(status); }
};

/// Why the model, not the module, cannot do a call.
enum class SeptError : std::uint8_t {
  kOutOfStorage,  ///< no table page is left in the storage; nothing changed
};
[[nodiscard]] std::string_view name(SeptError error);

using HostCall = std::expected<HostResult, SeptError>;

/// A maximal run of pages in one state at one level, as visit() reports it.
struct StateRun {
  PhysRange range;
  SeptState state;
  SeptLevel level;  ///< of the entries that hold the state; missing tables are FREE at their level
};

/// What an injected BUSY looks like (reference 2.1 row 3).
enum class BusyCause : std::uint8_t {
  kGuest,                ///< another vCPU holds the entry: OPERAND_BUSY|RCX
  kHostPriority,         ///< the host holds it with priority: the guest sees plain BUSY too
  kHostPriorityTimeout,  ///< and held it too long: TD exit 0x9000020500000000
};

/// The epoch that a vCPU runs in; what vcpu_entered() returned.
enum class VcpuEpoch : std::uint8_t { kEven = 0, kOdd = 1 };

/// The secure EPT of one TD, with the decisions and status words of the TDX module.
///
/// Entries are the module's own bit layout in 512-entry tables. Where all 512 children of a 2M
/// entry share a state (not a blocked one) and have contiguous host pages, the table is *virtual*:
/// a mark in the 2M entry, no memory. Tables appear when children start to differ and go back to
/// the free list when they agree again. Children that are BLOCKED always have a table: each page
/// has an epoch of its own, and a page that was blocked can be removed without storage.
///
/// Invariants (checked by invariants()): table links form a tree; each table page is linked once or
/// free; a table whose children are uniform is virtual; at rest no lock bit is set.
///
/// Thread-safe: every member may be called from any number of vCPU and host threads, construction
/// and destruction aside. A call is linearizable at the entry it names: it takes effect at one
/// instant between its start and its end. A BLOCK of a non-leaf acts on walks that begin after it;
/// walks that passed it may still finish, as translations may until TRACK. Reads (access, lookup)
/// take no lock. They detect a table that was recycled under them by a 16-bit generation.
///
/// Locks: (1) TDEL of an entry, as in the module: never waited for, the loser gets
/// OPERAND_BUSY|RCX; held while pages are zeroed. (2) a spin bit in every entry above the 4K level:
/// guards that entry and the 4K entries below it. (3) the free-list lock. Order: spin bits from the
/// top level down, then by address, then the free list. TDEL is taken and dropped under (2), which
/// is never held across a callback. Longest spin section: 512 entry writes (a table appears) and
/// 512 reads (check for uniformity); PROMOTE and DEMOTE of 1G lock 512 entries at once.
///
/// Not modelled: PAMT (nobody checks that two GPAs have different HPAs), L2 VMs, migration calls
/// (force_state() is a seam for tests), SEPT.REMOVE. Block epochs are kept modulo 1024: a page left
/// blocked for exactly n*1024 tracks reads as not tracked once more, never the other way round.
class SecureEpt {
 public:
  /// Bytes and alignment of a table page.
  static constexpr Bytes kTableBytes{4096};

  using ZeroPage = FunctionRef<void(PhysAddr hpa_4k)>;
  using InterruptPending = FunctionRef<bool()>;
  using Visitor = FunctionRef<void(const StateRun&)>;

  /// An empty tree; the TD is being built (not finalized). `storage` must outlive the object and is
  /// not cleared: only pages that become tables are written.
  /// Preconditions: gpa_width is 48 or 52; `storage` is 4 KiB aligned and holds at least one table.
  SecureEpt(const SecureEptConfig& config, std::span<std::byte> storage);
  SecureEpt(const SecureEpt&) = delete;
  SecureEpt& operator=(const SecureEpt&) = delete;

  /// Storage that is enough to describe `ranges` (any order, may overlap) while at most
  /// `mixed_2m_regions` 2M regions have 4K pages that differ or are blocked. Uniform memory needs
  /// one table per GiB and per 512 GiB touched: 0.0004 %.
  [[nodiscard]] static Bytes storage_bound(std::span<const PhysRange> ranges, unsigned gpa_width,
                                           std::uint64_t mixed_2m_regions);

  // --- The guest's side ---

  /// TDG.MEM.PAGE.ACCEPT with operand RCX as the guest gave it (TDX module: MEM.PAGE.ACCEPT,
  /// reference 2.1). `zero_page` clears one 4 KiB host page, never under a lock; a 2M page takes
  /// 512 calls and polls `interrupt_pending` after each but the last. On kInterrupted the progress
  /// is in the entry and a repeat of the call goes on there.
  /// The callbacks must not call this object.
  [[nodiscard]] GuestCallResult accept(std::uint64_t rcx, ZeroPage zero_page,
                                       InterruptPending interrupt_pending);

  /// accept() for memory whose content stays: launch pages that are in use. Never interrupted.
  [[nodiscard]] GuestCallResult accept_keeping_content(std::uint64_t rcx);

  /// TDG.MEM.PAGE.RELEASE: MAPPED -> PENDING. Without page_release in the configuration the leaf
  /// does not exist: OPERAND_INVALID|RAX. Which status word a wrong state gives is partly
  /// UNCONFIRMED (reference 1.1 leaf 30): FREE or no table EPT_ENTRY_FREE|RCX, other size
  /// PAGE_SIZE_MISMATCH|level of what is there, other state EPT_ENTRY_STATE_INCORRECT|RCX.
  [[nodiscard]] GuestCallResult release(std::uint64_t rcx);

  /// What a read or write of `gpa` meets. Write protection by BLOCKEDW is not modelled: those
  /// states count as mapped.
  [[nodiscard]] Access access(PhysAddr gpa) const;

  /// TD_CTLS.PENDING_VE_DISABLE at run time (VM.WR with FLEXIBLE_PENDING_VE).
  void set_pending_ve_disable(bool disable);
  [[nodiscard]] bool pending_ve_disable() const;

  // --- The host's side (SEAMCALLs) ---
  // Common to all: GPA or level out of range OPERAND_INVALID|RCX; no table on the way, a blocked
  // one, or a larger leaf EPT_WALK_FAILED|RCX; entry locked OPERAND_BUSY|RCX; source state not
  // legal EPT_ENTRY_STATE_INCORRECT|RCX; host page misaligned OPERAND_INVALID|R8.

  /// TDH.MEM.PAGE.ADD: FREE -> MAPPED, 4K, before finalize() (else OP_STATE_INCORRECT). Copying
  /// and measuring are the caller's (Measurement).
  [[nodiscard]] HostCall page_add(PhysAddr gpa, PhysAddr hpa);
  /// TDH.MEM.PAGE.AUG: FREE or REMOVED -> PENDING, 4K or 2M, after finalize() (else
  /// OP_STATE_INCORRECT).
  [[nodiscard]] HostCall page_aug(PhysAddr gpa, SeptLevel level, PhysAddr hpa);
  /// TDH.MEM.SEPT.ADD: FREE -> NL_MAPPED. `level` is that of the entry that will point to the new
  /// table: 2M up to the root's. A table of 4K entries (level 2M) takes no storage.
  [[nodiscard]] HostCall sept_add(PhysAddr gpa, SeptLevel level);
  /// TDH.MEM.RANGE.BLOCK: MAPPED, BLOCKEDW, PENDING, PENDING_BLOCKEDW, NL_MAPPED -> *_BLOCKED; any
  /// blocked state: GPA_RANGE_ALREADY_BLOCKED|RCX. Records the epoch.
  [[nodiscard]] HostCall range_block(PhysAddr gpa, SeptLevel level);
  /// TDH.MEM.RANGE.UNBLOCK: back to MAPPED, PENDING or NL_MAPPED; TLB_TRACKING_NOT_DONE|RCX.
  /// After BLOCK of a BLOCKEDW page the result is MAPPED (INFERRED: one TDB state per kind).
  [[nodiscard]] HostCall range_unblock(PhysAddr gpa, SeptLevel level);
  /// TDH.MEM.PAGE.REMOVE: BLOCKED, PENDING_BLOCKED and tracked (any mapped or pending leaf before
  /// finalize) -> FREE; GPA_RANGE_NOT_BLOCKED|RCX, TLB_TRACKING_NOT_DONE|RCX.
  [[nodiscard]] HostCall page_remove(PhysAddr gpa, SeptLevel level);
  /// TDH.MEM.PAGE.DEMOTE: a 2M or 1G leaf, blocked and tracked when finalized, -> 512 unblocked
  /// children in its state. The progress of an interrupted accept is dropped.
  [[nodiscard]] HostCall page_demote(PhysAddr gpa, SeptLevel level);
  /// TDH.MEM.PAGE.PROMOTE: NL_BLOCKED, tracked, whose 512 children are leaves, all MAPPED or all
  /// PENDING, on contiguous aligned host memory -> one leaf in their state;
  /// EPT_INVALID_PROMOTE_CONDITIONS|RCX. Levels 2M and 1G.
  [[nodiscard]] HostCall page_promote(PhysAddr gpa, SeptLevel level);
  /// TDH.MEM.TRACK: starts the next epoch; PREVIOUS_TLB_EPOCH_BUSY|TD_EPOCH while a vCPU still runs
  /// in the previous one. Returns the status word.
  [[nodiscard]] std::uint64_t track();
  /// TDH.MR.FINALIZE: the TD becomes runnable. A second time: OP_STATE_INCORRECT.
  [[nodiscard]] std::uint64_t finalize();
  [[nodiscard]] bool finalized() const;

  /// A vCPU enters the TD (TDH.VP.ENTER): counts in the current epoch until vcpu_left() with the
  /// returned value. An embedder that flushes by other means need not call these.
  /// Precondition: fewer than 65535 vCPUs inside.
  [[nodiscard]] VcpuEpoch vcpu_entered();
  void vcpu_left(VcpuEpoch epoch);

  // --- Looking ---

  /// The entry in which a walk for `gpa` ends; nothing for an address that is not private.
  [[nodiscard]] std::optional<EntryView> lookup(PhysAddr gpa) const;
  /// The entry of `level` in the module's bit layout; the HPA of a non-leaf entry reads as 0.
  /// Nothing when the walk ends above `level`.
  [[nodiscard]] std::optional<std::uint64_t> raw_entry(PhysAddr gpa, SeptLevel level) const;
  /// Calls `visitor` with the maximal runs that cover `range`, ascending. Each entry is read once;
  /// concurrent changes may or may not be seen.
  void visit(PhysRange range, Visitor visitor) const;
  /// One past the highest private GPA: 2^(GPAW-1).
  [[nodiscard]] PhysAddr private_end() const { return PhysAddr{1ULL << (gpa_width_ - 1)}; }
  [[nodiscard]] unsigned gpa_width() const { return gpa_width_; }
  /// Bytes of the storage that are tables now.
  [[nodiscard]] Bytes storage_used() const;
  /// True when the structure is sound. Only while no other call runs.
  [[nodiscard]] bool invariants() const;

  // --- For tests ---

  /// The next `count` accepts that reach an entry find it busy. Replaces what was left over.
  void inject_busy(std::uint32_t count, BusyCause cause);
  /// Puts the entry of `level` in a leaf state (or FREE, REMOVED) that no call here reaches (export
  /// states), keeping its HPA. False: the walk ends above, the entry has a table, or no storage.
  /// Precondition: not a non-leaf state; at 1G only an existing leaf.
  [[nodiscard]] bool force_state(PhysAddr gpa, SeptLevel level, SeptState state);

 private:
  using Locked = internal::LockedEntry;
  friend Locked;

  /// An entry as it reads now, in the module's layout, and how much memory reads the same.
  struct Found {
    std::uint64_t raw;
    SeptLevel level;    ///< of the entry
    SeptLevel uniform;  ///< >= level: the aligned area around the GPA that is in this state
  };

  using Entry = std::uint64_t;

  [[nodiscard]] bool is_private(PhysAddr gpa) const { return gpa < private_end(); }
  [[nodiscard]] bool legal(PhysAddr gpa, SeptLevel level) const {
    return is_private(gpa) && gpa.is_aligned(abi::tdx::level_bytes(level));
  }
  [[nodiscard]] Found find(PhysAddr gpa, SeptLevel level) const;
  [[nodiscard]] std::optional<Found> find_once(PhysAddr gpa, SeptLevel level) const;

  [[nodiscard]] std::optional<std::uint64_t> take_table();
  void give_table(std::uint64_t link);

  template <class Op>
  [[nodiscard]] HostCall at_entry(PhysAddr gpa, SeptLevel level, Op op);
  [[nodiscard]] std::uint64_t unblocked_refusal(std::uint64_t raw) const;
  [[nodiscard]] bool tracked(std::uint64_t raw) const;
  [[nodiscard]] std::uint64_t epoch() const;
  [[nodiscard]] HostCall demote_1g(Locked& entry);
  [[nodiscard]] HostCall promote_1g(Locked& entry);
  [[nodiscard]] HostCall promote_2m(Locked& entry);

  [[nodiscard]] std::optional<GuestCallResult> injected_busy();
  [[nodiscard]] GuestCallResult accept_impl(std::uint64_t rcx, const ZeroPage* zero_page,
                                            const InterruptPending* interrupt_pending);
  struct TreeCheck;
  [[nodiscard]] bool check_table(const Entry* entries, SeptLevel level, TreeCheck& check) const;
  [[nodiscard]] bool check_entry(std::uint64_t raw, SeptLevel level, TreeCheck& check) const;

  std::span<std::byte> storage_;
  unsigned gpa_width_;
  SeptLevel top_level_;  ///< of the root table's entries
  bool page_release_;
  std::atomic<bool> pending_ve_disable_;
  std::atomic<bool> finalized_ = false;
  /// Epoch 63:32, vCPUs inside in odd epochs 31:16 and in even epochs 15:0: one word, so that TRACK
  /// sees both counts and the epoch at one instant.
  std::atomic<std::uint64_t> epoch_word_ = 1ULL << 32;
  /// Cause 63:32, accepts left 31:0.
  std::atomic<std::uint64_t> busy_left_ = 0;

  SpinLock free_lock_;
  std::uint32_t free_head_ = 0;  ///< first free table; 0 (the root) = none. Under free_lock_
  std::uint32_t fresh_ = 1;      ///< first table never used. Under free_lock_
  std::atomic<std::uint32_t> used_ = 1;
};

}  // namespace accede::host
