// The matrix for programs.
#pragma once

#include "accede/cli/matrix_cell.hpp"

#include <string>

namespace accede::cli {

/// One JSON document: `cells`, and `upgrades` that make a user worse off (docs/matrix.md).
[[nodiscard]] std::string matrix_json(const MatrixReport& report);

}  // namespace accede::cli
