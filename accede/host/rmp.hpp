// The reverse map table (RMP) of AMD SEV-SNP: who owns each host page, and what that permits.
#pragma once

#include "accede/abi/rmp.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/rmp_types.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace accede::host {

namespace rmp_internal {
class RegionLock;  // rmp_entry.hpp
}

/// The RMP for a range of host pages, with the decisions of the processor and of the firmware.
///
/// The storage is the processor's table: 16 bytes a page. A 2 MiB page is described by the entry of
/// its first 4 KiB; the others are zero. That entry also counts the assigned 4 KiB entries behind
/// it (at most 511). Reserved bits hold what the processor keeps elsewhere: users of each page, and
/// how many pages of a region are in use or HV-Fixed. Nobody outside sees them.
///
/// Invariants (checked by invariants()): behind a 2 MiB entry all is zero but users; both counts
/// are right; at rest no lock bit is set; a page that is not assigned has no other bit but counts,
/// users and Immutable.
///
/// Thread-safe: every member may be called concurrently. Changes take the Lock bit of the 2 MiB
/// region's first entry, a spin lock, one region at a time; longest section: PSMASH and
/// PAGE_UNSMASH, 512 entry reads and writes. Checks take no lock: one that runs beside a change of
/// the same page may fault where a repeat does not, as on hardware. Changes of different regions do
/// not meet.
///
/// FAIL_INUSE tells that a page is in use by VMRUN or begin_use(). A change that only meets another
/// one waits for it, where the processor would give FAIL_INUSE at once.
///
/// Not modelled: #GP, #UD and #PF of the instructions, PCIe IDE, page migration, segmented tables;
/// swapping moves states, not content.
class Rmp {
 public:
  /// 16 bytes for each page of `covered`: 0.4 %.
  [[nodiscard]] static Bytes storage_bound(PhysRange covered);

  /// Every page starts as Hypervisor; the storage is cleared.
  /// Preconditions: `covered` begins at a multiple of 2 MiB and ends at one of 4 KiB, below 2^52;
  /// `storage` is 16-byte aligned, at least storage_bound() and outlives the object.
  Rmp(PhysRange covered, std::span<std::byte> storage);
  Rmp(const Rmp&) = delete;
  Rmp& operator=(const Rmp&) = delete;

  // --- The host's side. `caller_asid`: of the world that executes the instruction; guests get
  // FAIL_PERMISSION. ---

  /// RMPUPDATE: any state that is not immutable -> Hypervisor, Guest-Invalid, Pre-Guest, Firmware.
  /// Validated and VMSA are cleared, VMPL 0 may do everything, the others nothing. Codes, in this
  /// order (UNCONFIRMED): FAIL_INPUT (not covered, misaligned, no such state, ASID or GPA too
  /// large), FAIL_PERMISSION (executed by a guest; immutable), FAIL_INUSE, FAIL_OVERLAP (a 4 KiB
  /// page inside a 2 MiB one or the other way round). Precondition: the size is not 1 GiB.
  [[nodiscard]] RmpUpdateCode update(PhysAddr spa, const RmpUpdate& to,
                                     std::uint32_t caller_asid = 0);

  /// PSMASH: a 2 MiB entry -> 512 of 4 KiB with the same fields, the GPA counting up. FAIL_INPUT:
  /// misaligned, not covered, no 2 MiB entry there; FAIL_PERMISSION: executed by a guest, or
  /// immutable; FAIL_INUSE: one of the 512 pages is in use.
  [[nodiscard]] PsmashCode psmash(PhysAddr spa, std::uint32_t caller_asid = 0);

  /// RMPREAD: the entry of this very page, also where a 2 MiB entry governs it. Region status
  /// (UNCONFIRMED): some page of the 2 MiB region is assigned. Nothing (FAIL_INPUT): not covered.
  [[nodiscard]] std::optional<RmpStateWords> read(PhysAddr spa) const;

  // --- The firmware's side. Common codes: INVALID_ADDRESS (misaligned, not covered),
  // INVALID_PAGE_SIZE (the entry has another), INVALID_PAGE_STATE (not from there, or in use). ---

  /// SNP_LAUNCH_UPDATE: Pre-Guest -> Guest-Valid with the VMSA bit for a VMSA. INVALID_PARAM: no
  /// such type, no such permission; INVALID_PAGE_OWNER: another guest's; INVALID_PAGE_SIZE also:
  /// VMSA, secrets and CPUID pages are 4 KiB (UNCONFIRMED).
  [[nodiscard]] FirmwareCode launch_update(PhysAddr spa, const LaunchPage& page);

  /// SNP_PAGE_RECLAIM: Firmware, Pre-Guest -> Reclaim.
  [[nodiscard]] FirmwareCode reclaim(PhysAddr spa, PageSize size) {
    return move(spa, size, RmpState::kReclaim);
  }

  /// The other state changes of the firmware: Hypervisor -> HV-Fixed (initialization, 4 KiB);
  /// Firmware <-> Context (guest context created, decommissioned); Firmware <-> Metadata and
  /// Guest-Valid <-> Pre-Swap (swapping; which edges exist is UNCONFIRMED). INVALID_PARAM:
  /// `metadata` is not a page address other than 0, where `to` is Metadata.
  [[nodiscard]] FirmwareCode move(PhysAddr spa, PageSize size, RmpState to, PhysAddr metadata = {});

  /// PAGE_UNSMASH: 512 entries of 4 KiB -> one of 2 MiB, where the guest asked for it (page state
  /// change, operation 4). INVALID_PAGE_STATE: not all are a guest's in one state, with one ASID,
  /// the same permissions and GPAs that count up from a multiple of 2 MiB; or one is a VMSA.
  [[nodiscard]] FirmwareCode unsmash(PhysAddr spa);

