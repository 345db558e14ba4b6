// Asking the host for page state changes through a GHCB page, and believing nothing of the answer.
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/guest/platform.hpp"

#include <cstdint>

namespace accede::guest {

/// A GHCB page: where the guest maps it (shared, C-bit clear) and its GPA, which is registered with
/// the host for the CPU that uses it. A null page: there is none.
struct GhcbRef {
  abi::ghcb::GhcbPage* page = nullptr;
  PhysAddr address{};
};

/// The front of a range as the entries of one list: 2 MiB where they fit, 4 KiB elsewhere, 253 at
/// most. The range alone decides the entries, so no copy of the list is kept: the guest's own view
/// is computed again and nothing is ever read back from the shared page. A value type.
class PageStateBatch {
 public:
  /// Preconditions: `range` is 4 KiB aligned and not empty; `cap` is not 1 GiB.
  PageStateBatch(PhysRange range, PageSize cap);

  [[nodiscard]] PhysRange range() const { return range_; }
  [[nodiscard]] std::uint16_t count() const { return count_; }
  /// Where entry `index` begins; with count() the end of the range.
  [[nodiscard]] PhysAddr at(std::uint16_t index) const;
  /// Writes the entries behind the header of a list in shared memory.
  void write(abi::ghcb::GhcbPage& page, abi::ghcb::PageOp op) const;

 private:
  PhysRange range_;
  PageSize cap_;
  std::uint16_t count_ = 0;
};

/// How often the host may answer without having finished an entry: more often than a 2 MiB entry
/// has pages after which an honest host can pause. Then kBusyForever.
inline constexpr unsigned kPageStateTries = 1024;

/// Has the host change the pages of `batch`, in as many exchanges as it wants (GHCB: Page State
/// Change; reference: SEV-SNP 3.5). `exchange` writes the GPA to the GHCB MSR, executes VMGEXIT and
/// returns when the guest runs again. `version` is the negotiated protocol version, 2 or more.
///
/// What comes back lies in shared memory: every word is read once. Failures, with `at` and done_end
/// at the first entry that the host did not report done:
///   kRefused      sw_exit_info_1 or _2 is not 0 (status: that word)
///   kHostLied     the header came back with another end, with reserved bits, or with a current
///                 entry before the last one or past the end (status: the header)
///   kBusyForever  no entry was finished in kPageStateTries exchanges
/// Success is the host's word only: a private page is the guest's when PVALIDATE says so.
[[nodiscard]] PlatformResult change_page_state(GhcbRef ghcb, const PageStateBatch& batch,
                                               abi::ghcb::PageOp op, std::uint16_t version,
                                               FunctionRef<void(PhysAddr ghcb)> exchange);

/// The same for one 4 KiB page by the MSR protocol. `exchange` writes the GHCB MSR, executes
/// VMGEXIT and returns the MSR. kRefused: the host's error (status: the response); kHostLied: not
/// a response to this request.
[[nodiscard]] PlatformResult change_page_state(PhysAddr page, abi::ghcb::PageOp op,
                                               FunctionRef<std::uint64_t(std::uint64_t)> exchange);

}  // namespace accede::guest
