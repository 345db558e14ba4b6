// Follows one boot from what the VM says and decides what happens next. No I/O: vm_run.cpp feeds
// it, tests feed it made-up boots. boot_watcher_lines.cpp has what each line means.
#pragma once

#include "accede/cli/qmp.hpp"
#include "accede/cli/run_result.hpp"

#include <deque>
#include <optional>
#include <string>
#include <string_view>

namespace accede::cli {

/// What of the boot is ours.
struct Expectations {
  bool our_init = true;  ///< else the boot is done when the kernel starts any init
  bool kernel = true;    ///< else an EFI program that returns has done its work
  /// With an init that is not ours: nobody tells that the work is done, and perhaps nothing is on
  /// the console. The run ends soon after the init, or some time after boot services.
  bool on_its_own = false;
};

/// The state of one boot. All times are seconds since QEMU was started, never going back.
/// Thread-compatible.
///
/// After every call the caller asks the `wants_*` functions: a measurement has to be answered by
/// `measured`; then perhaps the waiting guest has to be told to go on, or the VM has to be stopped.
class BootWatcher {
 public:
  BootWatcher(RunLabel label, Expectations expectations);

  void report_line(double now, std::string_view line);
  /// A line of the console as it came; `printable` is done here.
  void console_line(double now, std::string_view line);
  void shutdown(double now, const QmpShutdown& event);
  /// The answer to `wants_measurement`.
  void measured(double now, Measurement measurement);
  /// `deadline` has passed.
  void deadline_passed(double now);
  /// The run's time is over. `partial` is a console line that has no end yet. Once the emulator
  /// runs a last measurement is wanted first; called again, the watcher gives that a few seconds.
  void timed_out(double now, std::string_view partial);
  /// QEMU ended on its own.
  void vm_ended(double now, std::string_view how);
  void warn(std::string text);

  [[nodiscard]] bool wants_measurement() const { return wanted_.has_value(); }
  /// True once after each moment at which the guest waits to be told to go on.
  [[nodiscard]] bool take_resume();
  [[nodiscard]] bool wants_stop() const { return stop_; }
  /// When `deadline_passed` has to be called.
  [[nodiscard]] std::optional<double> deadline() const { return deadline_; }

  /// Where the report area lies, once the emulator runs.
  [[nodiscard]] const std::optional<Takeover>& takeover() const { return takeover_; }
  /// One word for the progress line.
  [[nodiscard]] std::string_view phase() const { return phase_; }
  /// True when the launcher said anything: QEMU and the firmware work.
  [[nodiscard]] bool launcher_seen() const { return launcher_seen_; }
  /// The launcher or the emulator could not go on: there is no result.
  [[nodiscard]] const std::optional<std::string>& launcher_error() const { return launcher_error_; }

  /// Precondition: `wants_stop`.
  [[nodiscard]] RunResult take_result();

 private:
  enum class Point { kUp, kWork, kKexec, kSecondUp, kEnd };

  void handle(double now, const LauncherStarted& line);
  void handle(double now, const FirmwarePlan& line);
  void handle(double now, const Takeover& line);
  void handle(double now, const KernelStarted& line);
  void handle(double now, const BootServicesExited& line);
  void handle(double now, const KernelReturned& line);
  void handle(double now, const LauncherError& line);
  void handle(double now, const Fault& line);
  void handle(double now, const GuestPanic& line);
  void handle(double now, const UnknownLine& line);

  void handle(double now, const GuestUp& line);
  void handle(double now, const GuestWork& line);
  void handle(double now, const GuestKexec& line);
  void handle(double now, const GuestOff& line);
  void handle(double now, const GuestError& line);
  void handle(double now, const GuestFaultLine& line);
  void handle(double now, const GarbledInit& line);
  void handle(double now, const KernelPanic& line);
  void handle(double now, const KernelMemory& line);
  void handle(double now, const KernelBanner& line);
  void handle(double now, const EncryptionFeatures& line);
  void handle(double now, const InitStarted& line);
  void handle(double now, const Refusal& line);
  void handle(double now, const OtherLine& line);

  /// The kernel is up, which is `good` unless worse is known already.
  void reached(double now, Outcome good);
  void second_up(double now, const GuestUp& line);
  /// The kernel says that it cannot go on; a reset or a report of the emulator may follow.
  void gave_up(double now, const std::string& message);
  /// `message`, after what says that a second kernel was on its way or up.
  [[nodiscard]] std::string placed(const std::string& message) const;
  /// The console has the reason, perhaps read after the short word on the report port.
  void explain_panic();
  /// No outcome yet, or a good one.
  [[nodiscard]] bool still_good() const;
  void want(Point point);
  /// The run is over and this is how, unless worse is known already.
  void conclude(double now, Outcome outcome, const std::string& message);
  /// The run is over; one last measurement, then the VM is stopped.
  void finish(double now);
  void stop_now(double now);
  void remember(std::string_view line);

  Expectations expectations_;
  RunResult result_;
  std::optional<Outcome> outcome_;
  std::optional<Takeover> takeover_;
  std::optional<std::string> launcher_error_;
  std::optional<std::string> refusal_;      ///< why the kernel did not start
  std::optional<std::string> guest_fault_;  ///< our own kernel's last words
  std::optional<Point> wanted_;
  std::deque<std::string> tail_;
  std::optional<double> deadline_;
  std::optional<double> last_look_until_;  ///< the time is over, the last measurement under way
  std::string_view phase_ = "firmware";
  bool ending_ = false;    ///< the last measurement is wanted
  bool leaving_ = false;   ///< the guest said that it powers off
  bool returned_ = false;  ///< to the firmware
  bool resume_ = false;
  bool stop_ = false;
  bool launcher_seen_ = false;
};

}  // namespace accede::cli
