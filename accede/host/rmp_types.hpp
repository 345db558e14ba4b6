// What goes into and comes out of the reverse map table: requests, accesses, verdicts, faults.
#pragma once

#include "accede/abi/rmp.hpp"
#include "accede/base/units.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace accede::host {

using abi::rmp::FirmwareCode;
using abi::rmp::LaunchPageType;
using abi::rmp::PsmashCode;
using abi::rmp::PvalidateCode;
using abi::rmp::RmpAdjustCode;
using abi::rmp::RmpEntry;
using abi::rmp::RmpState;
using abi::rmp::RmpStateWords;
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
  [[nodiscard]] static constexpr RmpUpdate firmware(PageSize size) {
    return {.assigned = true, .size = size, .immutable = true};
  }
  /// As the instruction reads it. Nothing where a reserved bit is set.
  [[nodiscard]] static constexpr std::optional<RmpUpdate> from(const RmpStateWords& words) {
    if (words.assigned > 1 || words.page_size > 1 || words.immutable > 1 || words.reserved != 0) {
      return std::nullopt;
    }
    return RmpUpdate{.assigned = words.assigned != 0,
                     .size = words.page_size != 0 ? PageSize::k2M : PageSize::k4K,
                     .immutable = words.immutable != 0,
                     .asid = words.asid,
                     .gpa = PhysAddr{words.gpa}};
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

/// A private access (C-bit set): by whom and how. Instruction fetches and what reads or writes the
/// guest's page tables are private whatever their C-bit.
struct RmpAccess {
  PhysAddr gpa{};
  std::uint32_t asid = 0;
  PageSize nested_size = PageSize::k4K;  ///< of the nested mapping; 1 GiB is checked as 2 MiB
  bool write = false;
  unsigned vmpl = 0;
  bool fetch = false;         ///< an instruction fetch; not with `write`
  bool user = false;          ///< at CPL 3
  bool shadow_stack = false;  ///< of a supervisor shadow stack
  bool table_walk = false;    ///< to the guest's page tables; A/D updates are writes
};

enum class RmpFaultKind : std::uint8_t {
  kNone,
  kNestedPageFault,  ///< #VMEXIT(NPF); `code` is EXITINFO1
  kNotValidated,     ///< #VC into the guest, the host is not asked; `code` is the error code
  kHostPageFault,    ///< #PF into the host; `code` is the error code
};
/// What the processor does about a verdict.
struct RmpFault {
  RmpFaultKind kind = RmpFaultKind::kNone;
  std::uint64_t code = 0;

  friend bool operator==(const RmpFault&, const RmpFault&) = default;
};
/// After check_private(). Accesses through the nested tables count as user accesses (bit 2).
[[nodiscard]] RmpFault fault_of(RmpVerdict verdict, const RmpAccess& access);
/// After check_shared() of a guest's write.
[[nodiscard]] RmpFault shared_fault_of(RmpVerdict verdict);
/// After check_shared() of a host's write.
[[nodiscard]] RmpFault host_fault_of(RmpVerdict verdict);

/// Outcome of PVALIDATE.
struct PvalidateOutcome {
  /// kAllowed: the instruction completed with `code` and `carry`. Else a nested page fault; the
  /// host acts and the instruction runs again.
  RmpVerdict fault = RmpVerdict::kAllowed;
  PvalidateCode code = PvalidateCode::kSuccess;
  bool carry = false;  ///< with kSuccess: nothing changed

  friend bool operator==(const PvalidateOutcome&, const PvalidateOutcome&) = default;
};

/// Outcome of RMPADJUST and RMPQUERY.
struct RmpAdjustOutcome {
  RmpVerdict fault = RmpVerdict::kAllowed;  ///< as PvalidateOutcome; kNotValidated: #VC 0x404
  RmpAdjustCode code = RmpAdjustCode::kSuccess;
  std::uint64_t rcx = 0;  ///< RMPQUERY: size
  std::uint64_t rdx = 0;  ///< RMPQUERY: RmpAdjustOperand of the VMPL that was asked for

  friend bool operator==(const RmpAdjustOutcome&, const RmpAdjustOutcome&) = default;
};

/// A page that a vCPU names to RMPADJUST and RMPQUERY: its addresses and who asks.
struct GuestPage {
  PhysAddr spa{};
  PhysAddr gpa{};
  std::uint32_t asid = 0;
  unsigned vmpl = 0;  ///< of the caller
};

/// SNP_LAUNCH_UPDATE of one page, as far as the table is concerned.
struct LaunchPage {
  LaunchPageType type = LaunchPageType::kNormal;
  PageSize size = PageSize::k4K;
  std::uint32_t asid = 0;                     ///< of the guest whose context the command names
  std::array<std::uint8_t, 3> permissions{};  ///< of VMPL 1 to 3
};

/// The pages that VMRUN marks as in use until the #VMEXIT.
struct RunPages {
  struct Vmsa {
    PhysAddr spa{};
    PhysAddr gpa{};
    std::uint32_t asid = 0;
  };
  PhysAddr vmcb{};
  std::optional<Vmsa> vmsa;          ///< SNP guests
  std::span<const PhysAddr> avic{};  ///< AVIC backing page and tables
};

enum class RunVerdict : std::uint8_t {
  kEntered,
  kGeneralProtection,  ///< #GP(0): the VMCB is not the hypervisor's
  kVmexitInvalid,      ///< VMEXIT_INVALID: the VMSA is not one of this guest, or a vCPU runs on it
  kTooManyUsers,       ///< the model cannot count more than 63 users of a page. Not architectural
};
[[nodiscard]] std::string_view name(RunVerdict verdict);

}  // namespace accede::host
