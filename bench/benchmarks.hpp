// Registering the experiments with Google Benchmark.
#pragma once

#include "bench/figures.hpp"

#include <cstddef>
#include <cstdint>
#include <string>

namespace accede::bench {

/// Names are part of the contract: Accept/Raw/threads:1, FirstTouch/lazy, ... on the modelled
/// platform, the same with Real/ in front on real memory.
void register_benchmarks(const Scale& scale, const std::string& trace);

struct ContainsFigures {
  std::size_t places = 0;
  std::uint64_t wrong = 0;  ///< answers that differ from a naive scan
  double nanoseconds = 0;   ///< a question
};
[[nodiscard]] ContainsFigures contains_figures();

}  // namespace accede::bench