  // --- Use of a page beyond accesses ---

  /// VMRUN: checks VMCB and VMSA and marks them and `pages.avic` as in use. RMPUPDATE and PSMASH
  /// give FAIL_INUSE until vmexit(). Unless kEntered, nothing is marked. That two vCPUs cannot run
  /// on one VMSA at once is UNCONFIRMED.
  [[nodiscard]] RunVerdict vmrun(const RunPages& pages);
  /// Precondition: vmrun() entered with the same pages.
  void vmexit(const RunPages& pages);
  /// The same mark for the firmware while it works on a page in place. False: 63 users already. A
  /// page that is not covered cannot change: no mark.
  [[nodiscard]] bool begin_use(PhysAddr spa);
  /// Precondition: begin_use() of the page came before.
  void end_use(PhysAddr spa);
  /// True when a page of the page at `spa` is in use.
  [[nodiscard]] bool in_use(PhysAddr spa, PageSize size) const;

  // --- The guest's side ---

  /// PVALIDATE of the page at `gpa`, which the nested page table maps to `spa` (reference:
  /// SEV-SNP 1). `ecx` and `validate` as the guest gave them. An operand other than 0 and 1, or a
  /// GPA that is not aligned to the size: FAIL_INPUT. Then checks 1 to 4 of a private access; 4 KiB
  /// asked for inside a 2 MiB entry: fault kSizeMismatch; 2 MiB asked for, 4 KiB entry: code
  /// FAIL_SIZEMISMATCH. Precondition (not checked): VMPL 0.
  [[nodiscard]] PvalidateOutcome pvalidate(PhysAddr spa, PhysAddr gpa, std::uint32_t asid,
                                           std::uint32_t ecx, bool validate);

  /// RMPADJUST with RCX and RDX as the guest gave them. FAIL_INPUT (size, alignment, VMPL above 3,
  /// reserved bits); FAIL_PERMISSION (own or a more privileged VMPL); checks and sizes as
  /// pvalidate(); not validated: fault kNotValidated (UNCONFIRMED); FAIL_PERMISSION (a permission
  /// that the caller lacks); FAIL_INUSE (the VMSA bit of a page that a vCPU runs on, UNCONFIRMED).
  /// The VMSA bit is VMPL 0's; from others it is ignored.
  [[nodiscard]] RmpAdjustOutcome rmpadjust(const GuestPage& page, std::uint64_t rcx,
                                           std::uint64_t rdx);

  /// RMPQUERY of the VMPL in `rdx` (semantics UNCONFIRMED). FAIL_INPUT (misaligned, VMPL above 3);
  /// FAIL_PERMISSION (a more privileged VMPL); checks 1 to 4 and 6.
  [[nodiscard]] RmpAdjustOutcome rmpquery(const GuestPage& page, std::uint64_t rdx) const;

  /// A private access (C = 1), instruction fetch or page-table walk of an SNP guest.
  [[nodiscard]] RmpVerdict check_private(PhysAddr spa, const RmpAccess& access) const;
  /// A shared access (C = 0) of an SNP guest, or any of another guest or the host: reads are free.
  /// `mapping`: size of the page-table leaf; a write through a large one needs all of its 2 MiB.
  /// The host's page tables are checked as writes.
  [[nodiscard]] RmpVerdict check_shared(PhysAddr spa, bool write,
                                        PageSize mapping = PageSize::k4K) const;

  // --- Looking ---

  [[nodiscard]] PhysRange covered() const { return covered_; }
  /// The entry that governs the page, GPA adjusted to it when it is part of a 2 MiB page, lock bit,
  /// count and users clear. Zero for a page that is not covered: it is the hypervisor's for ever.
  [[nodiscard]] RmpEntry lookup(PhysAddr spa) const;
  /// True when the structure is sound. Only while no other call runs.
  [[nodiscard]] bool invariants() const;

 private:
  using RegionLock = rmp_internal::RegionLock;
  enum class Mark : std::uint8_t { kMarked, kUnfit, kFull };
  struct Owned;

  [[nodiscard]] RmpEntry* slot(PhysAddr spa) const {
    return entries_ + ((spa - covered_.begin()).value() >> 12);
  }
  [[nodiscard]] RmpEntry* region_slot(PhysAddr spa) const {
    return slot(spa.align_down(bytes(PageSize::k2M)));
  }
  [[nodiscard]] std::uint64_t pages_in_region(PhysAddr region) const;
  [[nodiscard]] bool covers(PhysAddr spa, PageSize size) const;
  [[nodiscard]] RmpUpdateCode check_update(PhysAddr spa, const RmpUpdate& to) const;
  [[nodiscard]] RmpUpdateCode check_target(PhysAddr spa, PageSize size,
                                           const RegionLock& lock) const;
  [[nodiscard]] bool users_in(PhysAddr spa, PageSize size) const;
  [[nodiscard]] FirmwareCode check_firmware(PhysAddr spa, PageSize size,
                                            const RegionLock& lock) const;
  [[nodiscard]] bool can_unsmash(const RmpEntry* first) const;
  [[nodiscard]] RmpVerdict check_guest_page(const GuestPage& page) const;
  template <class Fits>
  [[nodiscard]] Mark mark(PhysAddr spa, Fits fits);
  [[nodiscard]] Mark mark_vmcb(PhysAddr spa);
  [[nodiscard]] Mark mark_vmsa(const RunPages::Vmsa& vmsa);
  [[nodiscard]] bool region_sound(PhysAddr region) const;

  PhysRange covered_;
  RmpEntry* entries_;
};

}  // namespace accede::host
