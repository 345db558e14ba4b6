// The reverse map table (RMP) of AMD SEV-SNP: who owns each host page, and what that permits.
#pragma once

#include "accede/abi/rmp.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace accede::host {

using abi::rmp::PsmashCode;
using abi::rmp::PvalidateCode;
using abi::rmp::RmpEntry;
using abi::rmp::RmpState;
using abi::rmp::RmpUpdateCode;

/// What RMPUPDATE is to make of a page.
struct RmpUpdate {
  bool assigned = false;
  PageSize size = PageSize::k4K;
  bool immutable = false;
  std::uint32_t asid = 0;
  PhysAddr gpa{};

  [[nodiscard]] static constexpr RmpUpdate hypervisor(PageSize size) { return {.size = size}; }
  [[nodiscard]] static constexpr RmpUpdate guest(PhysAddr gpa, PageSize size, std::uint32_t asid) {
    return {.assigned = true, .size = size, .asid = asid, .gpa = gpa};
  }
  /// For launch: immutable until the firmware validates it.
  [[nodiscard]] static constexpr RmpUpdate pre_guest(PhysAddr gpa, PageSize size,
                                                     std::uint32_t asid) {
    return {.assigned = true, .size = size, .immutable = true, .asid = asid, .gpa = gpa};
  }
};

/// The first check that an access does not pass, in the processor's order (reference: SEV-SNP 2.4).
enum class RmpVerdict : std::uint8_t {
  kAllowed,
  kNotCovered,     ///< beyond the table
  kNotAssigned,    ///< not assigned, or to another ASID
  kWrongGpa,       ///< assigned for another GPA
  kImmutable,      ///< the firmware has it
  kSizeMismatch,   ///< nested page table and RMP disagree on the page size
  kNotValidated,   ///< #VC 0x404 into the guest; all others are nested page faults
  kNoPermission,   ///< the VMPL may not
  kNotHypervisor,  ///< shared or host write to a page that is assigned
};
[[nodiscard]] std::string_view name(RmpVerdict verdict);

/// The RMP's bits in EXITINFO1 of the nested page fault; 0 for kAllowed and kNotValidated.
[[nodiscard]] std::uint64_t fault_bits(RmpVerdict verdict);

/// A private access (C-bit set): by whom and how.
struct RmpAccess {
  PhysAddr gpa{};
  std::uint32_t asid = 0;
  PageSize nested_size = PageSize::k4K;  ///< of the nested mapping; 1 GiB is checked as 2 MiB
  bool write = false;
  unsigned vmpl = 0;
};

/// Outcome of PVALIDATE.
struct PvalidateOutcome {
  /// kAllowed: the instruction completed with `code` and `carry`. Else a nested page fault; the
  /// host acts and the instruction runs again.
  RmpVerdict fault = RmpVerdict::kAllowed;
  PvalidateCode code = PvalidateCode::kSuccess;
  bool carry = false;  ///< with kSuccess: nothing changed

  friend bool operator==(const PvalidateOutcome&, const PvalidateOutcome&) = default;
};

/// The RMP for a range of host pages, with the decisions of the processor.
///
/// The storage is the processor's table: 16 bytes a page. A 2 MiB page is described by the entry of
/// its first 4 KiB; the others are zero. That entry also counts the assigned 4 KiB entries behind
/// it (at most 511).
///
/// Invariants (checked by invariants()): behind a 2 MiB entry all is zero; the count is right; at
/// rest no lock bit is set; a Hypervisor page has no other bit but the count.
///
/// Thread-safe: every member may be called concurrently. Changes take the Lock bit of the 2 MiB
/// region's first entry, a spin lock; longest section: PSMASH, 512 entry writes. Checks take no
/// lock: one that runs beside a change of the same page may fault where a repeat does not, as on
/// hardware. Changes of different regions do not meet.
///
/// Not modelled: FAIL_INUSE (a change waits instead), RMPADJUST, reclaim, swap, what VMRUN checks.
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

  // --- The host's and the firmware's side ---

  /// RMPUPDATE: any state that is not immutable -> Hypervisor, Guest-Invalid, Pre-Guest, Firmware.
  /// Validated and VMSA are cleared, VMPL 0 may do everything, the others nothing. Codes:
  /// FAIL_INPUT (not covered, misaligned, no such state, ASID or GPA too large), FAIL_PERMISSION
  /// (immutable), FAIL_OVERLAP (a 4 KiB page inside a 2 MiB one or the other way round). Which of
  /// the last two comes first is UNCONFIRMED. Precondition: the size is not 1 GiB.
  [[nodiscard]] RmpUpdateCode update(PhysAddr spa, const RmpUpdate& to);

  /// PSMASH: a 2 MiB entry -> 512 of 4 KiB with the same fields, the GPA counting up. FAIL_INPUT:
  /// misaligned, not covered, no 2 MiB entry there; FAIL_PERMISSION: immutable.
  [[nodiscard]] PsmashCode psmash(PhysAddr spa);

  /// What SNP_LAUNCH_UPDATE does to the entry: Pre-Guest -> Guest-Valid. False: another state.
  [[nodiscard]] bool launch_update(PhysAddr spa, bool vmsa);

  // --- The guest's side ---

  /// PVALIDATE of the page at `gpa`, which the nested page table maps to `spa` (reference:
  /// SEV-SNP 1). `ecx` and `validate` as the guest gave them. An operand other than 0 and 1, or a
  /// GPA that is not aligned to the size: FAIL_INPUT. Then checks 1 to 4 of a private access; 4 KiB
  /// asked for inside a 2 MiB entry: fault kSizeMismatch; 2 MiB asked for, 4 KiB entry: code
  /// FAIL_SIZEMISMATCH.
  [[nodiscard]] PvalidateOutcome pvalidate(PhysAddr spa, PhysAddr gpa, std::uint32_t asid,
                                           std::uint32_t ecx, bool validate);

  /// A private access (C = 1), instruction fetch or page-table walk of an SNP guest.
  [[nodiscard]] RmpVerdict check_private(PhysAddr spa, const RmpAccess& access) const;
  /// A shared access (C = 0) of an SNP guest, or any of another guest or the host: reads are free.
  [[nodiscard]] RmpVerdict check_shared(PhysAddr spa, bool write) const;

  // --- Looking ---

  [[nodiscard]] PhysRange covered() const { return covered_; }
  /// The entry that governs the page, GPA adjusted to it when it is part of a 2 MiB page, lock bit
  /// and count clear. Zero for a page that is not covered: it is the hypervisor's for ever.
  [[nodiscard]] RmpEntry lookup(PhysAddr spa) const;
  /// True when the structure is sound. Only while no other call runs.
  [[nodiscard]] bool invariants() const;

 private:
  class RegionLock;

  [[nodiscard]] RmpEntry* slot(PhysAddr spa) const {
    return entries_ + ((spa - covered_.begin()).value() >> 12);
  }
  [[nodiscard]] RmpEntry* region_slot(PhysAddr spa) const {
    return slot(spa.align_down(bytes(PageSize::k2M)));
  }
  [[nodiscard]] bool covers(PhysAddr spa, PageSize size) const;
  [[nodiscard]] RmpUpdateCode check_update(PhysAddr spa, const RmpUpdate& to) const;
  [[nodiscard]] bool region_sound(PhysAddr region) const;

  PhysRange covered_;
  RmpEntry* entries_;
};

}  // namespace accede::host
