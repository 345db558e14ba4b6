#include "accede/cli/matrix_text.hpp"

#include "accede/cli/matrix_fidelity.hpp"
#include "accede/cli/matrix_upgrades.hpp"
#include "accede/cli/size_text.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

namespace accede::cli {
namespace {

using Lines = std::vector<std::string>;
using Grid = std::vector<std::vector<std::string>>;

/// Columns to the left, three blanks between.
std::string layout(const Grid& grid) {
  std::vector<std::size_t> widths;
  for (const auto& row : grid) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t column = 0; column < row.size(); ++column) {
      widths[column] = std::max(widths[column], row[column].size());
    }
  }
  std::string text;
  for (const auto& row : grid) {
    std::string line;
    for (std::size_t column = 0; column < row.size(); ++column) {
      line += row[column] + std::string(widths[column] - row[column].size() + 3, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string_view title(Platform platform) {
  return platform == Platform::kSnp ? "SEV-SNP" : "TDX";
}

std::string short_version(const std::string& kernel) {
  return kernel.substr(0, kernel.find('+'));
}

const MatrixCell* find_cell(const MatrixReport& report, const CellPlace& place) {
  const auto cell = std::ranges::find(report.cells, place, &MatrixCell::place);
  return cell == report.cells.end() ? nullptr : &*cell;
}

/// Nobody's figure, or one that was not measured: `-`.
std::string size_or_dash(std::optional<Bytes> size) {
  return size ? format_size(*size) : "-";
}

std::string outcome_line(const MatrixCell& cell) {
  const BootClass prediction = predicted(cell.place.firmware, cell.place.column);
  std::string text = classify(cell.figures) == BootClass::kLimited
                         ? "loses " + format_size(*cell.figures.lost)
                         : std::string{class_name(cell.figures)};
  if (difference(prediction, cell.figures)) {
    text += " (!)";
  }
  return text;
}

std::array<std::string, 3> cell_lines(const MatrixCell* cell) {
  if (cell == nullptr) {
    return {"-", "", ""};
  }
  const CellFigures& figures = cell->figures;
  const auto& accepted = figures.accepted;
  return {outcome_line(*cell),
          format_seconds(figures.seconds) + ", RAM " + size_or_dash(figures.mem_total),
          accepted ? "accepted " + format_size(accepted->by_firmware) + " + " +
                         format_size(accepted->by_kernel)
                   : "accepted -"};
}

/// The version in a column's cells; `-` when none was booted.
std::string column_kernel(const MatrixReport& report, Platform platform, KernelColumn column) {
  for (const MatrixCell& cell : report.cells) {
    if (cell.place.platform == platform && cell.place.column == column) {
      return short_version(cell.figures.kernel);
    }
  }
  return "-";
}

std::string table(const MatrixReport& report, Platform platform) {
  Grid grid{{"firmware \\ kernel"}, {""}};
  for (const KernelColumn column : kMatrixKernels) {
    grid[0].emplace_back(name(column));
    grid[1].push_back(column_kernel(report, platform, column));
  }
  for (const FirmwareKind firmware : kMatrixFirmware) {
    Grid rows{{std::string{age(firmware)}}, {"  " + std::string{name(firmware)}}, {""}};
    for (const KernelColumn column : kMatrixKernels) {
      const auto lines = cell_lines(
          find_cell(report, {.platform = platform, .firmware = firmware, .column = column}));
      for (std::size_t line = 0; line < lines.size(); ++line) {
        rows[line].push_back(lines[line]);
      }
    }
    grid.emplace_back();
    grid.insert(grid.end(), rows.begin(), rows.end());
  }
  return layout(grid);
}

/// What had to be accepted, as the first cell that was measured has it.
std::string pending_text(const MatrixReport& report, Platform platform) {
  for (const MatrixCell& cell : report.cells) {
    if (cell.place.platform == platform && cell.figures.accepted) {
      return ", " + format_size(cell.figures.accepted->pending) + " being unaccepted at the start";
    }
  }
  return "";
}

/// A paragraph whose lines after the first begin below the text of the first.
std::string wrap(std::string_view head, std::string_view text) {
  constexpr std::size_t kWidth = 100;
  const std::size_t room = kWidth - head.size();
  std::string paragraph{head};
  while (text.size() > room) {
    const std::size_t blank = text.rfind(' ', room);
    if (blank == std::string_view::npos || blank == 0) {
      break;
    }
    paragraph += std::string{text.substr(0, blank)} + "\n" + std::string(head.size(), ' ');
    text.remove_prefix(blank + 1);
  }
  return paragraph + std::string{text} + "\n";
}

/// (a), (b), ... after a cell, for each of its reasons.
std::string marks_of(const MatrixCell& cell, Lines& reasons) {
  std::string letters;
  for (const std::string& reason : only_here_because(cell)) {
    auto place = std::ranges::find(reasons, reason);
    if (place == reasons.end()) {
      reasons.push_back(reason);
      place = reasons.end() - 1;
    }
    letters += static_cast<char>('a' + (place - reasons.begin()));
  }
  std::ranges::sort(letters);
  std::string marks;
  for (const char letter : letters) {
    marks += std::string{" ("} + letter + ")";
  }
  return marks.empty() ? "as shipped" : "only here" + marks;
}

/// Which firmware the rows are that somebody ships.
std::string shipped_rows(Platform platform) {
  std::string text;
  for (const FirmwareKind firmware : kMatrixFirmware) {
    if (is_shipped(platform, firmware)) {
      text += "  " + std::string{age(firmware)} + ": " +
              std::string{firmware_history(platform, firmware)} + "\n";
    }
  }
  return text;
}

std::string prediction_list(const MatrixReport& report, Platform platform) {
  Grid grid{{"  firmware", "kernel", "predicted", "measured", "", "exists"}};
  Lines reasons;
  Lines differences;
  for (const MatrixCell& cell : report.cells) {
    if (cell.place.platform != platform) {
      continue;
    }
    const BootClass prediction = predicted(cell.place.firmware, cell.place.column);
    const auto differs = difference(prediction, cell.figures);
    grid.push_back({"  " + std::string{age(cell.place.firmware)},
                    std::string{name(cell.place.column)}, std::string{prediction_name(prediction)},
                    std::string{class_name(cell.figures)}, differs ? "DIFFERS" : "holds",
                    marks_of(cell, reasons)});
    if (differs) {
      differences.push_back(wrap("  (!) ", std::string{age(cell.place.firmware)} + ", " +
                                               std::string{name(cell.place.column)} + ": " +
                                               *differs));
    }
  }
  std::string text = layout(grid);
  for (const std::string& line : differences) {
    text += line;
  }
  for (std::size_t i = 0; i < reasons.size(); ++i) {
    text += wrap(std::string{"  ("} + static_cast<char>('a' + i) + ") ", reasons[i]);
  }
  return text + shipped_rows(platform);
}

std::string effect(const Upgrade& upgrade) {
  const CellFigures& from = upgrade.from.figures;
  const CellFigures& to = upgrade.to.figures;
  switch (upgrade.regression) {
    case Regression::kNoLongerBoots:
      return "no longer boots: " + std::string{class_name(to)};
    case Regression::kSmaller:
      return "smaller: RAM " + size_or_dash(from.mem_total) + " -> " + size_or_dash(to.mem_total);
    case Regression::kSlower:
      return "slower: accepted before user space " + format_size(from.accepted->total) + " -> " +
             format_size(to.accepted->total);
  }
  return "";
}

std::string upgrade_line(const Upgrade& upgrade) {
  const CellPlace& from = upgrade.from.place;
  const CellPlace& to = upgrade.to.place;
  const std::string step =
      upgrade.of_firmware()
          ? "firmware " + std::string{age(from.firmware)} + " -> " + std::string{age(to.firmware)} +
                " under the " + std::string{name(from.column)} + " kernel"
          : "kernel " + std::string{name(from.column)} + " -> " + std::string{name(to.column)} +
                " on " + std::string{age(from.firmware)} + " firmware";
  return "  " + std::string{title(from.platform)} + ": " + step + "\n    " + effect(upgrade) + "\n";
}

std::string upgrades_text(const MatrixReport& report) {
  const UpgradeSurvey survey = survey_upgrades(report.cells);
  const std::string count = std::to_string(survey.compared) + " single upgrades";
  if (survey.worse.empty()) {
    return "\nNone of " + count + " makes a user slower or smaller.\n";
  }
  std::string text = "\nUpgrades that make a user slower or smaller, of " + count + ":\n";
  for (const Upgrade& upgrade : survey.worse) {
    text += upgrade_line(upgrade);
  }
  return text;
}

std::string scarce_end(const ScarceBoot& boot) {
  if (boot.figures.outcome != Outcome::kUserspace) {
    return std::string{class_name(boot.figures)} +
           (boot.figures.message.empty() ? "" : ": " + boot.figures.message);
  }
  const std::string wanted = "of " + format_size(boot.wanted) + " that a program wants it gets ";
  return "RAM " + size_or_dash(boot.figures.mem_total) + "; " + wanted +
         size_or_dash(boot.touched) + (boot.out_of_memory ? ", then it is out of memory" : "");
}

std::string scarce_text(const MatrixReport& report) {
  std::string text;
  for (const ScarceBoot& boot : report.scarce) {
    text += text.empty() ? "\nThe unenlightened kernel on far future firmware that accepts " +
                               format_size(boot.asked_to_accept) + " and what a loader needs:\n"
                         : "";
    text += wrap("  " + std::string{title(boot.platform)} + ": ", scarce_end(boot));
  }
  return text;
}

std::string heading(const MatrixReport& report, Platform platform) {
  std::string text =
      std::string{title(platform)} + ", " + format_size(report.memory) + ", 1 vCPU, QEMU TCG";
  if (report.accept_cost) {
    text += ", accepting 2 MiB takes " +
            format_fixed(static_cast<double>(report.accept_cost->count()) / 1000, 0) + " us";
  }
  return text + "\n\n";
}

std::string platform_text(const MatrixReport& report, Platform platform) {
  return heading(report, platform) + table(report, platform) +
         "\nSeconds from the start of the VM to user space; RAM that the kernel manages; memory "
         "accepted by\nthe firmware + by the kernel until then" +
         pending_text(report, platform) + ".\n\n" + prediction_list(report, platform);
}

}  // namespace

std::string matrix_text(const MatrixReport& report) {
  std::string text;
  for (const Platform platform : {Platform::kTdx, Platform::kSnp}) {
    if (std::ranges::any_of(report.cells, [platform](const MatrixCell& cell) {
          return cell.place.platform == platform;
        })) {
      text += (text.empty() ? "" : "\n\n") + platform_text(report, platform);
    }
  }
  text += upgrades_text(report) + scarce_text(report);
  return text + "\nThe emulator protects nothing: it is a machine for development and tests.\n";
}

}  // namespace accede::cli
