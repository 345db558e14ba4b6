// A child that never outlives this process.
#pragma once

#include "accede/cli/failure.hpp"
#include "accede/cli/unique_fd.hpp"

#include <sys/types.h>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace accede::cli {

/// What a child starts with. Its standard input is empty.
struct ChildSetup {
  std::vector<std::string> arguments;  ///< the first is the program, looked up in PATH
  int stdout_fd = -1;                  ///< negative: goes to /dev/null
  int stderr_fd = -1;                  ///< negative: goes to /dev/null
  std::vector<int> inherited;          ///< further descriptors, kept with their numbers
  std::string directory;               ///< to work in; empty: this process's
  bool first_to_kill = false;          ///< for the kernel, when memory runs out
  bool no_huge_pages = false;          ///< back memory in small pages only
};

/// Owns a running child in a process group of its own. The group is killed when the owner is
/// destroyed, and by the kernel when this process dies.
class ChildProcess {
 public:
  [[nodiscard]] static std::expected<ChildProcess, Failure> start(const ChildSetup& setup);

  ChildProcess(ChildProcess&& other) noexcept
      : pid_{std::exchange(other.pid_, -1)}, status_{other.status_} {}
  ChildProcess& operator=(ChildProcess&&) = delete;
  ~ChildProcess() { kill(); }

  [[nodiscard]] pid_t pid() const { return pid_; }

  /// The status as waitpid gives it, once the child has ended. Does not wait.
  [[nodiscard]] std::optional<int> ended();
  /// Waits for the end.
  int wait();
  /// Kills the group and waits for the child to be gone.
  void kill();

 private:
  explicit ChildProcess(pid_t pid) : pid_{pid} {}

  pid_t pid_;
  std::optional<int> status_;
};

/// `exit code 1`, `signal 9 (Killed)`.
[[nodiscard]] std::string describe_status(int status);

}  // namespace accede::cli
