// Cells of the matrix for tests: 4 GiB, 2 GiB of them above 4 GiB.
#pragma once

#include "accede/cli/matrix_cell.hpp"

#include <string>

namespace accede::cli::test {

inline constexpr Bytes kPending{2ULL << 30};

/// User space came up, all RAM is there, and so much was accepted by whom.
inline CellFigures figures(Bytes by_firmware, Bytes by_kernel, Bytes lost = Bytes{8U << 20}) {
  return {.outcome = Outcome::kUserspace,
          .message = {},
          .kernel = "6.12.1-made-up+deb12",
          .encryption = "Intel TDX, AMD SEV SEV-ES SEV-SNP",
          .seconds = 7.5,
          .kernel_to_init = 2.5,
          .mem_total = Bytes{3900ULL << 20} - lost,
          .lost = lost,
          .accepted = AcceptedShares{.pending = kPending,
                                     .by_firmware = by_firmware,
                                     .by_kernel = by_kernel,
                                     .total = by_firmware + by_kernel}};
}

inline CellFigures fast() {
  return figures(Bytes{}, Bytes{600U << 20});
}
inline CellFigures slow() {
  return figures(kPending, Bytes{});
}
inline CellFigures limited() {
  return figures(Bytes{}, Bytes{}, kPending + Bytes{8U << 20});
}
inline CellFigures panicked() {
  CellFigures made = figures(kPending, Bytes{});
  made.outcome = Outcome::kPanic;
  made.message = "System is deadlocked on memory";
  made.mem_total.reset();
  return made;
}

/// What the prediction says, measured.
inline CellFigures as_predicted(FirmwareKind firmware, KernelColumn column) {
  switch (predicted(firmware, column)) {
    case BootClass::kFast:
      return fast();
    case BootClass::kLimited:
      return limited();
    default:
      return slow();
  }
}

/// All nine cells of a platform, each as predicted.
inline MatrixReport made_up_matrix(Platform platform = Platform::kSnp) {
  MatrixReport report{.memory = Bytes{4ULL << 30}, .cells = {}};
  for (const FirmwareKind firmware : kMatrixFirmware) {
    for (const KernelColumn column : kMatrixKernels) {
      report.cells.push_back(
          {.place = {.platform = platform, .firmware = firmware, .column = column},
           .figures = as_predicted(firmware, column)});
    }
  }
  return report;
}

/// Precondition: the report has all cells of one platform.
inline MatrixCell& cell_at(MatrixReport& report, FirmwareKind firmware, KernelColumn column) {
  for (MatrixCell& cell : report.cells) {
    if (cell.place.firmware == firmware && cell.place.column == column) {
      return cell;
    }
  }
  return report.cells.front();
}

}  // namespace accede::cli::test
