// The report for a person.
#pragma once

#include "accede/cli/run_result.hpp"

#include <span>
#include <string>

namespace accede::cli {

/// A table with a column a run, and below it in words what is worth knowing: what went wrong and
/// where to look, RAM that the kernel lost, rules that it broke. `with_steps`: the flow of each
/// boot after the table. Precondition: not empty.
[[nodiscard]] std::string results_text(std::span<const RunResult> results, bool with_steps = false);

}  // namespace accede::cli
