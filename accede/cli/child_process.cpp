#include "accede/cli/child_process.hpp"

#include "accede/cli/signals.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace accede::cli {
namespace {

void redirect(int from, int to) {
  // dup2 to itself would keep close-on-exec.
  if (from == to) {
    fcntl(to, F_SETFD, 0);
  } else {
    dup2(from, to);
  }
}

void write_file(const char* path, const char* text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd >= 0) {
    [[maybe_unused]] const ssize_t done = write(fd, text, std::strlen(text));
    close(fd);
  }
}

/// In the child: everything between fork and exec. Returns errno when it fails.
int become(const ChildSetup& setup, char* const* arguments, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) {
    return ESRCH;  // the parent died before the line above
  }
  restore_default_signals();
  if (setup.first_to_kill) {
    write_file("/proc/self/oom_score_adj", "1000");
  }
  if (setup.no_huge_pages) {
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);  // kept across exec
  }
  const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
  redirect(nothing, STDIN_FILENO);
  redirect(setup.stdout_fd < 0 ? nothing : setup.stdout_fd, STDOUT_FILENO);
  redirect(setup.stderr_fd < 0 ? nothing : setup.stderr_fd, STDERR_FILENO);
  for (const int fd : setup.inherited) {
    fcntl(fd, F_SETFD, 0);
  }
  if (!setup.directory.empty() && chdir(setup.directory.c_str()) != 0) {
    return errno;
  }
  execvp(arguments[0], arguments);
  return errno;
}

}  // namespace

std::expected<ChildProcess, Failure> ChildProcess::start(const ChildSetup& setup) {
  std::vector<std::string> copies = setup.arguments;
  std::vector<char*> arguments;
  arguments.reserve(copies.size() + 1);
  for (std::string& argument : copies) {
    arguments.push_back(argument.data());
  }
  arguments.push_back(nullptr);

  // Closed by exec: then the child runs; else it carries errno.
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return std::unexpected{missing(std::string{"cannot make a pipe: "} + std::strerror(errno))};
  }
  UniqueFd from_child{ends[0]};
  UniqueFd to_parent{ends[1]};
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    const int error = become(setup, arguments.data(), parent);
    [[maybe_unused]] const ssize_t done = write(to_parent.get(), &error, sizeof error);
    _exit(127);
  }
  if (pid < 0) {
    return std::unexpected{missing(std::string{"cannot start a process: "} + std::strerror(errno))};
  }
  setpgid(pid, pid);  // both sides do it: whoever comes first
  to_parent.reset();
  ChildProcess child{pid};
  int error = 0;
  if (read(from_child.get(), &error, sizeof error) == sizeof error) {
    child.wait();
    return std::unexpected{
        missing("cannot start " + setup.arguments.front() + ": " + std::strerror(error))};
  }
  return child;
}

std::optional<int> ChildProcess::ended() {
  int status = 0;
  if (!status_ && pid_ > 0 && waitpid(pid_, &status, WNOHANG) == pid_) {
    status_ = status;
  }
  return status_;
}

int ChildProcess::wait() {
  int status = 0;
  while (!status_ && pid_ > 0) {
    if (waitpid(pid_, &status, 0) == pid_ || errno != EINTR) {
      status_ = status;
    }
  }
  return status_.value_or(0);
}

void ChildProcess::kill() {
  if (pid_ > 0 && !status_) {
    ::kill(-pid_, SIGKILL);
    ::kill(pid_, SIGKILL);
    wait();
  }
}

std::string describe_status(int status) {
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    return "signal " + std::to_string(signal) + " (" + strsignal(signal) + ")";
  }
  return "exit code " + std::to_string(WEXITSTATUS(status));
}

}  // namespace accede::cli
