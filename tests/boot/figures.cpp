#include "tests/boot/figures.hpp"

#include <gtest/gtest.h>

#include <iostream>
#include <sstream>

namespace accede::test {

void expect_figures(const std::function<Verdict()>& measure) {
  Verdict verdict = measure();
  if (!verdict.good && !verdict.skip) {
    std::cout << "measured once more after: " << verdict.text << std::endl;
    verdict = measure();
  }
  if (verdict.skip) {
    GTEST_SKIP() << *verdict.skip;
  }
  std::cout << verdict.text << std::endl;
  EXPECT_TRUE(verdict.good) << verdict.text;
}

std::string seconds(double value) {
  std::string text = std::to_string(value);
  return text.substr(0, text.find('.') + 3) + " s";
}

std::optional<Verdict> unusable(const Boot& boot) {
  if (const auto reason = missing_kernel(boot)) {
    return Verdict{.good = false, .text = {}, .skip = reason};
  }
  if (boot.text("/outcome") != "userspace") {
    std::ostringstream out;
    out << boot;
    return Verdict{.good = false, .text = out.str(), .skip = {}};
  }
  return std::nullopt;
}

}  // namespace accede::test
