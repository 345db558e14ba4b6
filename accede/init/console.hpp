// The channel to the host: lines on the serial console.
#pragma once

#include <string_view>

namespace accede::init {

/// The guest's serial console. Opening never fails: without a console, writing does nothing.
class Console {
 public:
  Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;
  ~Console();

  /// Writes `ACCEDE-INIT `, `json` and a line end, unbroken by kernel messages.
  void report(std::string_view json) const;

  /// Reports {"step":"error","message":...} with the text of errno `error`.
  void report_error(std::string_view what, int error) const;

  /// Waits until the host sends a line, at most 10 seconds.
  void wait_for_host() const;

 private:
  int fd_;
};

}  // namespace accede::init
