// The memory of one TD as a VMM manages it around the secure EPT: what to do on exits and MapGPA.
#pragma once

#include "accede/abi/tdx.hpp"
#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/page_attributes.hpp"
#include "accede/host/secure_ept.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

namespace accede::host {

/// The page size in which the host backs private memory.
enum class Backing : std::uint8_t {
  k2M,  ///< 2M where a whole aligned 2M is private RAM, 4K elsewhere (KVM huge page series)
  k4K,  ///< always 4K (mainline KVM through 7.3): a 2M accept ends in PAGE_SIZE_MISMATCH
};
[[nodiscard]] std::string_view name(Backing backing);

/// What the embedder is told while it must keep its own page tables in step. Every callback runs
/// while the 2M region of the page cannot be converted, so that what it is told stays true until it
/// returns. A callback must not call the TdMemory or the SecureEpt.
struct TdMemoryHooks {
  /// The guest may now use the private page: `gpa` and `hpa` are the bases of a page of `size`.
  FunctionRef<void(PhysAddr gpa, PhysAddr hpa, PageSize size)> mapped;
  /// The guest must no longer reach these private pages; called before they are removed. They may
  /// be a part of a larger page that `mapped` reported: the embedder splits or drops that. Some of
  /// them may never have been mapped.
  FunctionRef<void(PhysRange)> private_gone;
  /// The guest must no longer reach these pages through their shared addresses.
  FunctionRef<void(PhysRange)> shared_gone;
  /// The host added a pending page (AUG). For statistics.
  FunctionRef<void(PhysAddr gpa, PageSize size)> augmented;
  /// Makes every vCPU leave the guest and enter again (IPI), so that TRACK completes. Must not wait
  /// for a vCPU that is in the hypervisor. May do nothing where vcpu_entered() is not used.
  FunctionRef<void()> kick_vcpus;
};

enum class AcceptOutcomeKind : std::uint8_t {
  kCompleted,     ///< put `rax` into RAX and advance RIP
  kInterrupted,   ///< resume the guest at the same TDCALL (interrupt, or a conversion is under way)
  kSharedPage,    ///< the page is shared: private access to a shared page; stop the guest
  kNotRam,        ///< no RAM there; stop the guest
  kOutOfStorage,  ///< page-state storage exhausted; state unchanged
};
[[nodiscard]] std::string_view name(AcceptOutcomeKind kind);

/// Outcome of a TDCALL on a page: ACCEPT or RELEASE.
struct AcceptOutcome {
  AcceptOutcomeKind kind = AcceptOutcomeKind::kCompleted;
  std::uint64_t rax = 0;          ///< kCompleted: status word
  std::uint64_t rcx = 0;          ///< RELEASE, kCompleted: RCX out
  PhysAddr gpa;                   ///< page of the operand
  PageSize size = PageSize::k4K;  ///< size that was asked for (a refused level reads as 1G)
  Bytes bytes;                    ///< bytes accepted or released: 0 unless rax is 0
};

enum class TouchKind : std::uint8_t {
  kMapped,        ///< private: hook `mapped` was called; resume
  kShared,        ///< shared RAM: `mapped_shared` was called; resume
  kRetry,         ///< a conversion is under way: resume at the same instruction
  kPendingExit,   ///< not accepted; #VE disabled: a VMM ends the TD
  kPendingVe,     ///< not accepted; inject #VE 48
  kSharedPage,    ///< private access to a shared page
  kPrivatePage,   ///< shared access to a private page
  kNotRam,        ///< no RAM there (MMIO, hidden or beyond the width)
  kOutOfStorage,  ///< page-state storage exhausted
};
[[nodiscard]] std::string_view name(TouchKind kind);

/// What a guest access to `gpa` met.
struct Touch {
  TouchKind kind = TouchKind::kNotRam;
  /// The entry before the host acted: FREE even if the page was then AUGed. For reports.
  EntryView before;
};

enum class MapGpaKind : std::uint8_t {
  kAnswered,      ///< put r10 and r11 into the guest's registers
  kOutOfStorage,  ///< no page could be converted: storage exhausted; state unchanged
};
[[nodiscard]] std::string_view name(MapGpaKind kind);

/// Outcome of TDG.VP.VMCALL<MapGPA>.
struct MapGpaOutcome {
  MapGpaKind kind = MapGpaKind::kAnswered;
  abi::tdx::VmcallStatus r10 = abi::tdx::VmcallStatus::kSuccess;
  /// Error: the start GPA. RETRY: first GPA not converted, shared bit as given. Success: 0.
  std::uint64_t r11 = 0;
  Bytes to_shared;   ///< pages that changed from private to shared
  Bytes to_private;  ///< and back
};

enum class AdoptError : std::uint8_t {
  kUnaligned,     ///< not 4 KiB aligned
  kNotRam,        ///< not all RAM
  kNotFree,       ///< some page is in use already, or shared; pages before it were adopted
  kOutOfStorage,  ///< pages before the first that failed were adopted
};
[[nodiscard]] std::string_view name(AdoptError error);

/// Everything known about one page, for reports.
struct PageReport {
  bool ram = false;
  PageAttribute attribute = PageAttribute::kPrivate;
  EntryView entry;
};

/// One TD's memory: RAM ranges, private/shared attributes, secure EPT, and the VMM's decisions on
/// exits (mainline KVM's way; reference 2.4, 2.5, 3).
///
/// Invariants: a shared page's SEPT entry is FREE once map_gpa() returned; private pages are in any
/// state; pages outside RAM are never in the SEPT.
///
/// Thread-safe: every member may be called concurrently. 64 region locks (by 2M number) separate
/// conversions of a region (one at a time) from faults in it (any number). A fault that finds a
/// conversion under way does not wait: it answers kRetry or kInterrupted. A conversion waits with
/// PAUSE for the faults that it finds, each a few SEPT calls long, and for accepts of the page that
/// it removes (at most 2 MiB of zeroing; after a bounded wait it answers RETRY). Accepting, which
/// includes zeroing, holds no region lock. Order: region lock, then SecureEpt's locks.
class TdMemory {
 public:
  /// Does not take ownership; every argument outlives the object. The SEPT must be finalized before
  /// any other member is called.
  /// Preconditions: `ram` ascending, disjoint, 4 KiB aligned, inside attributes.range() and below
  /// sept.private_end(); `hpa_offset` (HPA = GPA + offset) a multiple of 2 MiB.
  TdMemory(SecureEpt& sept, PageAttributes& attributes, std::span<const PhysRange> ram,
           Backing backing, Bytes hpa_offset);
  TdMemory(const TdMemory&) = delete;
  TdMemory& operator=(const TdMemory&) = delete;

