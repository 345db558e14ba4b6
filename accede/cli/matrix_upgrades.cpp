#include "accede/cli/matrix_upgrades.hpp"

#include <algorithm>
#include <optional>

namespace accede::cli {
namespace {

/// True when `values` has `b` right after `a`.
bool follows(auto a, auto b, const auto& values) {
  const auto place = std::ranges::find(values, a);
  return place != values.end() && place + 1 != values.end() && *(place + 1) == b;
}

bool is_step(const CellPlace& from, const CellPlace& to) {
  const bool same_kernel = from.column == to.column;
  const bool same_firmware = from.firmware == to.firmware;
  return from.platform == to.platform &&
         ((same_kernel && follows(from.firmware, to.firmware, kMatrixFirmware)) ||
          (same_firmware && follows(from.column, to.column, kMatrixKernels)));
}

/// Precondition: both were measured.
std::optional<Regression> regression_of(const CellFigures& from, const CellFigures& to) {
  const BootClass before = classify(from);
  const BootClass after = classify(to);
  if (before == BootClass::kDidNotBoot) {
    return std::nullopt;
  }
  if (after == BootClass::kDidNotBoot) {
    return Regression::kNoLongerBoots;
  }
  if (*to.lost >= *from.lost + kNoticeable) {
    return Regression::kSmaller;
  }
  return before != BootClass::kSlow && after == BootClass::kSlow
             ? std::optional{Regression::kSlower}
             : std::nullopt;
}

}  // namespace

std::string_view name(Regression regression) {
  switch (regression) {
    case Regression::kNoLongerBoots:
      return "no longer boots";
    case Regression::kSmaller:
      return "smaller";
    case Regression::kSlower:
      return "slower";
  }
  return "slower";
}

UpgradeSurvey survey_upgrades(std::span<const MatrixCell> cells) {
  UpgradeSurvey survey;
  for (const MatrixCell& from : cells) {
    for (const MatrixCell& to : cells) {
      if (!is_step(from.place, to.place) || classify(from.figures) == BootClass::kUnmeasured ||
          classify(to.figures) == BootClass::kUnmeasured) {
        continue;
      }
      ++survey.compared;
      if (const auto regression = regression_of(from.figures, to.figures)) {
        survey.worse.push_back({.regression = *regression, .from = from, .to = to});
      }
    }
  }
  return survey;
}

}  // namespace accede::cli
