// Signals as something to wait for, so that every way out cleans up.
#pragma once

#include "accede/cli/unique_fd.hpp"

#include <optional>

namespace accede::cli {

/// While it lives, SIGINT, SIGTERM, SIGHUP and SIGQUIT do not end this process but can be read
/// here, SIGCHLD wakes `fd`, and SIGPIPE is ignored. One at a time.
class SignalWatch {
 public:
  SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;
  ~SignalWatch();

  /// Readable when a signal came.
  [[nodiscard]] int fd() const { return fd_.get(); }

  /// The signal that asks this process to end, if one ever came.
  [[nodiscard]] std::optional<int> ending_signal();

 private:
  UniqueFd fd_;
  std::optional<int> ending_;
};

/// For a child between fork and exec: signals as a new process expects them.
void restore_default_signals();

}  // namespace accede::cli
