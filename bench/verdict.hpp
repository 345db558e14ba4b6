// Lines of --check.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

namespace accede::bench {

/// printf into a string.
[[gnu::format(printf, 1, 2)]] inline std::string text(const char* format, ...) {
  char line[256];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  return line;
}

/// Prints verdicts as they come and counts the failures.
class Verdicts {
 public:
  void judge(bool pass, const std::string& what) {
    std::printf("%s  %s\n", pass ? "pass" : "FAIL", what.c_str());
    std::fflush(stdout);
    failures_ += pass ? 0 : 1;
  }
  void at_least(const std::string& what, double value, double bound) {
    judge(value >= bound, text("%s: %.3f (at least %.3f)", what.c_str(), value, bound));
  }
  void at_most(const std::string& what, double value, double bound) {
    judge(value <= bound, text("%s: %.4g (at most %.4g)", what.c_str(), value, bound));
  }
  void note(const std::string& what) {
    std::printf("      %s\n", what.c_str());
    std::fflush(stdout);
  }
  [[nodiscard]] unsigned failures() const { return failures_; }

 private:
  unsigned failures_ = 0;
};

/// Repetitions whose A/A control is within 3 %: others are run again, up to a limit, and counted.
class Repetitions {
 public:
  explicit Repetitions(unsigned wanted) : wanted_{wanted} {}
  [[nodiscard]] bool more() const { return good_ < wanted_ && runs_ < wanted_ * 4; }
  /// Tells the A/A ratio of a repetition; true when the repetition counts.
  [[nodiscard]] bool accept(double control) {
    ++runs_;
    const bool good = control >= 0.97 && control <= 1.03;
    good_ += good ? 1 : 0;
    return good;
  }
  [[nodiscard]] bool complete() const { return good_ == wanted_; }
  [[nodiscard]] std::string summary() const {
    return text("%u repetitions, %u repeated for their A/A control", good_, runs_ - good_);
  }

 private:
  unsigned wanted_;
  unsigned good_ = 0;
  unsigned runs_ = 0;
};

}  // namespace accede::bench
