#include "accede/testbed/traps.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <mutex>

namespace accede::testbed {
namespace {

constexpr std::array<int, 3> kSignals{SIGILL, SIGSEGV, SIGBUS};

// Signal handlers belong to the process, and so must what they look at.
constinit std::array<std::atomic<TrapClient*>, 2> g_clients{};
constinit std::mutex g_install_lock;  // of the following, but for the handler's reading of g_before
constinit unsigned g_attached = 0;
std::array<struct sigaction, kSignals.size()> g_before{};

std::size_t index(int signal) {
  return signal == SIGILL ? 0 : signal == SIGSEGV ? 1 : 2;
}

/// Does with a signal what would have been done without us.
void pass_on(int signal, siginfo_t* info, void* context) {
  const struct sigaction& before = g_before[index(signal)];
  if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
  } else {
    struct sigaction restored{};
    restored.sa_handler = before.sa_handler;
    sigaction(signal, &restored, nullptr);
    if (info->si_code <= 0) {
      raise(signal);  // sent, not caused: it does not come again by itself
    }
  }
}

/// A general protection fault names no address (SI_KERNEL): it was the instruction.
Trap trap_of(int signal, const siginfo_t& info) {
  const bool is_instruction = signal == SIGILL || info.si_code == SI_KERNEL;
  return {.signal = signal, .is_instruction = is_instruction, .address = info.si_addr};
}

void on_signal(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  bool answered = false;
  if (info->si_code > 0) {
    CpuState cpu{*static_cast<ucontext_t*>(context)};
    const Trap trap = trap_of(signal, *info);
    for (std::atomic<TrapClient*>& slot : g_clients) {
      TrapClient* const client = slot.load(std::memory_order_acquire);
      answered = answered || (client != nullptr && client->on_trap(trap, cpu));
    }
  }
  errno = saved_errno;
  if (!answered) {
    pass_on(signal, info, context);
  }
}

void install() {
  for (const int signal : kSignals) {
    struct sigaction action{};
    action.sa_sigaction = on_signal;
    // A guest may run on a stack in guest memory: the handler needs one that is always there.
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    // A handler that is interrupted while it holds a model's lock could be waited for by whoever
    // interrupted it.
    sigfillset(&action.sa_mask);
    struct sigaction before{};
    sigaction(signal, nullptr, &before);
    if ((before.sa_flags & SA_SIGINFO) == 0 || before.sa_sigaction != on_signal) {
      g_before[index(signal)] = before;
      sigaction(signal, &action, nullptr);
    }
  }
}

void uninstall() {
  for (const int signal : kSignals) {
    struct sigaction now{};
    sigaction(signal, nullptr, &now);
    if ((now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == on_signal) {
      sigaction(signal, &g_before[index(signal)], nullptr);
    }
  }
}

}  // namespace

TrapAttachment::TrapAttachment(TrapSlot slot, TrapClient& client) : slot_{slot}, valid_{false} {
  const std::scoped_lock lock{g_install_lock};
  TrapClient* nobody = nullptr;
  valid_ = g_clients[static_cast<std::size_t>(slot)].compare_exchange_strong(nobody, &client);
  if (valid_ && g_attached++ == 0) {
    install();
  }
}

TrapAttachment::~TrapAttachment() {
  if (!valid_) {
    return;
  }
  const std::scoped_lock lock{g_install_lock};
  g_clients[static_cast<std::size_t>(slot_)].store(nullptr);
  if (--g_attached == 0) {
    uninstall();
  }
}

}  // namespace accede::testbed
