#include "accede/testbed/stop_report.hpp"

#include "accede/base/assert.hpp"
#include "accede/testbed/last_words.hpp"

#include <csetjmp>

namespace accede::testbed {

using namespace std::string_view_literals;
namespace {

/// Where a stop on this thread goes.
struct Catcher {
  sigjmp_buf resume;
  StopReport report;
};

constinit thread_local Catcher* t_catcher = nullptr;

/// True when `body` was stopped. In a function of its own: nothing here lives in a register that
/// the jump would lose. The signal mask is saved, as the handler has every signal blocked.
[[gnu::noinline]] bool was_stopped(Catcher& catcher, FunctionRef<void()> body) {
  if (sigsetjmp(catcher.resume, 1) != 0) {
    return true;
  }
  body();
  return false;
}

}  // namespace

std::string_view name(StopCause cause) {
  switch (cause) {
    case StopCause::kTouch:
      return "touch of memory that is not accepted"sv;
    case StopCause::kSharedPage:
      return "accept of a shared page"sv;
    case StopCause::kNotRam:
      return "accept of what is no RAM"sv;
    case StopCause::kRefused:
      return "refused by the RMP"sv;
    case StopCause::kBadGhcb:
      return "GHCB that is not shared RAM"sv;
    case StopCause::kOutOfStorage:
      return "page-state storage exhausted"sv;
  }
  return "unknown"sv;
}

std::optional<StopReport> catch_stop(FunctionRef<void()> body) {
  ACCEDE_ASSERT(t_catcher == nullptr);
  Catcher catcher{};
  t_catcher = &catcher;
  const bool stopped = was_stopped(catcher, body);
  t_catcher = nullptr;
  return stopped ? std::optional{catcher.report} : std::nullopt;
}

void stop_guest(const StopReport& report) {
  if (t_catcher != nullptr) {
    t_catcher->report = report;
    siglongjmp(t_catcher->resume, 1);
  }
  LastWords words;
  words.text("accede testbed: "sv).text(name(report.cause));
  words.text(": GPA "sv).hex(report.gpa.value()).text(" is "sv).text(report.state);
  if (report.cause == StopCause::kTouch) {
    words.text(report.is_write ? ", write of "sv : ", read of "sv);
    words.hex(reinterpret_cast<std::uintptr_t>(report.address));
  }
  words.text(", RIP "sv).hex(report.rip).abort();
}

}  // namespace accede::testbed
