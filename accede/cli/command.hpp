// The command line of `accede`: subcommands, options, help.
#pragma once

#include <ostream>

namespace accede::cli {

/// Parses the command line and runs the subcommand. Returns the exit code.
[[nodiscard]] int run_command(int argc, const char* const* argv, std::ostream& out,
                              std::ostream& err);

}  // namespace accede::cli
