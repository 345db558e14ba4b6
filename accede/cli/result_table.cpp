#include "accede/cli/result_table.hpp"

#include "accede/cli/result_notes.hpp"
#include "accede/cli/size_text.hpp"

#include <algorithm>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace accede::cli {
namespace {

std::optional<double> real(std::optional<Bytes> size) {
  return size ? std::optional{static_cast<double>(size->value())} : std::nullopt;
}

/// A row: a name, how to print a run's cell, and, where a ratio of two runs means something, the
/// figure that it compares.
struct Row {
  std::string_view title;
  std::function<std::string(const RunResult&)> cell;
  std::function<std::optional<double>(const RunResult&)> figure;
};

Row seconds_row(std::string_view title,
                const std::function<std::optional<double>(const RunResult&)>& seconds) {
  return {title, [seconds](const RunResult& run) { return format_seconds(seconds(run)); }, seconds};
}

Row size_row(std::string_view title,
             const std::function<std::optional<Bytes>(const RunResult&)>& size) {
  return {title,
          [size](const RunResult& run) {
            const auto bytes = size(run);
            return bytes ? format_size(*bytes) : "-";
          },
          [size](const RunResult& run) { return real(size(run)); }};
}

std::optional<Bytes> accepted(const RunResult& run) {
  const ReportSnapshot* const report = main_report(run);
  return report == nullptr ? std::nullopt
                           : std::optional{Bytes{total_accepted(report->header.counters)}};
}

Row accepted_by_row(std::string_view title, emulator::Phase phase) {
  return size_row(title, [phase](const RunResult& run) -> std::optional<Bytes> {
    const ReportSnapshot* const report = main_report(run);
    if (report == nullptr) {
      return std::nullopt;
    }
    return Bytes{report->header.counters.accepted_bytes[static_cast<std::size_t>(phase)]};
  });
}

std::string accept_calls(const RunResult& run) {
  const ReportSnapshot* const report = main_report(run);
  if (report == nullptr) {
    return "-";
  }
  const auto& calls = report->header.counters.accept_calls;
  return std::to_string(calls[1]) + " / " + std::to_string(calls[0]);
}

std::string backed(const RunResult& run) {
  const auto& rest = run.at_up ? run.at_up : run.at_end;
  return rest && rest->backed ? format_size(*rest->backed) : "-";
}

std::optional<double> backed_figure(const RunResult& run) {
  const auto& rest = run.at_up ? run.at_up : run.at_end;
  return real(rest ? rest->backed : std::nullopt);
}

std::string touch_time(const RunResult& run, std::uint64_t FirstTouch::* quantile) {
  if (!run.work || run.work->first_touch.count == 0) {
    return "-";
  }
  return format_fixed(static_cast<double>(run.work->first_touch.*quantile) / 1000, 1) + " us";
}

std::vector<Row> rows(std::span<const RunResult> results) {
  const auto none = [](const RunResult&) { return std::optional<double>{}; };
  std::vector<Row> table{
      {"outcome", [](const RunResult& run) { return std::string{name(run.outcome)}; }, none},
      seconds_row("kernel start to init", kernel_to_init),
      seconds_row("firmware and loader",
                  [](const RunResult& run) { return run.boot_services_exited; }),
      seconds_row("whole run", [](const RunResult& run) { return std::optional{run.total}; }),
      size_row("RAM the kernel manages",
               [](const RunResult& run) {
                 return run.up ? std::optional{run.up->mem_total} : std::nullopt;
               }),
      {"host memory backed", backed, backed_figure},
  };
  const bool emulated = std::ranges::any_of(
      results, [](const RunResult& run) { return run.label.platform != Platform::kNone; });
  if (emulated) {
    table.push_back(size_row("still unaccepted", [](const RunResult& run) {
      return run.up ? run.up->unaccepted : std::nullopt;
    }));
    table.push_back(size_row("accepted", accepted));
    table.push_back(accepted_by_row("  by firmware", emulator::Phase::kFirmware));
    table.push_back(accepted_by_row("  by loader", emulator::Phase::kLoader));
    table.push_back(accepted_by_row("  by kernel", emulator::Phase::kKernel));
    table.push_back({"accept calls 2M / 4K", accept_calls, none});
    table.push_back(
        size_row("longest accept step", [](const RunResult& run) -> std::optional<Bytes> {
          const ReportSnapshot* const report = main_report(run);
          if (report == nullptr) {
            return std::nullopt;
          }
          return Bytes{report->header.counters.longest_step_bytes};
        }));
  }
  const bool worked =
      std::ranges::any_of(results, [](const RunResult& run) { return run.work.has_value(); });
  if (worked) {
    table.push_back(size_row("touched by the workload", [](const RunResult& run) {
      return run.work ? std::optional{run.work->touched} : std::nullopt;
    }));
    table.push_back(size_row("  unaccepted after it", [](const RunResult& run) {
      return run.work ? run.work->state.unaccepted : std::nullopt;
    }));
    table.push_back({"  first touch, median",
                     [](const RunResult& run) { return touch_time(run, &FirstTouch::p50); }, none});
    table.push_back({"  first touch, 99.99 %",
                     [](const RunResult& run) { return touch_time(run, &FirstTouch::p9999); },
                     none});
  }
  return table;
}

/// The second run's figure over the first's, unless it says nothing.
std::string ratio(const Row& row, std::span<const RunResult> results) {
  const auto first = row.figure(results[0]);
  const auto second = row.figure(results[1]);
  if (!first || !second || *first <= 0 || *second <= 0) {
    return "";
  }
  return format_fixed(*second / *first, 2) + " x";
}

std::string column_title(const RunResult& run, bool several_kernels) {
  std::string title =
      run.label.platform == Platform::kNone ? "no emulator" : std::string{name(run.label.mode)};
  if (several_kernels) {
    title += " " + run.label.kernel.substr(0, run.label.kernel.find('+'));
  }
  return title;
}

bool several_kernels(std::span<const RunResult> results) {
  return std::ranges::any_of(results, [&results](const RunResult& run) {
    return run.label.kernel != results.front().label.kernel;
  });
}

using Grid = std::vector<std::vector<std::string>>;

Grid make_grid(std::span<const RunResult> results) {
  const bool with_ratio = results.size() == 2;
  Grid grid;
  std::vector<std::string> head{""};
  for (const RunResult& run : results) {
    head.push_back(column_title(run, several_kernels(results)));
  }
  if (with_ratio) {
    head.push_back(head[2] + " / " + head[1]);
  }
  grid.push_back(std::move(head));
  for (const Row& row : rows(results)) {
    std::vector<std::string> cells{std::string{row.title}};
    for (const RunResult& run : results) {
      cells.push_back(row.cell(run));
    }
    const bool unknown = std::all_of(cells.begin() + 1, cells.end(),
                                     [](const std::string& cell) { return cell == "-"; });
    if (unknown) {
      continue;  // a program that is no Linux, or one that did not get that far
    }
    if (with_ratio) {
      cells.push_back(ratio(row, results));
    }
    grid.push_back(std::move(cells));
  }
  return grid;
}

/// The first column to the left, the others to the right, two blanks between.
std::string layout(const Grid& grid) {
  std::vector<std::size_t> widths;
  for (std::size_t column = 0; column < grid.front().size(); ++column) {
    std::size_t width = 0;
    for (const auto& cells : grid) {
      width = std::max(width, cells[column].size());
    }
    widths.push_back(width);
  }
  std::string text;
  for (const auto& cells : grid) {
    std::string line = cells.front() + std::string(widths.front() - cells.front().size(), ' ');
    for (std::size_t column = 1; column < cells.size(); ++column) {
      line += std::string(2 + widths[column] - cells[column].size(), ' ') + cells[column];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string heading(std::span<const RunResult> results) {
  const RunLabel& label = results.front().label;
  std::string kernels;
  for (const RunResult& run : results) {
    if (kernels.find(run.label.kernel) == std::string::npos) {
      kernels += (kernels.empty() ? "" : ", ") + run.label.kernel;
    }
  }
  std::string text = kernels;
  text += label.platform == Platform::kNone ? " in a VM without emulator" : " as a TDX guest";
  text += ", " + format_size(label.memory) + ", 1 vCPU, QEMU TCG";
  if (label.firmware == FirmwareKind::kAcceptAll) {
    text += ", the firmware accepts all memory";
  }
  if (label.accept_cost) {
    text += ", accepting 2 MiB takes " +
            format_fixed(static_cast<double>(label.accept_cost->count()) / 1000, 0) + " us";
  }
  return text + "\n\n";
}

}  // namespace

std::string results_text(std::span<const RunResult> results) {
  std::string text = heading(results) + layout(make_grid(results));
  if (const auto factor = speedup(results)) {
    text += "\nLazy acceptance reaches user space " + format_fixed(*factor, 2) +
            " times as fast as eager.\n";
  }
  for (const RunResult& run : results) {
    text += run_notes(run, results.size() > 1 ? column_title(run, several_kernels(results)) + ": "
                                              : std::string{});
  }
  if (results.front().label.platform != Platform::kNone) {
    text += "\nThe emulator protects nothing: it is a machine for development and tests.\n";
  }
  return text;
}

}  // namespace accede::cli
