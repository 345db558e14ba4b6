#include "accede/efi/kernel/panic.hpp"

#include "accede/base/text_buffer.hpp"
#include "accede/efi/kernel/idle.hpp"
#include "accede/efi/kernel/kernel_report.hpp"
#include "accede/efi/kernel/vmcall.hpp"

namespace accede::efi::kernel {

using namespace std::string_view_literals;
namespace {

// A fault arrives without a context.
constinit LastWords g_last_words;
constinit unsigned g_depth = 0;
constinit TextBuffer<200> g_message;

/// May well be the end: a host stops a guest that says so.
void tell_host(std::string_view message) {
  switch (g_last_words.host.kind) {
    case guest::PlatformKind::kTdx:
      return vmcall_report_fatal_error(message);
    case guest::PlatformKind::kSnp:
      // The protocol has no room for a text.
      return g_last_words.host.ghcb->terminate(abi::ghcb::kTerminateGeneral);
    case guest::PlatformKind::kNone:
      return;
  }
}

}  // namespace

void set_last_words(const LastWords& last_words) {
  g_last_words = last_words;
}

unsigned begin_fault(std::string_view message) {
  asm volatile("cli" : : : "memory");
  if (++g_depth > 2) {
    stop_cpu(g_last_words.host.kind);
  }
  improve_fault_message(message);
  return g_depth;
}

void improve_fault_message(std::string_view message) {
  if (g_depth == 1) {
    g_message.clear();
    g_message.text(message);
  }
}

void stop() {
  const std::string_view message = g_message.view();
  if (g_last_words.console != nullptr) {
    // The leading line end closes a line that the fault interrupted.
    g_last_words.console->write("\n"sv);
    g_last_words.console->write(fault_line(message).view());
    g_last_words.console->write("\n"sv);
  }
  tell_host(message);
  if (g_last_words.power != nullptr) {
    g_last_words.power->power_off();
  }
  stop_cpu(g_last_words.host.kind);
}

void panic(std::string_view message) {
  static_cast<void>(begin_fault(message));
  if (g_last_words.console != nullptr) {
    g_last_words.console->write("\naccede-guest: panic: "sv);
    g_last_words.console->write(message);
    g_last_words.console->write("\n"sv);
  }
  stop();
}

}  // namespace accede::efi::kernel
