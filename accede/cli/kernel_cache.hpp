// Kernels of the distribution, fetched once.
#pragma once

#include "accede/cli/failure.hpp"
#include "accede/cli/signals.hpp"

#include <expected>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace accede::cli {

/// $XDG_CACHE_HOME/accede/kernels, or ~/.cache/accede/kernels.
[[nodiscard]] std::filesystem::path kernel_cache_directory();

/// The file of the kernel called `name` (`is_kernel_name`). From the cache when any package that
/// fits is there, without asking the distribution; else the newest that the distribution offers is
/// downloaded, unpacked, and kept as DIRECTORY/PACKAGE/vmlinuz. Nothing is installed. Several
/// processes may do this at once: each works in a directory of its own and the first to finish
/// moves it into place. `progress` is told what takes time.
[[nodiscard]] std::expected<std::filesystem::path, Failure> find_or_fetch_kernel(
    std::string_view name, const std::filesystem::path& directory, SignalWatch& signals,
    const std::function<void(std::string_view)>& progress);

}  // namespace accede::cli
