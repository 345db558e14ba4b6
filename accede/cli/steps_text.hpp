// The way of a confidential VM's memory through one boot: host, firmware, loader, kernel, workload,
// kexec.
#pragma once

#include "accede/base/units.hpp"
#include "accede/cli/run_result.hpp"

#include <optional>
#include <string>
#include <vector>

namespace accede::cli {

/// One step, in order of time. A run that ended early has the steps that it got to; the last one
/// says how it ended.
struct Step {
  std::string who;  ///< host, firmware, loader, kernel, workload, kexec
  std::string what;
  std::optional<Bytes> bytes;     ///< nothing: no memory belongs to the step, or it is not known
  std::optional<double> seconds;  ///< how long the step took, accepting included
};

[[nodiscard]] std::vector<Step> steps_of(const RunResult& result);

/// The steps as aligned lines, each with its line end.
[[nodiscard]] std::string steps_text(const RunResult& result);

}  // namespace accede::cli
