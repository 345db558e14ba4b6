#include "accede/cli/plan_runs.hpp"

#include "accede/cli/acceptance_forecast.hpp"
#include "accede/cli/file_text.hpp"
#include "accede/cli/kernel_cache.hpp"
#include "accede/cli/kernel_packages.hpp"
#include "accede/cli/option_combinations.hpp"
#include "accede/cli/size_text.hpp"

#include <algorithm>
#include <filesystem>
#include <string>

namespace accede::cli {
namespace fs = std::filesystem;
namespace {

/// A path or a name as the path of a kernel.
std::expected<fs::path, Failure> locate_kernel(const std::string& kernel, const HostTools& tools,
                                               SignalWatch& signals, Progress& progress) {
  if (kernel == kGuestName) {
    return tools.guest;
  }
  std::error_code error;
  if (is_kernel_name(kernel) && !fs::exists(kernel, error)) {
    return find_or_fetch_kernel(kernel, kernel_cache_directory(), signals,
                                [&progress](std::string_view text) { progress.show(text); });
  }
  if (kernel.find('/') == std::string::npos && !fs::exists(kernel, error)) {
    return std::unexpected{
        usage("kernel " + kernel +
              ": neither a file nor a name (linux, debian-6.12, debian-6.1, guest)")};
  }
  return fs::path{kernel};
}

std::expected<fs::path, Failure> locate_initrd(const BootOptions& options, const HostTools& tools) {
  if (!options.initrd) {
    return tools.init;
  }
  if (const auto readable = check_readable(*options.initrd, kMaxBootFile); !readable) {
    return std::unexpected{usage("initrd " + *options.initrd + ": " + readable.error())};
  }
  return fs::path{*options.initrd};
}

/// The kernel in that file, if it is one that these options can boot.
std::expected<KernelImage, Failure> check_kernel(const BootOptions& options,
                                                 const std::string& kernel, const fs::path& path) {
  auto image = check_kernel_file(path);
  if (!image) {
    return image;
  }
  if (kernel == kGuestName) {
    image = KernelImage{.kind = KernelKind::kGuest, .version = "accede-guest"};
  }
  if (const auto fits = check_kind_fits(options, image->kind, kernel); !fits) {
    return std::unexpected{fits.error()};
  }
  return image;
}

/// What this run writes of the VM's memory.
Bytes written_memory(const BootOptions& options, const RunPlan& plan) {
  return options.touch == "all" ? options.memory : accepted_by_writing(options, plan);
}

}  // namespace

std::expected<std::vector<RunPlan>, Failure> plan_runs(const BootOptions& options,
                                                       const HostTools& tools, SignalWatch& signals,
                                                       Progress& progress) {
  const auto initrd = locate_initrd(options, tools);
  if (!initrd) {
    return std::unexpected{initrd.error()};
  }
  std::vector<RunPlan> plans;
  for (const std::string& kernel : options.kernels) {
    const auto path = locate_kernel(kernel, tools, signals, progress);
    if (!path) {
      return std::unexpected{path.error()};
    }
    const auto image = check_kernel(options, kernel, *path);
    if (!image) {
      return std::unexpected{image.error()};
    }
    // Two builds may call themselves the same: the report tells them apart by their files.
    const bool repeats = std::ranges::any_of(plans, [&](const RunPlan& plan) {
      return plan.kernel != *path && plan.image.version == image->version;
    });
    RunPlan plan{.kernel = *path, .image = *image, .initrd = *initrd};
    if (repeats && !plan.image.version.empty()) {
      plan.image.version += " (" + kernel + ")";
    }
    plan.forecast = forecast_acceptance(options, plan);
    for (const AcceptMode mode : options.modes) {
      plan.mode = mode;
      plans.push_back(plan);
    }
  }
  return plans;
}

std::expected<void, Failure> check_host_memory(const BootOptions& options,
                                               std::span<const RunPlan> plans) {
  const auto available = host_available_bytes();
  for (const RunPlan& plan : plans) {
    const Bytes written = written_memory(options, plan);
    if (available && written.value() > *available) {
      const bool all = written == options.memory;
      const bool helps = !options.accept_cost && !options.shim && options.touch != "all";
      return std::unexpected{
          usage("--memory " + format_size(options.memory) + ": this run writes " +
                (all ? "all" : format_size(written)) + " of it and the host " + "has " +
                format_size(Bytes{*available}) + " left" +
                (helps ? "; --accept-cost 1400us accepts without writing" : ""))};
    }
  }
  return {};
}

}  // namespace accede::cli
