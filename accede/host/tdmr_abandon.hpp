// Which RAM a layout of TDMRs gives up.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/host/tdmr_blocks.hpp"
#include "accede/host/tdmr_layout.hpp"
#include "accede/host/tdmr_workspace.hpp"

#include <cstddef>
#include <span>

namespace accede::host {

/// Memory between two holes.
struct TdmrStretch {
  PhysRange range;
  Bytes required;
};

/// Adds to `abandoned`, ascending, the needed blocks outside `tdmrs`, and in each TDMR with more
/// than `most_areas` holes the stretches between holes that have the least required memory, the
/// lowest of equals. Preconditions: room for as many ranges in `abandoned`, and as many stretches
/// in `scratch`, as there are runs.
void abandon(std::span<const TdmrBlock> blocks, std::span<const TdmrSpan> tdmrs,
             std::size_t most_areas, std::span<TdmrStretch> scratch,
             TdmrList<PhysRange>& abandoned);

}  // namespace accede::host
