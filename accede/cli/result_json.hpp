// The JSON of `accede boot --json` (docs: the command's contract).
#pragma once

#include "accede/cli/run_result.hpp"

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>

namespace accede::cli {

/// Keeps the order in which fields are written.
using Json = nlohmann::ordered_json;

/// One run.
[[nodiscard]] Json result_json(const RunResult& result);

/// One run as itself, several as {"runs":[...],"speedup":...}.
[[nodiscard]] Json results_json(std::span<const RunResult> results);

/// The document as text, with what is not UTF-8 replaced, so that no guest can spoil it.
/// `indent` negative: on one line.
[[nodiscard]] std::string json_text(const Json& json, int indent);

/// Seconds from kernel to init of the first eager run over those of the first lazy run of the same
/// kernel; nothing when there are not both.
[[nodiscard]] std::optional<double> speedup(std::span<const RunResult> results);

}  // namespace accede::cli
