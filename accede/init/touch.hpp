// The workload: touch memory for the first time and take the time of each touch.
#pragma once

#include "accede/base/latency_histogram.hpp"
#include "accede/init/proc_files.hpp"

#include <cstdint>
#include <string_view>

namespace accede::init {

struct TouchResult {
  std::uint64_t touched_bytes = 0;
  std::uint64_t wrong_pages = 0;  ///< pages that did not hold what was written
  std::uint64_t elapsed_ns = 0;   ///< of the touching, without the check
  std::uint64_t elapsed_ticks = 0;
  std::string_view stopped;  ///< why: "done", "accepted", "memory", or an error of mmap
  LatencyHistogram latency;  ///< in TSC ticks a 4 KiB page
};

/// Touches anonymous memory in steps of 4 KiB, as much as `request` asks, then checks that every
/// page holds what was written. All: until nothing is unaccepted any more; when nothing is
/// unaccepted to begin with, until memory is nearly gone. Stops early rather than being killed for
/// lack of memory. The memory stays mapped. `result` is large, hence not returned.
void touch_memory(const Request& request, TouchResult& result);

}  // namespace accede::init
