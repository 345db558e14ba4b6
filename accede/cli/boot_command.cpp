#include "accede/cli/boot_command.hpp"

#include "accede/cli/acceptance_forecast.hpp"
#include "accede/cli/event_file.hpp"
#include "accede/cli/plan_runs.hpp"
#include "accede/cli/progress.hpp"
#include "accede/cli/result_json.hpp"
#include "accede/cli/result_table.hpp"
#include "accede/cli/vm_run.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

namespace accede::cli {
namespace {

/// The files that the runs of one command share. Opened before the first boot: a name that cannot
/// be written must not cost a boot.
struct OutputFiles {
  UniqueFd console;
  int console_fd = -1;  ///< negative: not wanted
  std::ofstream events;
};

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

/// Says before the first boot what each kernel waits for its firmware.
void print_forecasts(const BootOptions& options, std::span<const RunPlan> plans,
                     std::ostream& err) {
  for (std::size_t i = 0; i < plans.size(); i += options.modes.size()) {
    if (plans[i].forecast) {
      const bool several = options.kernels.size() > 1;
      err << "accede boot: " << (several ? label_of(options, plans[i]).kernel + ": " : "")
          << describe(*plans[i].forecast, options) << "\n";
    }
  }
}

/// The runs as far as they go; on a failure `results` holds those before it.
std::expected<void, Failure> run_all(const BootOptions& options, SignalWatch& signals,
                                     Progress& progress, std::ostream& err,
                                     std::vector<RunResult>& results) {
  const auto tools = find_host_tools(
      {.guest = std::ranges::find(options.kernels, kGuestName) != options.kernels.end(),
       .loader = options.loader == LoaderKind::kAccede,
       .shim = options.shim,
       .variables = options.variables.has_value()});
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
  progress.clear();
  print_forecasts(options, *plans, err);
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
  const auto done = run_all(options, signals, progress, err, results);
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
