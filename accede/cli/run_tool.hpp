// Runs a program of the distribution and collects what it prints.
#pragma once

#include "accede/cli/failure.hpp"
#include "accede/cli/signals.hpp"

#include <expected>
#include <string>
#include <vector>

namespace accede::cli {

struct ToolOutput {
  int status = 0;  ///< as waitpid gives it
  std::string out;
  std::string err;
};

/// Waits for the program to end. A failure when it cannot be started, or when a signal asks this
/// process to end: then the program is killed. `directory` empty: works in this process's.
[[nodiscard]] std::expected<ToolOutput, Failure> run_tool(const std::vector<std::string>& arguments,
                                                          const std::string& directory,
                                                          SignalWatch& signals);

}  // namespace accede::cli
