// `accede tdmr`.
#pragma once

#include "accede/cli/tdmr_options.hpp"

#include <ostream>

namespace accede::cli {

/// Plans and prints; the exit code: 1 when there is no plan as the policy asks.
[[nodiscard]] int tdmr_command(const RawTdmrOptions& raw, std::ostream& out, std::ostream& err);

}  // namespace accede::cli
