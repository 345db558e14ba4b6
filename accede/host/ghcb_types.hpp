// What a GHCB exit comes to: how the guest goes on, and what it did wrong.
#pragma once

#include "accede/abi/ghcb.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace accede::host {

/// What a guest did wrong. None of it harms the host; the text behind is how it is answered.
enum class GhcbMistakeKind : std::uint8_t {
  kNoGhcb,            ///< VMGEXIT without a GHCB address: resume
  kUnmappable,        ///< the GHCB address is no shared memory: resume
  kNotRegistered,     ///< a GHCB page that was not registered for this vCPU: the VM stops
  kBadRegistration,   ///< registers a page that cannot be one: refused
  kUnknownMsrCode,    ///< resume, MSR unchanged
  kSnpOnly,           ///< a request that only SNP guests may make: terminate, or 2/4
  kBadUsage,          ///< 2/2
  kMissingInput,      ///< a required field is not marked valid: 2/4
  kBadRequestPages,   ///< pages of a guest request misaligned or the same: 2/4
  kUnknownEvent,      ///< 2/6
  kBadScratch,        ///< 2/3
  kInvalidInput,      ///< 2/5
  kStringTooLong,     ///< more than 2 GiB of string I/O: the VM stops
  kUnsupportedEvent,  ///< the guest reports a #VC that it cannot handle: the VM stops
  kListHeader,        ///< more entries than the list has room for: bad header
  kListEntry,         ///< more pages done than it has, or a misaligned 2 MiB page: bad entry
  kListOperation,     ///< an operation that does not exist: counted as done
  kPageOperation,     ///< an operation that the MSR protocol does not have: error response
};
inline constexpr std::size_t kGhcbMistakeKinds = 18;
[[nodiscard]] std::string_view name(GhcbMistakeKind kind);

/// The field that is to blame.
enum class GhcbField : std::uint8_t {
  kMsr,
  kUsage,
  kExitCode,
  kExitInfo1,
  kExitInfo2,
  kScratch,
  kRax,
  kRbx,
  kRcx,
  kRdx,
  kCpl,
  kXcr0,
  kListHeader,
  kListEntry,
};
inline constexpr std::size_t kGhcbFields = 14;
[[nodiscard]] std::string_view name(GhcbField field);

struct GhcbMistake {
  GhcbMistakeKind kind = GhcbMistakeKind::kNoGhcb;
  GhcbField field = GhcbField::kMsr;
  std::uint64_t exit_code = 0;  ///< sw_exit_code; 0 in the MSR protocol and without a page
  std::uint64_t value = 0;      ///< of the field, as it was read
  std::uint16_t entry = 0;      ///< kListEntry: which

  friend constexpr bool operator==(const GhcbMistake&, const GhcbMistake&) = default;
};

enum class GhcbNext : std::uint8_t {
  kResume,     ///< run the guest, with GhcbOutcome::msr in the GHCB MSR
  kHold,       ///< this vCPU waits for its start; then Ghcb::start()
  kTerminate,  ///< the guest asks to be ended: `reason`, `payload`
  kStop,       ///< nothing can be answered (KVM: -EINVAL to its user): `mistake`
};
[[nodiscard]] std::string_view name(GhcbNext next);

/// How the guest goes on after a VMGEXIT.
struct GhcbOutcome {
  GhcbNext next = GhcbNext::kResume;
  std::uint64_t msr = 0;  ///< value of the GHCB MSR from now on
  /// kTerminate. A guest that is not SNP and makes an SNP request by MSR is ended, too (as in KVM):
  /// with the reason kTerminateGeneral, and the mistake kSnpOnly reported.
  abi::ghcb::TerminateReason reason{};
  std::uint64_t payload = 0;  ///< kTerminate through a page: sw_exit_info_2
  GhcbMistakeKind mistake = GhcbMistakeKind::kNoGhcb;  ///< kStop: why

  friend constexpr bool operator==(const GhcbOutcome&, const GhcbOutcome&) = default;
};

}  // namespace accede::host
