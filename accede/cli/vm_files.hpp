// What one VM boots from.
#pragma once

#include "accede/cli/boot_options.hpp"
#include "accede/cli/failure.hpp"
#include "accede/cli/host_tools.hpp"
#include "accede/cli/kernel_image.hpp"
#include "accede/cli/run_result.hpp"
#include "accede/cli/temp_dir.hpp"
#include "accede/inspect/disk_image.hpp"

#include <expected>
#include <filesystem>
#include <optional>
#include <string>

namespace accede::cli {

/// One run of `accede boot`: one kernel in one mode.
struct RunPlan {
  AcceptMode mode = AcceptMode::kLazy;
  std::filesystem::path kernel;
  KernelImage image;
  std::filesystem::path initrd;
  std::optional<AcceptanceForecast> forecast = {};
  /// Brings its own command line, or its own initrd: ours is not offered. The end of such a run is
  /// not told by our init.
  bool own_command_line = false;
  bool own_initrd = false;
  /// `kernel` is a disk: it is attached, and what it boots by itself is started.
  std::optional<inspect::DiskFormat> disk = std::nullopt;
};

/// The run's parameters, for its report.
[[nodiscard]] RunLabel label_of(const BootOptions& options, const RunPlan& plan);

/// The kernel command line: ours, the mode, the workload, kexec, the user's, in this order. An EFI
/// program that is not ours gets only the user's.
[[nodiscard]] std::string kernel_command_line(const BootOptions& options, const RunPlan& plan);

/// The launcher's configuration file (docs/emulator.md).
[[nodiscard]] std::string launcher_config(const BootOptions& options, const RunPlan& plan);

/// A temporary directory with all files of a run.
struct VmFiles {
  TempDir directory;
  std::filesystem::path partition;  ///< becomes the EFI system partition
  Firmware firmware;                ///< with a private copy of the variables
};

[[nodiscard]] std::expected<VmFiles, Failure> make_vm_files(const BootOptions& options,
                                                            const RunPlan& plan,
                                                            const HostTools& tools);

}  // namespace accede::cli
