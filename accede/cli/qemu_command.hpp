// The virtual machine: QEMU's command line.
#pragma once

#include "accede/base/units.hpp"
#include "accede/cli/boot_options.hpp"
#include "accede/cli/host_tools.hpp"
#include "accede/inspect/disk_image.hpp"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace accede::cli {

/// Descriptors of QEMU's ends of the channels.
struct VmChannels {
  int console = -1;  ///< the first serial port
  int report = -1;   ///< the report port
  int control = -1;  ///< QMP
};

/// A disk of the user's. It is never written: what the guest writes goes with the VM.
struct VmDisk {
  std::filesystem::path file;
  inspect::DiskFormat format = inspect::DiskFormat::kRaw;
};

struct VmSetup {
  Platform platform = Platform::kTdx;
  Bytes memory;
  Firmware firmware;                ///< `variables`, if any, is a copy that QEMU may write
  std::filesystem::path partition;  ///< directory that becomes the EFI system partition
  VmChannels channels;
  bool force_accept = false;  ///< the firmware finds that the host wants everything accepted
  std::optional<VmDisk> disk = std::nullopt;
};

/// The arguments, the program first. The VM never restarts: after power-off or reset it stands
/// still with its memory intact until QEMU is stopped.
[[nodiscard]] std::vector<std::string> qemu_arguments(const std::string& program,
                                                      const VmSetup& setup);

}  // namespace accede::cli
