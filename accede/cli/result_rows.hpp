// What the table of runs compares, row by row.
#pragma once

#include "accede/cli/run_result.hpp"

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace accede::cli {

/// A row: a name, how to print a run's cell (`-`: not known), and, where a ratio of two runs means
/// something, the figure that it compares.
struct Row {
  std::string_view title;
  std::function<std::string(const RunResult&)> cell;
  std::function<std::optional<double>(const RunResult&)> figure;
};

/// The rows that these runs have something to say about. Precondition: not empty.
[[nodiscard]] std::vector<Row> result_rows(std::span<const RunResult> results);

/// Everything that was accepted until the guest was up; nothing without emulator.
[[nodiscard]] std::optional<Bytes> accepted_bytes(const RunResult& run);

}  // namespace accede::cli
