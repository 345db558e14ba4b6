// The JSON of `accede boot --json`; every field of the command's contract is there in every run.
#pragma once

#include "accede/cli/run_result.hpp"

#include <span>
#include <string>

namespace accede::cli {

/// One run as an object on one line.
[[nodiscard]] std::string run_json(const RunResult& result);

/// One run as an object, several as {"runs":[...],"speedup":...}; indented. `with_steps`: each with
/// the flow of the boot. `several`: more were asked for, so the form is theirs.
[[nodiscard]] std::string results_json(std::span<const RunResult> results, bool with_steps = false,
                                       bool several = false);

}  // namespace accede::cli
