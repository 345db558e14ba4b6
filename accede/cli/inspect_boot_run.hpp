// Boots an image for `accede inspect --boot`.
#pragma once

#include "accede/cli/failure.hpp"
#include "accede/cli/host_tools.hpp"
#include "accede/cli/inspect_boot.hpp"
#include "accede/cli/progress.hpp"
#include "accede/cli/signals.hpp"
#include "accede/cli/vm_files.hpp"

#include <expected>
#include <optional>
#include <string>
#include <vector>

namespace accede::cli {

/// How to boot images. One VM at a time; while it lives, signals are read here.
class ImageBooter {
 public:
  /// `platforms`: a comma list as typed. Errors: usage, or something needed is missing.
  [[nodiscard]] static std::expected<ImageBooter, Failure> make(
      const std::optional<std::string>& platforms, const std::optional<std::string>& timeout,
      SignalWatch& signals);

  /// Boots the image at `path`, of which `image` is what it says of itself: on each platform with
  /// the firmware that has the handshake, then, where that accepted everything, with the firmware
  /// that never accepts. An image that cannot be booted is an answer. The failure ends the command:
  /// QEMU cannot go on, or a signal came.
  [[nodiscard]] std::expected<BootedImage, Failure> boot(const std::string& path,
                                                         const inspect::Report& image);

 private:
  ImageBooter(HostTools tools, std::vector<BootOptions> options, SignalWatch& signals)
      : tools_{std::move(tools)}, options_{std::move(options)}, signals_{&signals} {}

  /// Adds a run. False: the launcher could not start the image.
  [[nodiscard]] std::expected<bool, Failure> run(BootedImage& booted, const BootOptions& options,
                                                 const RunPlan& plan);

  HostTools tools_;
  std::vector<BootOptions> options_;  ///< one for each platform
  SignalWatch* signals_;
};

}  // namespace accede::cli
