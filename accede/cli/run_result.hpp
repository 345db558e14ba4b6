// What one boot showed.
#pragma once

#include "accede/base/units.hpp"
#include "accede/cli/boot_options.hpp"
#include "accede/cli/console_line.hpp"
#include "accede/cli/failure.hpp"
#include "accede/cli/kernel_image.hpp"
#include "accede/cli/report_area.hpp"
#include "accede/cli/report_line.hpp"

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace accede::cli {

enum class Outcome {
  kUserspace,   ///< our init (or with --initrd any init) ran
  kReady,       ///< our own kernel, or an EFI program, did its work
  kPanic,       ///< the kernel gave up
  kGuestFault,  ///< the guest broke a rule and was stopped
  kTimeout,
  kReset,  ///< the VM reset or went off without any of these
};

[[nodiscard]] std::string_view name(Outcome outcome);

/// The guest at rest, seen from outside.
struct Measurement {
  std::optional<ReportSnapshot> report;  ///< nothing without emulator
  std::optional<Bytes> backed;           ///< host memory that backs guest RAM
};

/// What the firmware will accept, and how long that will take.
struct AcceptanceForecast {
  Bytes accepted;
  double seconds = 0;
};

/// The run's parameters that its report repeats.
struct RunLabel {
  Platform platform = Platform::kTdx;
  Bytes memory;
  AcceptMode mode = AcceptMode::kLazy;
  FirmwareKind firmware = FirmwareKind::kNever;
  FirmwareAccept firmware_accept = {};
  std::optional<AcceptanceForecast> forecast = {};  ///< with a modelled cost alone
  bool force_accept = false;  ///< the host had the firmware accept everything, whatever its kind
  std::string kernel;         ///< version, or file name
  std::optional<std::chrono::nanoseconds> accept_cost;
  KernelKind kernel_kind = KernelKind::kLinux;
  LoaderKind loader = LoaderKind::kStub;
  bool shim = false;        ///< accede's shim started the kernel
  bool kexec = false;       ///< a jump into a second kernel was asked for
  std::string policy = {};  ///< how the kernel was told to accept; `name(mode)`
};

struct RunResult {
  RunLabel label;
  Outcome outcome = Outcome::kReset;
  std::string message;  ///< of a panic or of what else went wrong; may be empty
  /// Why the launcher or the emulator could not go on: then there is nothing to measure.
  std::optional<std::string> launcher_error;
  /// What the firmware said it accepts before the loader starts.
  std::optional<Bytes> firmware_plan;

  // Seconds since QEMU was started.
  std::optional<double> kernel_started;  ///< the loader or the kernel's EFI stub began
  std::optional<double> boot_services_exited;
  std::optional<double> up_at;
  double total = 0;

  std::optional<GuestState> up;
  std::optional<GuestWork> work;
  std::optional<Measurement> at_up;
  std::optional<Measurement> at_work;
  std::optional<Measurement> at_end;

  // Of a kexec: the first kernel just before the jump, then the second one. `up`, `work` and their
  // measurements belong to the first kernel.
  std::optional<GuestState> kexec_state;
  std::optional<double> kexec_at;  ///< seconds since QEMU was started
  std::optional<Measurement> at_kexec;
  std::optional<GuestState> second;
  std::optional<double> second_at;  ///< seconds since QEMU was started
  std::optional<Measurement> at_second;
  std::optional<GuestWork> second_work;
  std::optional<std::string> marked_page;  ///< `kept` or `lost`, as the second kernel found it

  std::optional<Fault> fault;
  std::string encryption;            ///< "AMD SEV SEV-ES SEV-SNP", as the kernel says it
  std::optional<Bytes> console_ram;  ///< RAM according to the kernel's own message
  std::string console_release = {};  ///< of the kernel, by its first message
  std::vector<std::string> warnings;
  std::vector<std::string> console_tail;  ///< last lines of the console, fit for a terminal
};

/// Exit code of the command for this run: how it ended, whether memory held what was written, and
/// whether a second kernel accepted nothing again.
[[nodiscard]] ExitCode exit_code(const RunResult& result);

/// The report area at the moment that the figures of the guest belong to: at rest when it got that
/// far, else at the end; nullptr without emulator.
[[nodiscard]] const ReportSnapshot* main_report(const RunResult& result);

/// The latest report area there is.
[[nodiscard]] const ReportSnapshot* last_report(const RunResult& result);

/// Nothing is left unaccepted when the loader starts.
[[nodiscard]] bool firmware_accepts_first(const RunLabel& label);

/// The firmware's plan may leave memory below 4 GiB.
[[nodiscard]] bool leaves_low_memory(const RunLabel& label);

/// What firmware with the handshake accepted at ExitBootServices, for nobody had promised to; 0
/// when somebody had, or when the firmware is of another kind.
[[nodiscard]] Bytes accepted_at_exit(const RunResult& result);

/// Seconds that accepting took `who` until the guest was up; nothing without emulator.
[[nodiscard]] std::optional<double> accept_seconds(const RunResult& result, emulator::Phase who);

/// RAM of the VM that the guest cannot see: the VM's memory less what the emulator hides less what
/// the kernel manages. A few MiB belong to the firmware on every machine. Nothing when the kernel
/// said nothing.
[[nodiscard]] std::optional<Bytes> lost_memory(const RunResult& result);

[[nodiscard]] std::optional<double> kernel_to_init(const RunResult& result);

/// A jump into a second kernel was asked for or happened.
[[nodiscard]] bool has_kexec(const RunResult& result);

/// From just before the jump until the second kernel was up.
[[nodiscard]] std::optional<double> kexec_seconds(const RunResult& result);

/// What was accepted meanwhile.
[[nodiscard]] std::optional<Bytes> accepted_by_kexec(const RunResult& result);

/// Accepts of accepted memory from the jump to the end of the run.
[[nodiscard]] std::optional<std::uint64_t> double_accepts(const RunResult& result);

/// `kernel_to_init` of the first eager run over that of the first lazy run of this kernel; nothing
/// when there are not both.
[[nodiscard]] std::optional<double> speedup(std::span<const RunResult> results,
                                            std::string_view kernel);

/// The same of the first kernel that ran in both modes.
[[nodiscard]] std::optional<double> speedup(std::span<const RunResult> results);

}  // namespace accede::cli
