#include "accede/cli/result_table.hpp"

#include "accede/cli/result_notes.hpp"
#include "accede/cli/result_rows.hpp"
#include "accede/cli/result_sentences.hpp"
#include "accede/cli/size_text.hpp"
#include "accede/cli/steps_text.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace accede::cli {
namespace {

/// The second run's figure over the first's, unless it says nothing.
std::string ratio(const Row& row, std::span<const RunResult> results) {
  const auto first = row.figure(results[0]);
  const auto second = row.figure(results[1]);
  if (!first || !second || *first <= 0 || *second <= 0) {
    return "";
  }
  return format_fixed(*second / *first, 2) + " x";
}

std::string without_suffix(const std::string& kernel) {
  return kernel.substr(0, kernel.find('+'));
}

/// The kernel without what its distribution added, if that still tells it from the others.
std::string short_name(const RunResult& run, std::span<const RunResult> results) {
  const bool ambiguous = std::ranges::any_of(results, [&run](const RunResult& other) {
    return other.label.kernel != run.label.kernel &&
           without_suffix(other.label.kernel) == without_suffix(run.label.kernel);
  });
  return ambiguous ? run.label.kernel : without_suffix(run.label.kernel);
}

/// The mode; where kernels differ, the kernel too.
std::string column_title(const RunResult& run, std::span<const RunResult> results) {
  const std::string mode =
      run.label.platform == Platform::kNone ? "no emulator" : std::string{name(run.label.mode)};
  if (!several_kernels(results)) {
    return mode;
  }
  return short_name(run, results) + " " + mode;
}

using Grid = std::vector<std::vector<std::string>>;

Grid make_grid(std::span<const RunResult> results) {
  const bool with_ratio = results.size() == 2;
  Grid grid;
  std::vector<std::string> head{""};
  for (const RunResult& run : results) {
    head.push_back(column_title(run, results));
  }
  if (with_ratio) {
    head.push_back(several_kernels(results) ? "second / first" : head[2] + " / " + head[1]);
  }
  grid.push_back(std::move(head));
  for (const Row& row : result_rows(results)) {
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

std::string_view what_the_vm_is(Platform platform) {
  switch (platform) {
    case Platform::kTdx:
      return "as a TDX guest";
    case Platform::kSnp:
      return "as an SEV-SNP guest";
    case Platform::kNone:
      return "in a VM without emulator";
  }
  return "in a VM without emulator";
}

/// Only where it is not what shipped OVMF does on the platform.
std::string what_the_firmware_does(const RunLabel& label) {
  if (firmware_accepts_first(label)) {
    return ", the firmware accepts all memory";
  }
  if (leaves_low_memory(label)) {
    return ", the firmware accepts " + format_size(label.firmware_accept.at_least) +
           (label.firmware == FirmwareKind::kHandshake ? " and has the handshake"
                                                       : " and never more");
  }
  if (label.platform == Platform::kNone || label.firmware == default_firmware(label.platform)) {
    return "";
  }
  return label.firmware == FirmwareKind::kHandshake
             ? ", the firmware has the handshake"
             : ", the firmware never accepts memory above 4 GiB";
}

std::string heading(std::span<const RunResult> results) {
  const RunLabel& label = results.front().label;
  std::vector<std::string> kernels;
  std::string text;
  for (const RunResult& run : results) {
    if (std::ranges::find(kernels, run.label.kernel) == kernels.end()) {
      kernels.push_back(run.label.kernel);
      text += (text.empty() ? "" : ", ") + run.label.kernel;
    }
  }
  text += " " + std::string{what_the_vm_is(label.platform)};
  text += ", " + format_size(label.memory) + ", 1 vCPU, QEMU TCG";
  if (label.loader == LoaderKind::kAccede) {
    text += ", started by accede's loader";
  }
  if (label.shim) {
    text += ", started by accede's shim";
  }
  if (label.kexec) {
    text += ", with kexec";
  }
  text += what_the_firmware_does(label);
  if (label.accept_cost) {
    text += ", accepting 2 MiB takes " +
            format_fixed(static_cast<double>(label.accept_cost->count()) / 1000, 0) + " us";
  }
  return text + "\n\n";
}

}  // namespace

std::string results_text(std::span<const RunResult> results, bool with_steps) {
  const auto title = [&results](const RunResult& run, std::string_view after) {
    return results.size() > 1 ? column_title(run, results) + std::string{after} : std::string{};
  };
  std::string text = heading(results) + layout(make_grid(results));
  text += result_sentences(results);
  for (const RunResult& run : results) {
    if (with_steps) {
      text += "\n" + title(run, "\n") + steps_text(run);
    }
  }
  for (const RunResult& run : results) {
    text += run_notes(run, title(run, ": "));
  }
  if (results.front().label.platform != Platform::kNone) {
    text += "\nThe emulator protects nothing: it is a machine for development and tests.\n";
  }
  return text;
}

}  // namespace accede::cli
