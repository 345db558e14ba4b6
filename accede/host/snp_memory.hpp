// The memory of one SNP guest as a VMM manages it around the RMP: page state changes and faults.
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/spin_lock.hpp"
#include "accede/base/units.hpp"
#include "accede/host/ghcb_page_state.hpp"
#include "accede/host/page_attributes.hpp"
#include "accede/host/rmp.hpp"
#include "accede/host/rmp_assignment.hpp"
#include "accede/host/rmp_duties.hpp"
#include "accede/host/td_memory.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

namespace accede::host {

/// What the embedder is told while it must keep its own page tables in step. Every callback runs
/// under the lock of the page's 2 MiB region, so that what it is told stays true until it returns:
/// keep it short. A callback must not call the SnpMemory or the Rmp.
struct SnpMemoryHooks {
  /// The guest may now use the private page: `gpa` and `hpa` are the bases of a page of `size`. A
  /// PSMASH afterwards is not reported: the 512 pages stay usable, and go one by one.
  FunctionRef<void(PhysAddr gpa, PhysAddr hpa, PageSize size)> validated;
  /// The guest must no longer reach these private pages: rescinded, or about to become shared. They
  /// may be a part of a larger page that `validated` reported. Some may never have been mapped.
  FunctionRef<void(PhysRange)> private_gone;
  /// The guest must no longer reach these pages through their shared mappings.
  FunctionRef<void(PhysRange)> shared_gone;
  /// What the host does beside the RMP when its entries change; null: nothing. After private_gone,
  /// before validated.
  const HostDuties* duties = nullptr;
  /// A 2 MiB entry became 512 of 4 KiB; null: nobody wants to know.
  const FunctionRef<void(PhysRange)>* smashed = nullptr;
};

struct SnpMemoryConfig {
  std::uint32_t asid = 1;          ///< 1 to 1023
  Backing backing = Backing::k4K;  ///< mainline KVM: 4 KiB entries only
  Bytes hpa_offset{};              ///< HPA = GPA + offset; a multiple of 2 MiB
};

enum class SnpTouchKind : std::uint8_t {
  kMapped,        ///< a hook or callback was called with the page; resume
  kNotValidated,  ///< inject #VC 0x404: the guest touched memory that it did not accept
  kRefused,       ///< the RMP forbids it (`verdict`): a page that the firmware has, or that a vCPU
                  ///< runs on. Stop the guest
  kNotRam,        ///< no RAM there (MMIO, hidden or beyond the width)
};
[[nodiscard]] std::string_view name(SnpTouchKind kind);

/// What a guest access met.
struct SnpTouch {
  SnpTouchKind kind = SnpTouchKind::kNotRam;
  RmpVerdict verdict = RmpVerdict::kAllowed;
  /// The page had the other visibility and was converted without having been asked for, as KVM and
  /// QEMU do. A guest that does page state changes right has none but for its first GHCB.
  bool converted = false;
};

enum class SnpPvalidateKind : std::uint8_t {
  kCompleted,  ///< put `code` into EAX and `carry` into CF; RIP advances
  kRefused,    ///< the RMP forbids it (`verdict`); stop the guest
  kNotRam,     ///< no RAM there; stop the guest
};
[[nodiscard]] std::string_view name(SnpPvalidateKind kind);

/// Outcome of PVALIDATE after the host acted on every fault that it can mend.
struct SnpPvalidate {
  SnpPvalidateKind kind = SnpPvalidateKind::kNotRam;
  PvalidateCode code = PvalidateCode::kSuccess;
  bool carry = false;
  RmpVerdict verdict = RmpVerdict::kAllowed;
  bool converted = false;  ///< as SnpTouch::converted
  Bytes bytes;             ///< bytes validated or rescinded: 0 unless something changed
};

/// Outcome of RMPADJUST or RMPQUERY after the host acted on every fault that it can mend.
struct SnpRmpAdjust {
  SnpPvalidateKind kind = SnpPvalidateKind::kNotRam;
  RmpAdjustOutcome outcome;  ///< not with kNotRam; fault kNotValidated: #VC 0x404 into the guest
  bool converted = false;    ///< as SnpTouch::converted
};

/// One SNP guest's memory: RAM ranges, private/shared attributes, RMP, and the VMM's decisions
/// (KVM 6.12 and QEMU; reference: SEV-SNP 3.5, 6).
///
/// A page state change sets attributes; to shared it also takes the RMP entries back. To private it
/// leaves the RMP alone: the first private use assigns the entry (RmpAssignment), and a 4 KiB
/// PVALIDATE inside a 2 MiB entry has it smashed. What a newly assigned page contains is left as it
/// is: undefined to the guest.
///
/// Invariant: no shared page of RAM is assigned. Pages outside RAM are never assigned; changing
/// them succeeds without effect.
///
/// Thread-safe: every member may be called concurrently. 64 spin locks (by 2 MiB number), taken
/// before the RMP's; longest section: conversion of 2 MiB, 512 RMPUPDATEs and the hooks.
class SnpMemory {
 public:
  /// Takes no ownership; every argument outlives the object.
  /// Preconditions: `ram` ascending, disjoint, 4 KiB aligned, inside attributes.range(), and inside
  /// rmp.covered() by the offset; the RMP has no page of this ASID.
  SnpMemory(Rmp& rmp, PageAttributes& attributes, std::span<const PhysRange> ram,
            const SnpMemoryConfig& config);
  SnpMemory(const SnpMemory&) = delete;
  SnpMemory& operator=(const SnpMemory&) = delete;

