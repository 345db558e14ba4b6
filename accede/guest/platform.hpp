// What the guest library asks of a confidential platform, and the one policy for every answer.
//
// A platform is a concept, not a base class: TdxPlatform, SnpPlatform, NoPlatform, those of the
// tests and of the testbed are models of it.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"

#include <concepts>
#include <cstdint>
#include <expected>
#include <string_view>

namespace accede::guest {

using namespace std::string_view_literals;

enum class PlatformKind : std::uint8_t { kNone, kTdx, kSnp };

[[nodiscard]] constexpr std::string_view to_string(PlatformKind kind) {
  switch (kind) {
    case PlatformKind::kNone:
      return "no confidential platform"sv;
    case PlatformKind::kTdx:
      return "Intel TDX"sv;
    case PlatformKind::kSnp:
      return "AMD SEV-SNP"sv;
  }
  return "unknown platform"sv;
}

/// Who can read a page: the guest alone, or the host too.
enum class Visibility : std::uint8_t { kPrivate, kShared };

/// What a platform can say to a request to accept one page. Every status word of TDCALL and every
/// code of PVALIDATE is one of these.
enum class Answer : std::uint8_t {
  kAccepted,         ///< the page is the guest's now
  kAlreadyAccepted,  ///< it was before: TDX PAGE_ALREADY_ACCEPTED; SNP success with CF = 1
  kSizeMismatch,     ///< the host backs it in smaller pages
  kBusy,             ///< somebody holds it; try again
  kInvalid,          ///< everything else: wrong operand, no memory there, unknown code
};

/// What the guest does about an answer.
enum class Reaction : std::uint8_t {
  kProceed,       ///< on to the next page
  kSmallerPages,  ///< the same range again in 4 KiB pages
  kRetry,         ///< the same page again, within a bound
  kStop,          ///< the operation ends with an error
};

/// The one policy. The guest's own table says that a page was never accepted, so "already accepted"
/// means that the host replayed or aliased it, or that the table is wrong: never silently continued
/// (Linux maintainers' rule for TDX; SNP: PVALIDATE with CF = 1 is an aliasing attack).
[[nodiscard]] constexpr Reaction reaction(Answer answer, PageSize size) {
  switch (answer) {
    case Answer::kAccepted:
      return Reaction::kProceed;
    case Answer::kSizeMismatch:
      return size == PageSize::k4K ? Reaction::kStop : Reaction::kSmallerPages;
    case Answer::kBusy:
      return Reaction::kRetry;
    case Answer::kAlreadyAccepted:
    case Answer::kInvalid:
      return Reaction::kStop;
  }
  return Reaction::kStop;
}

/// Why an operation on the platform ended early.
enum class FailureKind : std::uint8_t {
  kAlreadyAccepted,  ///< accepted memory was offered as unaccepted: an attack or a wrong table
  kBusyForever,      ///< busy, or asked to retry, more often than the bound allows
  kRefused,          ///< the platform refused the request
  kHostLied,         ///< an answer that no honest host gives (progress going backwards, a changed
                     ///< request, a success without effect)
  kUnsupported,      ///< the platform has no such operation
};

[[nodiscard]] constexpr std::string_view to_string(FailureKind kind) {
  switch (kind) {
    case FailureKind::kAlreadyAccepted:
      return "the platform says that unaccepted memory was accepted before: attack or wrong table"sv;
    case FailureKind::kBusyForever:
      return "the platform stayed busy beyond the bound"sv;
    case FailureKind::kRefused:
      return "the platform refused the request"sv;
    case FailureKind::kHostLied:
      return "the host gave an answer that no honest host gives"sv;
    case FailureKind::kUnsupported:
      return "the platform has no such operation"sv;
  }
  return "unknown platform failure"sv;
}

/// The failure that an answer which stops the operation amounts to.
[[nodiscard]] constexpr FailureKind failure_of(Answer answer) {
  switch (answer) {
    case Answer::kAlreadyAccepted:
      return FailureKind::kAlreadyAccepted;
    case Answer::kBusy:
      return FailureKind::kBusyForever;
    case Answer::kAccepted:
    case Answer::kSizeMismatch:
    case Answer::kInvalid:
      return FailureKind::kRefused;
  }
  return FailureKind::kRefused;
}

/// How accept() or convert() ended early.
struct PlatformFailure {
  FailureKind kind = FailureKind::kRefused;
  std::uint64_t status = 0;       ///< the platform's own word: RAX of TDCALL, EAX of PVALIDATE, ...
  PhysAddr at;                    ///< page that failed
  PageSize size = PageSize::k4K;  ///< size in which it was asked for
  /// Everything from the begin of the request to here is done; nothing from `at` on is. The caller
  /// that tries again must go on from here: no page is accepted twice.
  PhysAddr done_end;

  friend bool operator==(const PlatformFailure&, const PlatformFailure&) = default;
};

using PlatformResult = std::expected<void, PlatformFailure>;

/// What the library needs of a platform. Thread-safe: accept() of disjoint ranges may run on
/// several CPUs at once; convert() likewise.
///   accept(range)        makes private memory usable. Precondition: `range` is page aligned and no
///                        page of it was accepted before. Content: zero on TDX, undefined on SNP.
///   convert(range, to)   gives pages to the host or takes them back. To private includes
///                        accepting. Content is lost.
///   preferred_step()     bytes that one accept() call should be asked for: enough to amortise a
///                        call, little enough not to hold up a CPU. A power of two, at least 4 KiB.
template <class P>
concept AcceptPlatform = requires(P& platform, PhysRange range, Visibility to) {
  { platform.accept(range) } -> std::same_as<PlatformResult>;
  { platform.convert(range, to) } -> std::same_as<PlatformResult>;
  { platform.kind() } -> std::same_as<PlatformKind>;
  { platform.preferred_step() } -> std::same_as<Bytes>;
};

/// The platform of an ordinary VM or machine: all memory is accepted, nothing can be converted.
class NoPlatform {
 public:
  [[nodiscard]] PlatformResult accept(PhysRange) { return {}; }
  [[nodiscard]] PlatformResult convert(PhysRange range, Visibility to) {
    if (to == Visibility::kPrivate) {
      return {};
    }
    return std::unexpected{PlatformFailure{.kind = FailureKind::kUnsupported,
                                           .status = 0,
                                           .at = range.begin(),
                                           .size = PageSize::k4K,
                                           .done_end = range.begin()}};
  }
  [[nodiscard]] PlatformKind kind() const { return PlatformKind::kNone; }
  [[nodiscard]] Bytes preferred_step() const { return 2_MiB; }
};
static_assert(AcceptPlatform<NoPlatform>);

}  // namespace accede::guest
