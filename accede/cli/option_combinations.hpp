// Options of `accede boot` that only make sense together, or not together.
#pragma once

#include "accede/cli/boot_options.hpp"
#include "accede/cli/failure.hpp"
#include "accede/cli/kernel_image.hpp"

#include <expected>
#include <string_view>

namespace accede::cli {

using Check = std::expected<void, Failure>;

/// What contradicts itself whatever the kernels are. Precondition: each word of `raw` is known.
[[nodiscard]] Check check_combinations(const RawBootOptions& raw);

/// What a kernel chosen by name cannot do. `options` has the kernels and modes.
[[nodiscard]] Check check_kernels_fit(const BootOptions& options, const RawBootOptions& raw);

/// What a kernel cannot do, now that its file is known; `kernel` as the user gave it.
[[nodiscard]] Check check_kind_fits(const BootOptions& options, KernelKind kind,
                                    std::string_view kernel);

}  // namespace accede::cli
