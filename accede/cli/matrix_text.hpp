// The matrix for a person.
#pragma once

#include "accede/cli/matrix_cell.hpp"

#include <string>

namespace accede::cli {

/// For each platform the table and its cells against the prediction; then the upgrades that make a
/// user worse off. Cells that were not booted are shown as `-`. Precondition: at least one cell.
[[nodiscard]] std::string matrix_text(const MatrixReport& report);

}  // namespace accede::cli
