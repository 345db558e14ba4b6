#include "accede/cli/boot_command.hpp"

#include "accede/cli/event_file.hpp"
#include "accede/cli/file_text.hpp"
#include "accede/cli/kernel_cache.hpp"
#include "accede/cli/kernel_packages.hpp"
#include "accede/cli/option_combinations.hpp"
#include "accede/cli/progress.hpp"
#include "accede/cli/result_json.hpp"
#include "accede/cli/result_table.hpp"
#include "accede/cli/size_text.hpp"
#include "accede/cli/vm_run.hpp"
#include "accede/image/unaccepted_support.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace accede::cli {
namespace fs = std::filesystem;
namespace {

/// The files that the runs of one command share. Opened before the first boot: a name that cannot
/// be written must not cost a boot.
struct OutputFiles {
  UniqueFd console;
  int console_fd = -1;  ///< negative: not wanted
  std::ofstream events;
};

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
        usage("--kernel " + kernel +
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

/// Everything that can be checked before the first boot.
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

/// A VM may be larger than the host as long as it does not use all of it.
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

std::expected<OutputFiles, Failure> open_outputs(const BootOptions& options) {
  OutputFiles files;
  if (options.console_file == "-") {
    files.console_fd = STDERR_FILENO;
  } else if (options.console_file) {
    files.console = UniqueFd{
        open(options.console_file->c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
    files.console_fd = files.console.get();
    if (files.console_fd < 0) {
      return std::unexpected{
          usage("--console " + *options.console_file + ": " + std::strerror(errno))};
    }
  }
  if (options.events_file) {
    files.events.open(*options.events_file, std::ios::binary | std::ios::trunc);
    if (!files.events) {
      return std::unexpected{
          usage("--events " + *options.events_file + ": " + std::strerror(errno))};
    }
  }
  return files;
}

void save_events(OutputFiles& files, const RunResult& result) {
  const ReportSnapshot* const report = last_report(result);
  if (files.events.is_open() && report != nullptr) {
    files.events << event_file_section(*report, run_json(result));
  }
}

std::string run_title(const BootOptions& options, const RunPlan& plan, std::size_t index,
                      std::size_t count) {
  std::string title{options.platform == Platform::kNone ? "no emulator" : name(plan.mode)};
  if (count > 1) {
    title += " (" + std::to_string(index + 1) + " of " + std::to_string(count) + ")";
  }
  return title;
}

/// What there is to report. A reader of JSON gets a document when the last run failed, too, unless
/// there was none to speak of; a person a table of the runs that came to something.
void print_results(const BootOptions& options, std::span<const RunResult> results, bool complete,
                   std::ostream& out) {
  const bool launcher_failed = !results.empty() && results.back().launcher_error.has_value();
  if (launcher_failed && !options.json) {
    results = results.first(results.size() - 1);
  }
  if (results.empty() || (options.json && !complete && !launcher_failed)) {
    return;
  }
  if (options.json) {
    const bool several = options.kernels.size() * options.modes.size() > 1;
    out << results_json(results, options.steps, several) << "\n";
  } else {
    out << results_text(results, options.steps);
  }
  out.flush();
}

/// The runs as far as they go; on a failure `results` holds those before it.
std::expected<void, Failure> run_all(const BootOptions& options, SignalWatch& signals,
                                     Progress& progress, std::vector<RunResult>& results) {
  const auto tools = find_host_tools(
      {.guest = std::ranges::find(options.kernels, kGuestName) != options.kernels.end(),
       .loader = options.loader == LoaderKind::kAccede});
  if (!tools) {
    return std::unexpected{tools.error()};
  }
  const auto plans = plan_runs(options, *tools, signals, progress);
  if (!plans) {
    return std::unexpected{plans.error()};
  }
  if (const auto enough = check_host_memory(options, *plans); !enough) {
    return std::unexpected{enough.error()};
  }
  auto files = open_outputs(options);
  if (!files) {
    return std::unexpected{files.error()};
  }
  for (std::size_t i = 0; i < plans->size(); ++i) {
    const RunContext context{.tools = *tools,
                             .signals = signals,
                             .progress = progress,
                             .console_fd = files->console_fd,
                             .title = run_title(options, (*plans)[i], i, plans->size())};
    auto result = run_vm(options, (*plans)[i], context);
    if (!result) {
      return std::unexpected{result.error()};
    }
    save_events(*files, *result);
    results.push_back(std::move(*result));
    if (const auto& error = results.back().launcher_error) {
      return std::unexpected{Failure{kExitTestedFailed, *error}};
    }
  }
  return {};
}

}  // namespace

int boot_command(const BootOptions& options, std::ostream& out, std::ostream& err) {
  SignalWatch signals;
  std::vector<RunResult> results;
  Progress progress{options.console_file != "-"};
  const auto done = run_all(options, signals, progress, results);
  progress.clear();
  print_results(options, results, done.has_value(), out);
  if (!done) {
    err << "accede boot: " << done.error().message << "\n";
    return done.error().exit_code;
  }
  for (const RunResult& result : results) {
    if (const ExitCode code = exit_code(result); code != kExitDone) {
      return code;
    }
  }
  return out ? kExitDone : kExitMissing;
}

}  // namespace accede::cli
