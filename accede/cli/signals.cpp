#include "accede/cli/signals.hpp"

#include <sys/signalfd.h>
#include <unistd.h>
#include <csignal>

namespace accede::cli {
namespace {

sigset_t watched() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD}) {
    sigaddset(&set, signal);
  }
  return set;
}

}  // namespace

SignalWatch::SignalWatch() {
  const sigset_t set = watched();
  sigprocmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  fd_ = UniqueFd{signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)};
}

SignalWatch::~SignalWatch() {
  restore_default_signals();
}

std::optional<int> SignalWatch::ending_signal() {
  signalfd_siginfo info{};
  while (read(fd_.get(), &info, sizeof info) == sizeof info) {
    if (info.ssi_signo != SIGCHLD && !ending_) {
      ending_ = static_cast<int>(info.ssi_signo);
    }
  }
  return ending_;
}

void restore_default_signals() {
  std::signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace accede::cli
