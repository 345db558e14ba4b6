#include "accede/cli/plan_runs.hpp"

#include "accede/cli/file_text.hpp"
#include "accede/cli/kernel_cache.hpp"
#include "accede/cli/kernel_packages.hpp"
#include "accede/cli/option_combinations.hpp"
#include "accede/cli/size_text.hpp"
#include "accede/image/unaccepted_support.hpp"

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

/// Our loader, or firmware with the handshake, accepts everything for a kernel that cannot, as it
/// sees it.
bool accepts_all_for(const BootOptions& options, const RunPlan& plan) {
  const bool handshake = options.firmware == FirmwareKind::kHandshake;
  if (handshake && options.hide_handshake) {
    return true;
  }
  const bool asks_kernel = plan.image.kind == KernelKind::kLinux && handshake;
  if (options.loader != LoaderKind::kAccede && !asks_kernel) {
    return false;
  }
  const auto file = read_bytes(plan.kernel, kMaxBootFile);
  if (!file) {
    return true;
  }
  const image::UnacceptedSupport support = image::find_unaccepted_support(*file);
  const image::Knows accepts =
      options.platform == Platform::kSnp ? support.accepts_on_snp() : support.accepts_on_tdx();
  return accepts != image::Knows::kYes;
}

/// True when this run writes all of the VM's memory.
bool uses_all_memory(const BootOptions& options, const RunPlan& plan) {
  const bool accepts_all =
      options.platform != Platform::kNone &&
      (plan.mode != AcceptMode::kLazy || options.firmware == FirmwareKind::kAcceptAll ||
       options.force_accept || accepts_all_for(options, plan));
  return (accepts_all && !options.accept_cost) || options.touch == "all";
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
    if (available && uses_all_memory(options, plan) && options.memory.value() > *available) {
      return std::unexpected{usage("--memory " + format_size(options.memory) +
                                   ": this run writes all of it and the host " + "has " +
                                   format_size(Bytes{*available}) +
                                   " left; --accept-cost 1400us accepts without writing")};
    }
  }
  return {};
}

}  // namespace accede::cli