  /// Takes memory that is in use at launch as accepted, without touching its content, in the
  /// largest pages that the backing has. Returns the bytes adopted (all of `range`).
  /// Precondition: no vCPU is inside (vcpu_entered()).
  [[nodiscard]] std::expected<Bytes, AdoptError> adopt(PhysRange range);

  /// The guest executed MEM.PAGE.ACCEPT with `rcx`. On an exit of the module, acts as the host and
  /// tries again: FREE or REMOVED RAM that is private is AUGed, in the size that backing, attribute
  /// and the ACCEPT's level allow; a larger PENDING page is demoted for a 4K request; a page left
  /// BLOCKED is unblocked. `zero_page` and `interrupt_pending` as SecureEpt::accept.
  /// Calls hooks mapped, augmented, kick_vcpus.
  [[nodiscard]] AcceptOutcome accept(std::uint64_t rcx, SecureEpt::ZeroPage zero_page,
                                     SecureEpt::InterruptPending interrupt_pending,
                                     const TdMemoryHooks& hooks);

  /// The guest executed MEM.PAGE.RELEASE with `rcx`. Calls private_gone, before the page may be
  /// accepted again.
  [[nodiscard]] AcceptOutcome release(std::uint64_t rcx, const TdMemoryHooks& hooks);

  /// The guest touched the private address `gpa` and the embedder has no mapping for it. FREE RAM
  /// is AUGed (2M where the backing allows) and then meets PENDING, as on a real host.
  /// Calls hooks mapped, augmented, kick_vcpus.
  [[nodiscard]] Touch touch_private(PhysAddr gpa, const TdMemoryHooks& hooks);

  /// The guest touched the shared address of `gpa` (shared bit already removed). `mapped_shared` is
  /// called with its 4 KiB page when the page is shared RAM, while no conversion can run.
  [[nodiscard]] Touch touch_shared(PhysAddr gpa,
                                   FunctionRef<void(PhysAddr gpa, PhysAddr hpa)> mapped_shared);

