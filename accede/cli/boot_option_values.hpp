// The values of single options of `accede boot`; used by boot_options.cpp alone.
#pragma once

#include "accede/cli/boot_options.hpp"
#include "accede/cli/option_combinations.hpp"

#include <expected>
#include <string_view>

namespace accede::cli {

/// `OPTION 'VALUE': expected EXPECTED`.
[[nodiscard]] std::unexpected<Failure> bad(std::string_view option, std::string_view value,
                                           std::string_view expected);
/// Part of the contract, but not built.
[[nodiscard]] std::unexpected<Failure> not_yet(std::string_view what);

/// Sizes, times, lists and texts of `raw`, into `options`. Precondition: its words are known.
[[nodiscard]] Check check_values(const RawBootOptions& raw, BootOptions& options);

[[nodiscard]] Check check_vcpus(const RawBootOptions::Text& vcpus);

}  // namespace accede::cli
