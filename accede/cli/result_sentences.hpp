// What a comparison of runs comes to, in a sentence each.
#pragma once

#include "accede/cli/run_result.hpp"

#include <span>
#include <string>

namespace accede::cli {

/// Lazy against eager for each kernel that ran in both modes, our own kernel against Linux in the
/// same mode. Each sentence after a blank line; empty when there is nothing to compare.
[[nodiscard]] std::string result_sentences(std::span<const RunResult> results);

/// True when not all of these runs booted the same kernel.
[[nodiscard]] bool several_kernels(std::span<const RunResult> results);

}  // namespace accede::cli