  /// TDG.VP.VMCALL<MapGPA>: `start` = R12 (shared bit set: make shared), `size` = R13. Checks in
  /// KVM's order (reference 3): zero length, wrap, beyond GPAW, shared bit differs between first
  /// and last byte -> INVALID_OPERAND; not multiples of 4 KiB -> ALIGN_ERROR. Then converts 2 MiB
  /// at a time; private to shared = BLOCK, TRACK, REMOVE (the content is lost). Pages outside RAM
  /// and pages that are so already succeed without effect.
  /// A part of a 2M page needs one table of storage. A conversion that cannot go on (storage, vCPUs
  /// that do not leave, an accept that does not end) answers RETRY when something was converted or
  /// the cause is passing, else kOutOfStorage. Calls hooks private_gone, shared_gone, kick_vcpus.
  [[nodiscard]] MapGpaOutcome map_gpa(std::uint64_t start, std::uint64_t size,
                                      const TdMemoryHooks& hooks);

  [[nodiscard]] PageReport state_of(PhysAddr gpa) const;
  [[nodiscard]] bool is_ram(PhysRange pages) const;
  [[nodiscard]] PhysAddr hpa_of(PhysAddr gpa) const { return gpa + hpa_offset_; }
  [[nodiscard]] Backing backing() const { return backing_; }
  /// Structure and the class invariants. Only while no other call runs.
  [[nodiscard]] bool invariants() const;

 private:
  /// A vCPU leaves within an interrupt. Past this count something is wrong and the guest is asked
  /// to try again.
  static constexpr unsigned kTrackTries = 1U << 12;

  enum class Step : std::uint8_t {
    kDone,          ///< done, or somebody else did it; look again
    kBusy,          ///< an accept holds the entry; it ends by itself (split() only)
    kRetry,         ///< did not come to pass in a bounded time; the guest is to try again
    kOutOfStorage,  ///< nothing changed
  };

  [[nodiscard]] std::atomic<std::uint32_t>& region(PhysAddr gpa) {
    return regions_[(gpa.value() >> page_shift(PageSize::k2M)) % regions_.size()];
  }
  [[nodiscard]] PageSize backing_size(PhysAddr gpa, PageSize cap) const;
  [[nodiscard]] Step add_tables(PhysAddr gpa, SeptLevel down_to);
  [[nodiscard]] Step augment(PhysAddr gpa, PageSize cap, const TdMemoryHooks& hooks);
  [[nodiscard]] Step unblock(PhysAddr gpa, SeptLevel level, const TdMemoryHooks& hooks);
  [[nodiscard]] Step split(PhysAddr gpa, SeptLevel level, const TdMemoryHooks& hooks);
  [[nodiscard]] Step track(const TdMemoryHooks& hooks);
  [[nodiscard]] Step resolve(PhysAddr gpa, PageSize cap, const EntryView& entry,
                             const TdMemoryHooks& hooks);
  [[nodiscard]] Step block_pages(PhysRange pages, SeptLevel level);
  [[nodiscard]] Step remove_pages(PhysRange pages, SeptLevel level, const TdMemoryHooks& hooks);
  [[nodiscard]] Step drop_private(PhysRange pages, const TdMemoryHooks& hooks);
  [[nodiscard]] Step convert_chunk(PhysRange pages, PageAttribute to, const TdMemoryHooks& hooks,
                                   Bytes& converted);
  [[nodiscard]] static MapGpaOutcome stop_map_gpa(MapGpaOutcome so_far, Step why, PhysAddr at,
                                                  std::uint64_t shared_bit);
  [[nodiscard]] std::expected<Bytes, AdoptError> adopt_page(PhysAddr gpa, PhysAddr end);
  void demote_adopted(PhysAddr gpa);
  [[nodiscard]] bool report_mapped(PhysAddr gpa, const TdMemoryHooks& hooks);
  [[nodiscard]] bool holds_pages(PhysRange pages) const;

  SecureEpt& sept_;
  PageAttributes& attributes_;
  std::span<const PhysRange> ram_;
  Backing backing_;
  Bytes hpa_offset_;
  /// Bit 31: a conversion; below: faults inside. Regions share a lock by their number modulo 64.
  std::array<std::atomic<std::uint32_t>, 64> regions_{};
};

}  // namespace accede::host
