// accede-bench --check: what the project promises, measured and judged.
#pragma once

#include "bench/figures.hpp"

#include <string>

namespace accede::bench {

struct CheckSettings {
  Scale scale;
  std::string trace;   ///< of Boot/248cpus
  std::string itself;  ///< the program, to be run under callgrind
};

/// Runs every check and prints a line for each; returns how many failed.
[[nodiscard]] unsigned run_checks(const CheckSettings& settings);

}  // namespace accede::bench
