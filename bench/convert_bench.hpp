// Converting shared pages to private on real memory: one backing call a page, or as few as there
// can be.
#pragma once

#include "bench/verdict.hpp"

#include <cstdint>
#include <vector>

namespace accede::bench {

/// What surrounds a round of Convert/4k-each or Convert/list253.
struct ConvertSetup {
  bool alternating = false;    ///< every other page of 506 instead of 253 that follow each other
  bool busy_thread = false;    ///< a second thread of the process touches memory of its own
  bool bare = false;           ///< 4k-each keeps no page states: calls of the backing alone
  bool private_there = false;  ///< the private side holds the pages too
};

struct ConvertFigures {
  std::vector<double> each_us;   ///< Convert/4k-each: a call of the backing for each page
  std::vector<double> list_us;   ///< Convert/list253: the guest's list, answered
  std::vector<double> ratios;    ///< each / list, pair by pair
  std::uint64_t each_calls = 0;  ///< to the backing, in one round
  std::uint64_t list_calls = 0;
  std::uint64_t wrong = 0;  ///< rounds after which a page or a byte of it was still there
};

/// Pairs of rounds in alternating order. Before each round all 506 pages are shared, written and
/// mapped twice, by the host and as the guest's memory.
[[nodiscard]] ConvertFigures convert_pairs(unsigned pairs, const ConvertSetup& setup);

struct ConvertRangeFigures {
  double seconds = 0;           ///< by exits
  double longest_exit_ms = 0;   ///< until the vCPU is back in the guest
  double longest_step_ms = 0;   ///< between two looks at the clock
  double one_call_seconds = 0;  ///< the same memory by one call of the backing
  std::uint64_t exits = 0;
  std::uint64_t calls = 0;
  std::uint64_t left = 0;  ///< bytes that are still there
};

/// Convert/range1GiB: MapGPA of `pages` pages of 4 KiB, all there and mapped, with RETRY once an
/// exit took 2 ms.
[[nodiscard]] ConvertRangeFigures convert_range(std::uint64_t pages);

void check_convert(Verdicts& verdicts, bool quick);

}  // namespace accede::bench
