// Boots one VM and watches it.
#pragma once

#include "accede/cli/boot_options.hpp"
#include "accede/cli/failure.hpp"
#include "accede/cli/host_tools.hpp"
#include "accede/cli/progress.hpp"
#include "accede/cli/run_result.hpp"
#include "accede/cli/signals.hpp"
#include "accede/cli/vm_files.hpp"

#include <expected>
#include <string>

namespace accede::cli {

/// What a run uses of its surroundings.
struct RunContext {
  const HostTools& tools;
  SignalWatch& signals;
  Progress& progress;
  int console_fd = -1;  ///< where the guest's console is copied; negative: nowhere
  std::string title;    ///< for the progress line, e.g. "lazy (1 of 2)"
};

/// Starts QEMU, follows the boot to its end, stops QEMU and removes every file. A failure when
/// there is nothing to report: QEMU cannot go on, or a signal came.
[[nodiscard]] std::expected<RunResult, Failure> run_vm(const BootOptions& options,
                                                       const RunPlan& plan,
                                                       const RunContext& context);

}  // namespace accede::cli
