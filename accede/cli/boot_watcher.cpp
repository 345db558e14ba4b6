#include "accede/cli/boot_watcher.hpp"

#include "accede/cli/line_splitter.hpp"

#include <utility>

namespace accede::cli {
namespace {

constexpr std::size_t kTailLines = 15;
/// What a last measurement of a VM whose time is over may take.
constexpr double kLastLookSeconds = 3.0;

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
  if (line.empty() || is_guest_report(line)) {
    return;
  }
  constexpr std::size_t kMostShown = 300;
  tail_.emplace_back(line.substr(0, kMostShown));
  if (tail_.size() > kTailLines) {
    tail_.pop_front();
  }
}

// What happens to the VM.

void BootWatcher::shutdown(double now, const QmpShutdown& event) {
  const bool died_in_kexec = result_.kexec_at && event.reason == "guest-reset";
  if (leaving_ || (!expectations_.our_init && result_.up_at && !died_in_kexec)) {
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
  if (expectations_.on_its_own && !outcome_) {
    outcome_ = Outcome::kTimeout;
    result_.message = "the console does not tell that an init was started";
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
  if (still_good() && !ending_) {
    outcome_ = Outcome::kTimeout;
    result_.message = placed("no end after " + std::to_string(static_cast<long>(now)) + " s");
    if (!expectations_.our_init && result_.up_at) {
      result_.message +=
          "; the kernel had started the init of your initrd, which did not power off";
    }
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
  if (still_good()) {
    outcome_ = Outcome::kReset;
    result_.message = placed("QEMU ended on its own: " + std::string{how});
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
    case Point::kKexec:
      result_.at_kexec = std::move(measurement);
      resume_ = true;
      break;
    case Point::kSecondUp:
      result_.at_second = std::move(measurement);
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

void BootWatcher::conclude(double now, Outcome outcome, const std::string& message) {
  // A kernel that panics also resets: the first bad news stands. A broken rule explains the rest.
  const bool news = still_good() || outcome == Outcome::kGuestFault;
  if (news && !ending_) {
    outcome_ = outcome;
    result_.message = placed(message);
  }
  finish(now);
}

bool BootWatcher::still_good() const {
  return !outcome_ || outcome_ == Outcome::kUserspace || outcome_ == Outcome::kReady;
}

std::string BootWatcher::placed(const std::string& message) const {
  if (message.empty() || !result_.kexec_at) {
    return message;
  }
  return (result_.second_at ? "in the second kernel: "
                            : "after the jump into the second kernel: ") +
         message;
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

void BootWatcher::explain_panic() {
  // Too late to return to the firmware, the loader says why on the serial port and powers off.
  if (outcome_ == Outcome::kReset && refusal_ && !result_.up_at) {
    result_.message = "its last words: " + *refusal_;
  }
  if (outcome_ != Outcome::kPanic) {
    return;
  }
  const bool loader_ended_itself = result_.fault && refusal_ && !result_.boot_services_exited;
  if (returned_ && refusal_) {
    const bool loader = result_.label.loader == LoaderKind::kAccede;
    result_.message =
        (loader ? "the loader refused it: " : "it returned to the firmware: ") + *refusal_;
  } else if (guest_fault_) {
    result_.message = *guest_fault_;
  } else if (loader_ended_itself) {
    result_.message = "its last words: " + *refusal_;
  }
}

RunResult BootWatcher::take_result() {
  if (launcher_error_) {
    outcome_ = Outcome::kReset;
    result_.message = "the launcher cannot go on: " + *launcher_error_;
    result_.launcher_error = result_.message;
  }
  if (result_.label.kexec && !result_.second_at && still_good()) {
    outcome_ = Outcome::kReset;
    result_.message = result_.kexec_at ? "the second kernel did not come up after the jump"
                                       : "the guest did not jump into a second kernel";
  }
  explain_panic();
  result_.outcome = outcome_.value_or(Outcome::kReset);
  result_.console_tail.assign(tail_.begin(), tail_.end());
  return std::move(result_);
}

}  // namespace accede::cli
