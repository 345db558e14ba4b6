#include "accede/cli/boot_watcher.hpp"

#include "accede/cli/line_splitter.hpp"
#include "accede/cli/size_text.hpp"

#include <utility>

namespace accede::cli {
namespace {

constexpr std::size_t kTailLines = 15;
/// What a kernel prints after a panic, and its reset, are waited for this long.
constexpr double kPanicSeconds = 2.0;
/// What a last measurement of a VM whose time is over may take.
constexpr double kLastLookSeconds = 3.0;
/// A guest that said it powers off has this long to do it.
constexpr double kPowerOffSeconds = 10.0;

}  // namespace

BootWatcher::BootWatcher(RunLabel label, Expectations expectations) : expectations_{expectations} {
  result_.label = std::move(label);
}

void BootWatcher::report_line(double now, std::string_view line) {
  std::visit([this, now](const auto& parsed) { handle(now, parsed); }, parse_report_line(line));
}

void BootWatcher::console_line(double now, std::string_view line) {
  const std::string text = printable(line);
  remember(text);
  std::visit([this, now](const auto& parsed) { handle(now, parsed); }, parse_console_line(text));
}

void BootWatcher::remember(std::string_view line) {
  if (line.empty() || line.find("ACCEDE-INIT ") != std::string_view::npos) {
    return;
  }
  constexpr std::size_t kMostShown = 300;
  tail_.emplace_back(line.substr(0, kMostShown));
  if (tail_.size() > kTailLines) {
    tail_.pop_front();
  }
}

// The report port.

void BootWatcher::handle(double /*now*/, const LauncherStarted& /*line*/) {
  launcher_seen_ = true;
  phase_ = "launcher";
}

void BootWatcher::handle(double /*now*/, const Takeover& line) {
  takeover_ = line;
}

void BootWatcher::handle(double /*now*/, const KernelStarted& /*line*/) {
  phase_ = "loader";
}

void BootWatcher::handle(double now, const BootServicesExited& /*line*/) {
  if (!result_.boot_services_exited) {
    result_.boot_services_exited = now;
  }
  phase_ = "kernel";
}

void BootWatcher::handle(double now, const KernelReturned& line) {
  if (line.status == 0 && !expectations_.linux) {
    conclude(now, Outcome::kReady, "");
  } else if (line.status == 0) {
    conclude(now, Outcome::kPanic, "it returned to the firmware");
  } else {
    conclude(now, Outcome::kPanic,
             "it returned to the firmware with status " + format_hex(line.status));
  }
}

void BootWatcher::handle(double now, const LauncherError& line) {
  launcher_error_ = line.message.empty() ? "no reason given" : line.message;
  stop_now(now);
}

void BootWatcher::handle(double now, const Fault& line) {
  if (!result_.fault) {
    result_.fault = line;
  }
  conclude(now, Outcome::kGuestFault, line.message);
}

void BootWatcher::handle(double now, const GuestPanic& line) {
  conclude(now, Outcome::kPanic,
           line.message.empty() ? "the guest reported a fatal error" : line.message);
}

void BootWatcher::handle(double /*now*/, const UnknownLine& /*line*/) {}

// The console.

void BootWatcher::reached_userspace(double now) {
  if (!result_.up_at) {
    result_.up_at = now;
    outcome_ = outcome_.value_or(Outcome::kUserspace);
    want(Point::kUp);
  }
}

void BootWatcher::handle(double now, const GuestUp& line) {
  if (!result_.up) {
    result_.up = line.state;
    phase_ = "userspace";
    reached_userspace(now);
  }
}

void BootWatcher::handle(double /*now*/, const GuestWork& line) {
  if (!result_.work) {
    result_.work = line;
    phase_ = "work done";
    want(Point::kWork);
  }
}

void BootWatcher::handle(double now, const GuestOff& /*line*/) {
  leaving_ = true;
  phase_ = "power-off";
  deadline_ = now + kPowerOffSeconds;
}

void BootWatcher::handle(double /*now*/, const GuestError& line) {
  warn("the guest's init says: " + line.message);
}

void BootWatcher::handle(double /*now*/, const GarbledInit& /*line*/) {
  warn("a line of the guest's init could not be read");
}

void BootWatcher::handle(double now, const KernelPanic& line) {
  // A panic after the init was up is still one.
  outcome_ = Outcome::kPanic;
  result_.message = line.message;
  phase_ = "panic";
  deadline_ = now + kPanicSeconds;
}

void BootWatcher::handle(double /*now*/, const KernelMemory& line) {
  result_.console_ram = line.ram;
}

void BootWatcher::handle(double /*now*/, const EncryptionFeatures& line) {
  result_.encryption = line.text;
}

void BootWatcher::handle(double now, const InitStarted& /*line*/) {
  if (!expectations_.our_init) {
    phase_ = "userspace";
    reached_userspace(now);
  }
}

void BootWatcher::handle(double /*now*/, const OtherLine& /*line*/) {}

// What happens to the VM.

void BootWatcher::shutdown(double now, const QmpShutdown& event) {
  if (leaving_ || (!expectations_.our_init && result_.up_at)) {
    finish(now);
  } else if (event.reason == "guest-reset") {
    conclude(now, Outcome::kReset, "the VM reset before its work was done");
  } else {
    conclude(now, Outcome::kReset, "the VM went off before its work was done");
  }
}

void BootWatcher::deadline_passed(double now) {
  deadline_.reset();
  if (leaving_) {
    warn("the guest did not power off");
  }
  finish(now);
}

void BootWatcher::timed_out(double now, std::string_view partial) {
  if (last_look_until_) {
    if (now >= *last_look_until_) {
      stop_now(now);
    }
    return;
  }
  remember(printable(partial));
  outcome_ = Outcome::kTimeout;
  result_.message = "no end after " + std::to_string(static_cast<long>(now)) + " s";
  if (!expectations_.our_init && result_.up_at) {
    result_.message += "; the kernel had started the init of your initrd, which did not power off";
  }
  if (!takeover_ || ending_) {
    stop_now(now);
    return;
  }
  // What the guest did until now, and whether it halted for good, explains the time-out.
  last_look_until_ = now + kLastLookSeconds;
  finish(now);
}

void BootWatcher::vm_ended(double now, std::string_view how) {
  if (stop_) {
    return;
  }
  if (!outcome_ || outcome_ == Outcome::kUserspace) {
    outcome_ = Outcome::kReset;
    result_.message = "QEMU ended on its own: " + std::string{how};
  }
  stop_now(now);
}

void BootWatcher::warn(std::string text) {
  constexpr std::size_t kMostWarnings = 20;
  if (result_.warnings.size() < kMostWarnings) {
    result_.warnings.push_back(std::move(text));
  }
}

// Measuring and ending.

void BootWatcher::want(Point point) {
  // A measurement that is under way is at most milliseconds old; only the end must not be lost.
  if (!wanted_) {
    wanted_ = point;
  }
}

void BootWatcher::measured(double now, Measurement measurement) {
  const Point point = wanted_.value_or(Point::kEnd);
  wanted_.reset();
  switch (point) {
    case Point::kUp:
      result_.at_up = std::move(measurement);
      resume_ = true;
      break;
    case Point::kWork:
      result_.at_work = std::move(measurement);
      resume_ = true;
      break;
    case Point::kEnd:
      result_.at_end = std::move(measurement);
      stop_now(now);
      return;
  }
  if (ending_) {
    wanted_ = Point::kEnd;
  }
}

bool BootWatcher::take_resume() {
  return std::exchange(resume_, false);
}

void BootWatcher::conclude(double now, Outcome outcome, std::string message) {
  // A kernel that panics also resets: the first bad news stands. A broken rule explains the rest.
  const bool news = !outcome_ || outcome_ == Outcome::kUserspace || outcome == Outcome::kGuestFault;
  if (news && !ending_) {
    outcome_ = outcome;
    result_.message = std::move(message);
  }
  finish(now);
}

void BootWatcher::finish(double now) {
  if (ending_ || stop_) {
    return;
  }
  ending_ = true;
  deadline_.reset();
  result_.total = now;
  want(Point::kEnd);
}

void BootWatcher::stop_now(double now) {
  if (result_.total == 0) {
    result_.total = now;
  }
  wanted_.reset();
  stop_ = true;
}

RunResult BootWatcher::take_result() {
  result_.outcome = outcome_.value_or(Outcome::kReset);
  result_.console_tail.assign(tail_.begin(), tail_.end());
  return std::move(result_);
}

}  // namespace accede::cli
