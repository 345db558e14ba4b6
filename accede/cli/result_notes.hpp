// What a run is worth saying in words.
#pragma once

#include "accede/cli/run_result.hpp"

#include <string>
#include <string_view>

namespace accede::cli {

/// Paragraphs, each after a blank line and starting with `prefix`; empty when all is well.
[[nodiscard]] std::string run_notes(const RunResult& run, std::string_view prefix);

}  // namespace accede::cli
