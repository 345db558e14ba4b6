#include "accede/cli/matrix_command.hpp"

#include "accede/cli/host_tools.hpp"
#include "accede/cli/matrix_cell.hpp"
#include "accede/cli/matrix_json.hpp"
#include "accede/cli/matrix_text.hpp"
#include "accede/cli/plan_runs.hpp"
#include "accede/cli/progress.hpp"
#include "accede/cli/signals.hpp"
#include "accede/cli/vm_run.hpp"

#include <algorithm>
#include <span>
#include <utility>

namespace accede::cli {
namespace {

/// What the firmware is asked to accept where it shall accept little, and what is wanted there.
constexpr Bytes kScarce{256ULL << 20};
constexpr Bytes kWanted{1ULL << 30};

/// A boot to do.
struct PlannedCell {
  CellPlace place;
  BootOptions options;
  RunPlan plan;
  bool scarce = false;  ///< no cell: a ScarceBoot
};

/// The last cell of a platform's first column once more, with little memory. Precondition: the plan
/// is the unenlightened kernel's.
PlannedCell plan_scarce(const BootOptions& common, const RunPlan& plan) {
  PlannedCell cell{.place = {.platform = common.platform,
                             .firmware = FirmwareKind::kNever,
                             .column = KernelColumn::kUnenlightened},
                   .options = common,
                   .plan = plan,
                   .scarce = true};
  cell.options.firmware = FirmwareKind::kNever;
  cell.options.firmware_accept = {.scope = firmware::AcceptanceScope::kAtLeast,
                                  .at_least = kScarce};
  cell.options.touch = std::to_string(kWanted.value());
  return cell;
}

/// Precondition: a plan for each of the two kernels.
std::vector<PlannedCell> plan_cells(const BootOptions& common, std::span<const RunPlan> plans) {
  std::vector<PlannedCell> cells;
  for (const FirmwareKind firmware : kMatrixFirmware) {
    for (const KernelColumn column : kMatrixKernels) {
      BootOptions options = common;
      options.firmware = firmware;
      options.firmware_accept = {.scope = firmware == FirmwareKind::kAcceptAll
                                              ? firmware::AcceptanceScope::kEverything
                                              : firmware::AcceptanceScope::kBelow4G,
                                 .at_least = {}};
      options.hide_handshake = column == KernelColumn::kHandshakeDropped;
      cells.push_back(
          {.place = {.platform = common.platform, .firmware = firmware, .column = column},
           .options = std::move(options),
           .plan = plans[column == KernelColumn::kUnenlightened ? 0 : 1]});
    }
  }
  cells.push_back(plan_scarce(common, plans[0]));
  return cells;
}

/// Everything that can be checked before the first boot.
std::expected<std::vector<PlannedCell>, Failure> plan_matrix(const MatrixOptions& options,
                                                             const HostTools& tools,
                                                             SignalWatch& signals,
                                                             Progress& progress) {
  std::vector<PlannedCell> all;
  for (const BootOptions& common : options.platforms) {
    const auto plans = plan_runs(common, tools, signals, progress);
    if (!plans) {
      return std::unexpected{plans.error()};
    }
    for (const RunPlan& plan : *plans) {
      if (!plan.image.is_linux()) {
        return std::unexpected{
            usage(plan.kernel.string() + " is no Linux: nobody can tell what " + "memory it sees")};
      }
    }
    for (PlannedCell& cell : plan_cells(common, *plans)) {
      if (const auto fits = check_host_memory(cell.options, {&cell.plan, 1}); !fits) {
        return std::unexpected{fits.error()};
      }
      all.push_back(std::move(cell));
    }
  }
  return all;
}

std::string progress_title(const PlannedCell& cell, std::size_t index, std::size_t count) {
  return std::string{name(cell.place.platform)} + ", firmware " +
         std::string{name(cell.place.firmware)} + ", kernel " +
         std::string{name(cell.place.column)} + (cell.scarce ? ", little memory" : "") + " (" +
         std::to_string(index + 1) + " of " + std::to_string(count) + ")";
}

/// The cells as far as they go; on a failure `report` holds those before it.
std::expected<void, Failure> boot_matrix(const MatrixOptions& options, SignalWatch& signals,
                                         Progress& progress, MatrixReport& report) {
  const auto tools = find_host_tools({});
  if (!tools) {
    return std::unexpected{tools.error()};
  }
  const auto cells = plan_matrix(options, *tools, signals, progress);
  if (!cells) {
    return std::unexpected{cells.error()};
  }
  for (std::size_t i = 0; i < cells->size(); ++i) {
    const PlannedCell& cell = (*cells)[i];
    const RunContext context{.tools = *tools,
                             .signals = signals,
                             .progress = progress,
                             .title = progress_title(cell, i, cells->size())};
    const auto result = run_vm(cell.options, cell.plan, context);
    if (!result) {
      return std::unexpected{result.error()};
    }
    if (cell.scarce) {
      report.scarce.push_back(scarce_boot_of(*result, kScarce, kWanted));
    } else {
      report.cells.push_back({.place = cell.place, .figures = figures_of(*result)});
    }
  }
  return {};
}

/// A reader of JSON gets the whole matrix or nothing; a person what there is.
void print(const MatrixReport& report, bool json, bool complete, std::ostream& out) {
  if (report.cells.empty() || (json && !complete)) {
    return;
  }
  out << (json ? matrix_json(report) + "\n" : matrix_text(report));
  out.flush();
}

}  // namespace

int matrix_command(const MatrixOptions& options, std::ostream& out, std::ostream& err) {
  SignalWatch signals;
  Progress progress{true};
  const BootOptions& common = options.platforms.front();
  MatrixReport report{.memory = common.memory, .accept_cost = common.accept_cost, .cells = {}};
  const auto done = boot_matrix(options, signals, progress, report);
  progress.clear();
  print(report, options.json, done.has_value(), out);
  if (!done) {
    err << "accede matrix: " << done.error().message << "\n";
    return done.error().exit_code;
  }
  const bool all_boot = std::ranges::none_of(report.cells, [](const MatrixCell& cell) {
    return classify(cell.figures) == BootClass::kDidNotBoot;
  });
  if (!all_boot) {
    return kExitTestedFailed;
  }
  return out ? kExitDone : kExitMissing;
}

}  // namespace accede::cli
