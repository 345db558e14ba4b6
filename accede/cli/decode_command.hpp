// `accede decode`: explains status codes.
#pragma once

#include <ostream>
#include <span>
#include <string>

namespace accede::cli {

/// Explains every code on `out`, in every way it can be read; with `json` as one document: an
/// object for one reading, an array for none or several. What is unknown or no code is said on
/// `err`. Returns the exit code: a text that is no code is usage, and then nothing is explained; an
/// unknown code makes the others no less explained, but the command fail.
[[nodiscard]] int decode_command(std::span<const std::string> codes, bool json, std::ostream& out,
                                 std::ostream& err);

}  // namespace accede::cli
