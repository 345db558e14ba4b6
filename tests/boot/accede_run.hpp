// Running the real command, as a user does, and killing it for sure.
#pragma once

#include <sys/types.h>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <iosfwd>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace accede::test {

using Json = nlohmann::json;
using Seconds = std::chrono::duration<double>;

inline constexpr std::uint64_t kMiB = 1ULL << 20;
inline constexpr std::uint64_t kGiB = 1ULL << 30;

/// A directory of its own for one run: console, output, and TMPDIR of the command. Goes with it.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  [[nodiscard]] std::filesystem::path operator/(const char* name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// `accede boot OPTIONS --json --console FILE`, or another command that boots VMs with OPTIONS
/// --json, as a child in a process group of its own. The destructor kills the group; when this
/// process dies first, the kernel tells the command to end.
class AccedeBoot {
 public:
  explicit AccedeBoot(const std::vector<std::string>& options, const std::string& command = "boot");
  ~AccedeBoot();
  AccedeBoot(const AccedeBoot&) = delete;
  AccedeBoot& operator=(const AccedeBoot&) = delete;

  /// True when it ended by itself in time; kills it otherwise.
  bool wait(Seconds most);
  /// Sends `signal` to the command's process group, as a terminal does.
  void signal_group(int signal) const;
  /// Waits until the console shows `text`.
  [[nodiscard]] bool wait_for_console(const std::string& text, Seconds most) const;

  /// The exit code, or 128 + signal. Precondition: it has ended.
  [[nodiscard]] int exit_code() const { return exit_code_.value(); }
  [[nodiscard]] std::string output() const;
  [[nodiscard]] std::string errors() const;
  [[nodiscard]] std::string console() const;
  /// The QEMU process that the command started, while it runs.
  [[nodiscard]] std::optional<pid_t> qemu() const;
  /// What the command left in its TMPDIR.
  [[nodiscard]] std::vector<std::string> left_behind() const;

 private:
  [[nodiscard]] bool poll_exit();

  Scratch scratch_;
  pid_t pid_ = -1;
  std::optional<int> exit_code_;
};

/// One finished run.
struct Boot {
  int exit_code = -1;
  bool ended = false;  ///< by itself, before the test's time-out
  Json json;           ///< of the run; null when the command printed none
  std::string errors;
  std::string console;

  /// A field by its path, for example "/guest/unaccepted_bytes"; null when it is not there.
  [[nodiscard]] Json at(const std::string& path) const;
  /// The same as a number; a failed test and 0 when it is none.
  [[nodiscard]] std::uint64_t bytes(const std::string& path) const;
  [[nodiscard]] double number(const std::string& path) const;
  [[nodiscard]] std::string text(const std::string& path) const;
  [[nodiscard]] bool console_has(const std::string& text) const;

  /// The violations of one kind.
  [[nodiscard]] std::vector<Json> violations(const std::string& kind) const;
};

/// Shows what a reader of a failed test needs: outcome, fault, messages, the console's last lines.
std::ostream& operator<<(std::ostream& out, const Boot& boot);

/// Runs `accede boot` with `options` to its end.
[[nodiscard]] Boot boot(const std::vector<std::string>& options, Seconds most = Seconds{180});

/// Runs `accede matrix` with `options` to its end. Its document is the `json`.
[[nodiscard]] Boot matrix(const std::vector<std::string>& options, Seconds most);

/// Several runs of one command (comma lists): one Boot each, all with the command's exit code.
[[nodiscard]] std::vector<Boot> boot_several(const std::vector<std::string>& options, Seconds most);

/// Why a kernel cannot be had here, when the run says that the distribution does not offer it.
[[nodiscard]] std::optional<std::string> missing_kernel(const Boot& boot);

/// Why a VM that will use `bytes` of memory does not fit this host now, if it does not.
[[nodiscard]] std::optional<std::string> too_large(std::uint64_t bytes);

/// True while a process exists that is not just waiting to be collected.
[[nodiscard]] bool is_running(pid_t pid);

/// Processor time that a process has used.
[[nodiscard]] std::optional<Seconds> cpu_time(pid_t pid);

/// The UEFI program of probe/.
[[nodiscard]] std::string probe_path();

}  // namespace accede::test
