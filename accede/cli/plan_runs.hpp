// What a command that boots VMs can know before the first boot.
#pragma once

#include "accede/cli/boot_options.hpp"
#include "accede/cli/failure.hpp"
#include "accede/cli/host_tools.hpp"
#include "accede/cli/progress.hpp"
#include "accede/cli/signals.hpp"
#include "accede/cli/vm_files.hpp"

#include <expected>
#include <span>
#include <vector>

namespace accede::cli {

/// One plan for each kernel and mode of `options`, kernels first. Fetches kernels that have to be
/// fetched. Two kernels that call themselves the same are told apart by what the user called them.
/// The failure says which file or option is wrong.
[[nodiscard]] std::expected<std::vector<RunPlan>, Failure> plan_runs(const BootOptions& options,
                                                                     const HostTools& tools,
                                                                     SignalWatch& signals,
                                                                     Progress& progress);

/// A VM may be larger than the host as long as it does not use all of it.
[[nodiscard]] std::expected<void, Failure> check_host_memory(const BootOptions& options,
                                                             std::span<const RunPlan> plans);

}  // namespace accede::cli
