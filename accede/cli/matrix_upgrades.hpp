// Upgrades of one part of a platform that make its user worse off.
#pragma once

#include "accede/cli/matrix_cell.hpp"

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace accede::cli {

enum class Regression {
  kNoLongerBoots,
  kSmaller,  ///< RAM is lost that was there
  kSlower,   ///< everything is accepted before user space is up, which was not so before
};

[[nodiscard]] std::string_view name(Regression regression);

/// A step to the neighbouring row (the firmware) or column (the kernel) with this effect.
struct Upgrade {
  Regression regression = Regression::kSlower;
  MatrixCell from;
  MatrixCell to;

  [[nodiscard]] bool of_firmware() const { return from.place.firmware != to.place.firmware; }
};

struct UpgradeSurvey {
  std::size_t compared = 0;  ///< steps whose two cells were both measured
  std::vector<Upgrade> worse;
};

/// Every single step between two of these cells, judged by their measured figures: one that no
/// longer boots, else one that loses RAM, else one that is slower, and no step twice.
[[nodiscard]] UpgradeSurvey survey_upgrades(std::span<const MatrixCell> cells);

}  // namespace accede::cli
