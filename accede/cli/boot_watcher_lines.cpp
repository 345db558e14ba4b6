// What the lines of a boot mean to its watcher.
#include "accede/cli/boot_watcher.hpp"
#include "accede/cli/size_text.hpp"

namespace accede::cli {
namespace {

/// What a kernel prints after a panic, and its reset, are waited for this long.
constexpr double kPanicSeconds = 2.0;
/// A guest that said it powers off has this long to do it.
constexpr double kPowerOffSeconds = 10.0;
/// An init that is not ours runs this long, so that it uses some memory; and a kernel whose console
/// is silent.
constexpr double kOwnInitSeconds = 5.0;
constexpr double kSilentSeconds = 45.0;

}  // namespace

// The report port.

void BootWatcher::handle(double /*now*/, const LauncherStarted& /*line*/) {
  launcher_seen_ = true;
  phase_ = "launcher";
}

void BootWatcher::handle(double /*now*/, const FirmwarePlan& line) {
  result_.firmware_plan = line.accepts;
}

void BootWatcher::handle(double /*now*/, const Takeover& line) {
  takeover_ = line;
}

void BootWatcher::handle(double now, const KernelStarted& /*line*/) {
  if (!result_.kernel_started) {
    result_.kernel_started = now;
  }
  phase_ = "loader";
}

void BootWatcher::handle(double now, const BootServicesExited& /*line*/) {
  if (!result_.boot_services_exited) {
    result_.boot_services_exited = now;
    if (expectations_.on_its_own) {
      deadline_ = now + kSilentSeconds;
    }
  }
  phase_ = "kernel";
}

void BootWatcher::handle(double now, const KernelReturned& line) {
  returned_ = true;
  if (line.status == 0 && !expectations_.kernel) {
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
  // A guest that asks to be ended gave up: what it said before tells more than its request.
  const bool own_end = line.kind == kind_name(emulator::EventKind::kGuestTermination);
  conclude(now, own_end ? Outcome::kPanic : Outcome::kGuestFault, line.message);
}

void BootWatcher::handle(double now, const GuestPanic& line) {
  conclude(now, Outcome::kPanic,
           line.message.empty() ? "the guest reported a fatal error" : line.message);
}

void BootWatcher::handle(double /*now*/, const UnknownLine& /*line*/) {}

// The console.

void BootWatcher::reached(double now, Outcome good) {
  if (!result_.up_at) {
    result_.up_at = now;
    outcome_ = outcome_.value_or(good);
    want(Point::kUp);
  }
}

void BootWatcher::second_up(double now, const GuestUp& line) {
  if (!result_.second) {
    result_.second = line.state;
    result_.second_at = now;
    result_.marked_page = line.marked_page;
    outcome_ = outcome_.value_or(line.own_kernel ? Outcome::kReady : Outcome::kUserspace);
    phase_ = "second kernel";
    want(Point::kSecondUp);
  }
}

void BootWatcher::handle(double now, const GuestUp& line) {
  if (line.generation > 1) {
    second_up(now, line);
  } else if (!result_.up) {
    result_.up = line.state;
    phase_ = line.own_kernel ? "ready" : "userspace";
    reached(now, line.own_kernel ? Outcome::kReady : Outcome::kUserspace);
  }
}

void BootWatcher::handle(double /*now*/, const GuestWork& line) {
  if (result_.second && !result_.second_work) {
    result_.second_work = line;
    resume_ = true;
  } else if (!result_.second && !result_.work) {
    result_.work = line;
    phase_ = "work done";
    want(Point::kWork);
  }
}

void BootWatcher::handle(double now, const GuestKexec& line) {
  if (!result_.kexec_state) {
    result_.kexec_state = line.state;
    result_.kexec_at = now;
    phase_ = "kexec";
    want(Point::kKexec);
  }
}

void BootWatcher::handle(double now, const GuestOff& /*line*/) {
  leaving_ = true;
  phase_ = "power-off";
  deadline_ = now + kPowerOffSeconds;
}

void BootWatcher::handle(double /*now*/, const GuestError& line) {
  warn("the guest says: " + line.message);
}

void BootWatcher::handle(double now, const GuestFaultLine& line) {
  const std::string message = line.message.empty() ? "no reason given" : line.message;
  if (!guest_fault_) {
    guest_fault_ = placed(message);
  }
  gave_up(now, message);
}

void BootWatcher::handle(double /*now*/, const GarbledInit& /*line*/) {
  warn("a line that the guest reported could not be read");
}

void BootWatcher::gave_up(double now, const std::string& message) {
  // After the kernel was up, too. The first bad news explains those that follow.
  if (still_good()) {
    outcome_ = Outcome::kPanic;
    result_.message = placed(message);
    phase_ = "panic";
    deadline_ = now + kPanicSeconds;
  }
}

void BootWatcher::handle(double now, const KernelPanic& line) {
  gave_up(now, line.message);
}

void BootWatcher::handle(double /*now*/, const KernelMemory& line) {
  if (!result_.kexec_at) {
    result_.console_ram = line.ram;
  }
}

void BootWatcher::handle(double /*now*/, const KernelBanner& line) {
  if (result_.console_release.empty()) {
    result_.console_release = line.release;
  }
}

void BootWatcher::handle(double /*now*/, const EncryptionFeatures& line) {
  result_.encryption = line.text;
}

void BootWatcher::handle(double now, const InitStarted& /*line*/) {
  if (!expectations_.our_init) {
    phase_ = "userspace";
    reached(now, Outcome::kUserspace);
    if (expectations_.on_its_own && still_good()) {
      deadline_ = now + kOwnInitSeconds;
    }
  }
}

void BootWatcher::handle(double /*now*/, const Refusal& line) {
  refusal_ = line.reason;
}

void BootWatcher::handle(double /*now*/, const OtherLine& /*line*/) {}

}  // namespace accede::cli
