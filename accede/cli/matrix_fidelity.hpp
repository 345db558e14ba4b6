// Which cells of the matrix exist outside of the emulator.
#pragma once

#include "accede/cli/matrix_cell.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace accede::cli {

/// True when some released OVMF does this on the platform.
[[nodiscard]] bool is_shipped(Platform platform, FirmwareKind kind);

/// The shipped firmware that does this on the platform, or why none does. A sentence without its
/// full stop. From the history of OVMF (docs/matrix.md).
[[nodiscard]] std::string_view firmware_history(Platform platform, FirmwareKind kind);

/// Why this boot exists on the emulator only, a clause each; empty: as shipped. What the firmware
/// does is known from its history; whether the kernel knows the platform is measured: one that came
/// up and did not name the platform as its memory encryption has no code for it, and of one that
/// did not get as far as naming any nobody can tell.
[[nodiscard]] std::vector<std::string> only_here_because(const MatrixCell& cell);

/// `as shipped`, or `emulator only, because ...; ...`.
[[nodiscard]] std::string fidelity(const MatrixCell& cell);

}  // namespace accede::cli
