// Planning TDMRs for hosts with thousands of memory ranges.
#pragma once

#include "bench/verdict.hpp"

namespace accede::bench {

/// Tdmr/4096ranges/...: at the limit of the module, and beyond it with the smallest change.
void register_tdmr_benchmarks();

/// Time, and that the plans are what they should be.
void check_tdmr(Verdicts& verdicts, unsigned repetitions);

}  // namespace accede::bench
