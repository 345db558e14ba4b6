// Conversions in bulk: page state change lists and MapGPA of any size by the fewest calls to the
// memory objects, and without keeping a vCPU away for long.
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/abi/tdx_vmcall.hpp"
#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/ghcb_page_state.hpp"
#include "accede/host/private_memory.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>

namespace accede::host {

/// What one exit may do before its vCPU must be back in the guest. The first step always goes, so
/// every exit gets on; nothing else does once `most` is converted or `must_return` says so. A vCPU
/// is away for that time and one step more.
struct BulkLimits {
  Bytes step = 32_MiB;  ///< most that is one call to a memory object: a multiple of 2 MiB
  Bytes most = 1_GiB;   ///< per exit; at least `step`
};

/// How far a conversion came.
struct BulkProgress {
  PhysAddr next;                                ///< every page before it is converted
  std::optional<PrivateMemoryFailure> failure;  ///< why not beyond; none: done, or out of time
};

/// What to put into a TD's registers.
struct MapGpaAnswer {
  abi::tdx::VmcallStatus r10 = abi::tdx::VmcallStatus::kSuccess;
  std::uint64_t r11 = 0;  ///< otherwise: the first GPA not converted, shared bit as given
};

/// Converts the memory of one launched VM. Pages outside every slot are shared: there is nothing to
/// do to share them, and they cannot become private. A page that somebody else is converting is
/// waited for, boundedly.
///
/// Thread-safe: holds no state of its own.
template <PrivateMemoryBacking Memory>
class BulkConversion {
 public:
  /// Asked between two steps: true = back into the guest (an interrupt waits, the time is over).
  using MustReturn = FunctionRef<bool()>;
  using Report = PageStateList::Report;
  /// PSMASH or UNSMASH of whole 2 MiB pages that the guest asked for. A hint: whether it is done
  /// does not change the answer.
  using Resize = FunctionRef<void(PhysRange pages, abi::ghcb::PageOp op)>;

  /// `memory` outlives the object. Preconditions: as BulkLimits says.
  BulkConversion(PrivateMemory<Memory>& memory, const BulkLimits& limits);

  /// Converts from the front of `gpas` on. What can be known before is: a page that cannot be
  /// private, or a granule that does not fit, fails with nothing converted. Errors as
  /// PrivateMemory::convert(); kBusy: the other conversion did not end.
  [[nodiscard]] BulkProgress convert(PhysRange gpas, PageAttribute to, MustReturn must_return);

  /// TDG.VP.VMCALL<MapGPA>: `start` = R12, `size` = R13. Bad arguments as map_gpa_request();
  /// RETRY: out of time, or kBusy (Linux gives up after three without progress); INVALID_OPERAND: a
  /// failure.
  [[nodiscard]] MapGpaAnswer map_gpa(std::uint64_t start, std::uint64_t size,
                                     std::uint64_t shared_bit, MustReturn must_return);

  /// Answers page state change lists of several vCPUs that wait at once, in place; their result()
  /// is for sw_exit_info_2. Entries that follow each other, and the fronts of different lists, are
  /// one call where together they are one range in one slot. Where that fails they are tried as KVM
  /// would, so cur_entry and cur_page say the same and no list suffers for another. Out of time, or
  /// kBusy: a list ends early without an error, and the guest asks again.
  void answer_lists(std::span<PageStateList> lists, MustReturn must_return, Report report,
                    Resize resize);

 private:
  /// What is left of an exit.
  struct Exit {
    MustReturn must_return;
    Bytes left;
    bool begun = false;

    [[nodiscard]] bool may_go_on() { return !begun || (left != Bytes{0} && !must_return()); }
    void spend(Bytes size) {
      begun = true;
      left -= std::min(left, size);
    }
  };

  [[nodiscard]] PhysRange front(PhysRange gpas, const MemorySlot*& slot) const;
  [[nodiscard]] std::optional<PrivateMemoryFailure> cannot(PhysRange gpas, PageAttribute to) const;
  [[nodiscard]] PrivateMemoryResult<Conversion> convert_step(PhysRange part, PageAttribute to,
                                                             Exit& exit);
  [[nodiscard]] BulkProgress convert(PhysRange gpas, PageAttribute to, Exit& exit);
  [[nodiscard]] const GhcbPageState* head(PageStateList& list, Report report, Resize resize);
  [[nodiscard]] PhysRange hull(std::span<PageStateList> lists, const GhcbPageState& seed,
                               Report report, Resize resize);
  [[nodiscard]] bool answer_together(std::span<PageStateList> lists, const GhcbPageState& seed,
                                     Exit& exit, Report report, Resize resize);
  void answer_alone(PageStateList& list, Exit& exit, Report report);

  PrivateMemory<Memory>& memory_;
  BulkLimits limits_;
};

}  // namespace accede::host

#include "accede/host/bulk_conversion_lists.hpp"   // IWYU pragma: export
#include "accede/host/bulk_conversion_ranges.hpp"  // IWYU pragma: export