  /// Takes memory that is in use at launch as measured and validated, its content untouched (KVM:
  /// LAUNCH_UPDATE), in the largest pages that the backing has. Returns the bytes adopted (all of
  /// `range`). AdoptError::kNotFree: a page was in use or is shared; pages before it were adopted.
  [[nodiscard]] std::expected<Bytes, AdoptError> adopt(PhysRange range,
                                                       const HostDuties* duties = nullptr);

  /// The guest executed PVALIDATE on a private mapping of `gpa` with ECX and EDX[0] as given.
  /// Calls hooks validated, private_gone (rescinded), shared_gone (converted).
  [[nodiscard]] SnpPvalidate pvalidate(PhysAddr gpa, std::uint32_t ecx, bool validate,
                                       const SnpMemoryHooks& hooks);

  /// The guest executed RMPADJUST at VMPL 0 on a private mapping of `gpa`, RCX and RDX as given.
  /// The host acts as for PVALIDATE. Calls no hook but shared_gone (converted).
  [[nodiscard]] SnpRmpAdjust rmpadjust(PhysAddr gpa, std::uint64_t rcx, std::uint64_t rdx,
                                       const SnpMemoryHooks& hooks);
  /// The same for RMPQUERY.
  [[nodiscard]] SnpRmpAdjust rmpquery(PhysAddr gpa, std::uint64_t rdx, const SnpMemoryHooks& hooks);

  /// The guest touched `gpa` as private (C = 1) and the embedder has no mapping for it.
  [[nodiscard]] SnpTouch touch_private(PhysAddr gpa, const SnpMemoryHooks& hooks);

  /// The guest touched `gpa` as shared (C = 0). `mapped_shared` is called with the 4 KiB page.
  [[nodiscard]] SnpTouch touch_shared(PhysAddr gpa,
                                      FunctionRef<void(PhysAddr gpa, PhysAddr hpa)> mapped_shared,
                                      const SnpMemoryHooks& hooks);

  /// Answers a page state change by the MSR protocol: the response for the GHCB MSR. An operation
  /// other than private and shared is an error, as in KVM.
  /// Precondition: the code of `request` is kPageStateRequest.
  [[nodiscard]] std::uint64_t msr_page_state(std::uint64_t request, const SnpMemoryHooks& hooks);

  /// Answers a page state change list in place: the shared buffer of the GHCB page, which the guest
  /// may change meanwhile; every word is read once. Returns sw_exit_info_2. KVM's order: the
  /// end beyond entry 252 is a bad header; then for each entry, more pages done than it has or a
  /// misaligned 2 MiB page is a bad entry; done entries are skipped; the rest of a partly done one
  /// counts as 4 KiB pages; neighbours with one operation and size are converted as one range;
  /// other operations count as done. cur_page and cur_entry say how far it came, also on errors.
  [[nodiscard]] abi::ghcb::PscResult page_state_list(
      std::span<std::uint64_t, abi::ghcb::kPscWords> list, const SnpMemoryHooks& hooks);

  /// Carries out one change of those two protocols, for a host that answers them with a Ghcb.
  [[nodiscard]] GhcbPageStateAnswer change_page_state(const GhcbPageState& change,
                                                      const SnpMemoryHooks& hooks);

  [[nodiscard]] bool is_ram(PhysRange pages) const { return assignment_.is_ram(pages); }
  [[nodiscard]] PhysAddr hpa_of(PhysAddr gpa) const { return gpa + config_.hpa_offset; }
  [[nodiscard]] PageAttribute attribute(PhysAddr gpa) const { return attributes_.get(gpa); }
  [[nodiscard]] RmpEntry entry(PhysAddr gpa) const { return rmp_.lookup(hpa_of(gpa)); }
  [[nodiscard]] Backing backing() const { return config_.backing; }
  /// The class invariant and the RMP's. Only while no other call runs.
  [[nodiscard]] bool invariants() const;

 private:
  [[nodiscard]] SpinLock& region(PhysAddr gpa) {
    return regions_[(gpa.value() >> page_shift(PageSize::k2M)) % regions_.size()];
  }
  template <class Attempt>
  [[nodiscard]] SnpRmpAdjust adjust(PhysAddr gpa, const SnpMemoryHooks& hooks, Attempt attempt);
  [[nodiscard]] bool make_private(PhysAddr page, const SnpMemoryHooks& hooks);
  [[nodiscard]] bool smash(PhysRange whole, const SnpMemoryHooks& hooks);
  [[nodiscard]] bool take_back(PhysRange pages, const SnpMemoryHooks& hooks);
  [[nodiscard]] bool convert(PhysRange pages, PageAttribute to, const SnpMemoryHooks& hooks);
  [[nodiscard]] bool convert_chunk(PhysRange pages, PageAttribute to, const SnpMemoryHooks& hooks);
  [[nodiscard]] bool do_op(PhysRange pages, abi::ghcb::PageOp op, const SnpMemoryHooks& hooks);

  Rmp& rmp_;
  PageAttributes& attributes_;
  std::span<const PhysRange> ram_;
  SnpMemoryConfig config_;
  RmpAssignment assignment_;
  std::array<SpinLock, 64> regions_;
};

}  // namespace accede::host
