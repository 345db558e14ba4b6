// `accede inspect`: says what kernel and firmware images can do.
#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <vector>

namespace accede::cli {

/// The options as they were given. Text is checked by inspect_command().
struct InspectOptions {
  std::vector<std::string> paths;  ///< files, and directories to search
  std::optional<std::string> claimed;
  std::optional<std::string> require;
  std::optional<std::string> jobs;
  std::optional<std::string> resume;
  bool json = false;
  bool boot = false;
  std::optional<std::string> platform;  ///< of --boot
  std::optional<std::string> timeout;   ///< of one boot
};

/// Inspects every file, several at a time, and writes what it says to `out` in the order of the
/// paths, problems to `err`. Returns the exit code: 2 when a file cannot be inspected, 4 when a
/// boot did not end, else 1 when one lacks a required tag or its boot shows something else.
[[nodiscard]] int inspect_command(const InspectOptions& options, std::ostream& out,
                                  std::ostream& err);

}  // namespace accede::cli
