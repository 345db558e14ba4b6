// What happens when memory is added after the TDX module has its TDMRs.
// Source: reference: TDX fact sheet, section 6 (failures of uncovered pages, hotplug).
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/tdmr_plan.hpp"

#include <cstdint>
#include <span>

namespace accede::host {

enum class HotAddOutcome : std::uint8_t {
  kUsable,   ///< every page can be given to a TD
  kRefused,  ///< a host that promises TdmrPromise::kEveryPage does not bring it online
  kKillsTd,  ///< it comes online, and a TD that is given such a page fails
};

struct HotAddAnswer {
  HotAddOutcome outcome{};
  Bytes usable;        ///< in a TDMR, in no reserved area
  Bytes outside;       ///< in no TDMR
  Bytes reserved;      ///< in a reserved area
  PhysAddr first_bad;  ///< the first page that the module refuses; where there is one
  /// What TDH.MEM.PAGE.AUG (and ADD) answers for that page: the whole status word; 0 for kUsable.
  std::uint64_t aug_status = 0;

  friend bool operator==(const HotAddAnswer&, const HotAddAnswer&) = default;
};

/// Judges the addition of `range` to a host with `tdmrs`. Partial 4 KiB pages do not count; an
/// empty range is usable.
[[nodiscard]] HotAddAnswer judge_hot_add(std::span<const PlannedTdmr> tdmrs, TdmrPromise promise,
                                         PhysRange range);

}  // namespace accede::host
