// How a command ends when it cannot do its work.
#pragma once

#include <string>
#include <utility>

namespace accede::cli {

/// Exit codes of every subcommand. A command that a signal ends exits with 128 + signal.
enum ExitCode : int {
  kExitDone = 0,
  kExitTestedFailed = 1,  ///< the thing tested failed: a rule broken, a panic
  kExitUsage = 2,         ///< usage or a bad input file
  kExitMissing = 3,       ///< something needed is missing
  kExitTimedOut = 4,
};

/// Why a command stops: one line for a person and the exit code.
struct Failure {
  int exit_code = kExitUsage;
  std::string message;
};

[[nodiscard]] inline Failure usage(std::string message) {
  return {.exit_code = kExitUsage, .message = std::move(message)};
}
[[nodiscard]] inline Failure missing(std::string message) {
  return {.exit_code = kExitMissing, .message = std::move(message)};
}
[[nodiscard]] inline Failure interrupted(int signal) {
  return {.exit_code = 128 + signal, .message = "interrupted"};
}

}  // namespace accede::cli
