// Figures of real boots, most compared with another one measured right beside it. A machine that is
// busy with something else disturbs them: what fails is measured once more.
#pragma once

#include "tests/boot/accede_run.hpp"

#include <functional>
#include <optional>
#include <string>

namespace accede::test {

/// What one measurement says: good, not good and why, or that it cannot be made here.
struct Verdict {
  bool good = false;
  std::string text;
  std::optional<std::string> skip;
};

/// Measures, and a second time when the first one is not good.
void expect_figures(const std::function<Verdict()>& measure);

/// "1.23 s".
[[nodiscard]] std::string seconds(double value);

/// The user space of one boot, or why there is none.
[[nodiscard]] std::optional<Verdict> unusable(const Boot& boot);

}  // namespace accede::test
