// What the firmware's acceptance will cost, known before a boot.
#pragma once

#include "accede/base/units.hpp"
#include "accede/cli/vm_files.hpp"

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

namespace accede::cli {

/// The bytes of the files that a loader will have in memory.
struct LoaderFiles {
  Bytes kernel;
  Bytes initrd;
};

/// Our loader, or firmware with the handshake, accepts everything for a kernel that cannot, as it
/// sees it.
[[nodiscard]] bool accepts_all_for(const BootOptions& options, const RunPlan& plan);

/// What a run writes of the VM's memory when it accepts it and nothing is charged instead.
[[nodiscard]] Bytes accepted_by_writing(const BootOptions& options, const RunPlan& plan);

/// What the firmware accepts, before the kernel starts or (`at_exit`) for one that promises
/// nothing, and the time by the cost model. Nothing when the VM has no firmware that accepts, or
/// when accepting costs what this machine takes to zero memory (--accept-cost real).
[[nodiscard]] std::optional<AcceptanceForecast> forecast_acceptance(const BootOptions& options,
                                                                    LoaderFiles files,
                                                                    bool at_exit);

/// The same for a run whose files exist.
[[nodiscard]] std::optional<AcceptanceForecast> forecast_acceptance(const BootOptions& options,
                                                                    const RunPlan& plan);

/// One line: what comes, and a warning when the run's time ends first.
[[nodiscard]] std::string describe(const AcceptanceForecast& forecast, const BootOptions& options);

}  // namespace accede::cli
