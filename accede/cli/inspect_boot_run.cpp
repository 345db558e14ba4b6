#include "accede/cli/inspect_boot_run.hpp"

#include "accede/cli/file_text.hpp"
#include "accede/cli/vm_run.hpp"
#include "accede/image/pe.hpp"

#include <algorithm>
#include <string_view>

namespace accede::cli {
namespace {

/// The options of a boot on one platform. Accepting costs next to no time and no memory of the
/// host: what is asked is who accepts.
std::expected<BootOptions, Failure> options_for(const std::string& platform,
                                                const std::optional<std::string>& timeout) {
  RawBootOptions raw;
  raw.platform = platform;
  raw.firmware = "handshake";
  raw.accept_cost = "1us";
  raw.no_events = true;
  raw.timeout = timeout;
  return check_boot_options(raw);
}

/// A disk boots itself, everything else is started by the launcher.
RunPlan plan_for_disk(const std::string& path, const inspect::Report& image) {
  return {.kernel = path,
          .image = {.kind = KernelKind::kUnified, .version = {}},
          .initrd = {},
          .own_command_line = true,
          .own_initrd = true,
          .disk = image.disk->format};
}

/// The error goes on from "not booted: ".
std::expected<RunPlan, std::string> plan_for(const std::string& path, const inspect::Report& image,
                                             const HostTools& tools) {
  if (image.disk) {
    return plan_for_disk(path, image);
  }
  if (image.kind == inspect::ImageKind::kOvmf) {
    return std::unexpected{"firmware is not started"};
  }
  const auto bytes = read_bytes(path, kMaxBootFile);
  if (!bytes) {
    return std::unexpected{bytes.error()};
  }
  auto kernel = parse_kernel_image(*bytes);
  if (!kernel) {
    return std::unexpected{"it " + kernel.error()};
  }
  RunPlan plan{.kernel = path, .image = *std::move(kernel), .initrd = tools.init};
  const auto pe = image::PeImage::parse(*bytes);
  const bool unified = image.kind == inspect::ImageKind::kUki && pe;
  plan.own_command_line = unified && pe->find_section(".cmdline").has_value();
  plan.own_initrd = unified && pe->find_section(".initrd").has_value();
  return plan;
}

std::vector<std::string> wanted_platforms(const std::optional<std::string>& list) {
  return list ? split_list(*list) : std::vector<std::string>{"tdx", "snp"};
}

}  // namespace

std::expected<ImageBooter, Failure> ImageBooter::make(const std::optional<std::string>& platforms,
                                                      const std::optional<std::string>& timeout,
                                                      SignalWatch& signals) {
  std::vector<BootOptions> options;
  for (const std::string& platform : wanted_platforms(platforms)) {
    if (platform != "tdx" && platform != "snp") {
      return std::unexpected{usage("--platform '" + platform + "': tdx, snp or both")};
    }
    auto one = options_for(platform, timeout);
    if (!one) {
      return std::unexpected{one.error()};
    }
    options.push_back(*std::move(one));
  }
  auto tools = find_host_tools({});
  if (!tools) {
    return std::unexpected{tools.error()};
  }
  return ImageBooter{*std::move(tools), std::move(options), signals};
}

std::expected<bool, Failure> ImageBooter::run(BootedImage& booted, const BootOptions& options,
                                              const RunPlan& plan) {
  Progress progress{true};
  const RunContext context{.tools = tools_,
                           .signals = *signals_,
                           .progress = progress,
                           .title = plan.kernel.filename().string() + ", " +
                                    std::string{name(options.platform)} + ", " +
                                    std::string{name(options.firmware)}};
  auto result = run_vm(options, plan, context);
  if (!result) {
    return std::unexpected{result.error()};
  }
  if (result->launcher_error) {
    booted.problem = *result->launcher_error;
    booted.failed = true;
    return false;
  }
  booted.runs.push_back(*std::move(result));
  return true;
}

std::expected<BootedImage, Failure> ImageBooter::boot(const std::string& path,
                                                      const inspect::Report& image) {
  BootedImage booted;
  const auto plan = plan_for(path, image, tools_);
  if (!plan) {
    booted.problem = plan.error();
    return booted;
  }
  booted.on_its_own = plan->own_command_line || plan->own_initrd;
  for (BootOptions options : options_) {
    auto done = run(booted, options, *plan);
    if (done && *done && needs_unhelpful_firmware(booted.runs.back())) {
      options.firmware = FirmwareKind::kNever;
      done = run(booted, options, *plan);
    }
    if (!done) {
      return std::unexpected{done.error()};
    }
    if (!*done) {
      break;
    }
  }
  booted.seen = see_runs(booted.runs);
  booted.disagreements = compare(image, booted.runs);
  return booted;
}

}  // namespace accede::cli
