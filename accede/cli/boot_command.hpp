// `accede boot`: boots kernels as confidential VMs and reports.
#pragma once

#include "accede/cli/boot_options.hpp"

#include <ostream>

namespace accede::cli {

/// Boots every kernel in every mode, one after the other, and writes the report to `out`, what went
/// wrong to `err`. Returns the exit code: that of the first run that did not do well.
[[nodiscard]] int boot_command(const BootOptions& options, std::ostream& out, std::ostream& err);

}  // namespace accede::cli
