#include "accede/cli/steps_text.hpp"

#include "accede/cli/size_text.hpp"
#include "accede/cli/step_figures.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace accede::cli {
namespace {

using emulator::Phase;

/// Collects the steps of one run, one party after the other.
class Flow {
 public:
  explicit Flow(const RunResult& run)
      : run_{run}, latest_{last_report(run)}, report_{main_report(run)} {}

  std::vector<Step> take() {
    add_host();
    add_firmware();
    if (run_.kernel_started || run_.boot_services_exited) {
      add_loader();
      add_firmware_at_exit();
    }
    if (run_.boot_services_exited) {
      add_kernel();
      add_after_up();
    }
    return std::move(steps_);
  }

 private:
  void add(std::string_view who, std::string what, std::optional<Bytes> bytes,
           std::optional<double> seconds) {
    steps_.push_back({std::string{who}, std::move(what), bytes, seconds});
  }

  [[nodiscard]] bool emulated() const { return run_.label.platform != Platform::kNone; }
  [[nodiscard]] bool own_kernel() const { return run_.label.kernel_kind == KernelKind::kGuest; }
  [[nodiscard]] bool any_program() const {
    return run_.label.kernel_kind == KernelKind::kEfiProgram;
  }
  /// The kernel said that it has no notion of unaccepted memory.
  [[nodiscard]] bool unaware() const { return run_.up && !run_.up->unaccepted; }
  [[nodiscard]] bool went_well() const {
    return run_.outcome == Outcome::kUserspace || run_.outcome == Outcome::kReady;
  }

  [[nodiscard]] std::optional<Bytes> accepted_by(Phase phase) const {
    if (report_ == nullptr) {
      return std::nullopt;
    }
    return Bytes{report_->header.counters.accepted_bytes[static_cast<std::size_t>(phase)]};
  }

  /// `text` where memory has to be accepted, else `plain`.
  [[nodiscard]] std::string accepts(std::string_view plain, std::string_view text) const {
    return std::string{emulated() ? text : plain};
  }

  [[nodiscard]] bool accepts_all_as_loader() const {
    const auto accepted = accepted_by(Phase::kLoader);
    return accepted && accepted->value() != 0 && accepted->value() >= report_->header.lazy_bytes;
  }

  void add_host();
  void add_firmware();
  void add_loader();
  void add_firmware_at_exit();
  void add_kernel();
  void add_after_up();
  void add_kexec();
  void add_second_work();
  void add_end(const emulator::ReportHeader* since, std::string_view who, std::string_view what);

  [[nodiscard]] std::string firmware_plan() const;
  [[nodiscard]] std::string loader_text() const;
  [[nodiscard]] std::optional<double> loader_seconds() const;
  [[nodiscard]] std::string how_it_accepts() const;

  const RunResult& run_;
  const ReportSnapshot* latest_;
  const ReportSnapshot* report_;  ///< of the moment that the first kernel was up
  std::vector<Step> steps_;
};

void Flow::add_host() {
  if (!emulated()) {
    add("host", "gives the VM its memory; nobody has to accept it", run_.label.memory, {});
    return;
  }
  if (latest_ == nullptr) {
    return;
  }
  const Platform platform = run_.label.platform;
  const std::string phase = platform == Platform::kSnp ? "PEI" : "SEC";
  const bool only_used = leaves_low_memory(run_.label);
  add("host",
      only_used
          ? "adds the memory that the firmware uses, accepted at launch"
          : "adds memory below 4 GiB, accepted at launch (as OVMF's " + phase + " phase does)",
      Bytes{latest_->header.launch_bytes}, {});
  add("host",
      "leaves memory " + not_accepted(platform) +
          (only_used ? ": what the firmware has free" : ": above 4 GiB"),
      Bytes{latest_->header.lazy_bytes}, {});
  std::uint64_t pages = 0;
  for (const emulator::Event& event : latest_->events) {
    pages += event.kind == emulator::EventKind::kHostAug ? event.pages : 0;
  }
  if (pages != 0) {
    const bool cut = latest_->header.event_dropped != 0;
    add("host",
        std::string{"adds pages during the run, when they are accepted"} +
            (cut ? " (the log is full: at least)" : ""),
        Bytes{pages * 4096}, {});
  }
}

void Flow::add_firmware() {
  const bool is_last = !run_.kernel_started && !run_.boot_services_exited;
  const auto seconds = is_last ? std::optional{run_.total} : run_.kernel_started;
  std::string what = accepts("starts the machine", firmware_plan());
  if (emulated() && !firmware_accepts_first(run_.label) &&
      run_.label.firmware == FirmwareKind::kHandshake) {
    what += ", waits for a promise";
  }
  if (is_last) {
    what += ", until " + std::string{ended_how(run_.outcome)};
  }
  if (accepted_at_exit(run_) == Bytes{}) {
    what += accepting(accept_seconds(run_, Phase::kFirmware).value_or(0));
  }
  const auto accepted = accepted_by(Phase::kFirmware);
  add("firmware", std::move(what),
      accepted ? std::optional{*accepted - accepted_at_exit(run_)} : std::nullopt, seconds);
}

/// What the firmware accepts before the loader starts, and why that.
std::string Flow::firmware_plan() const {
  const RunLabel& label = run_.label;
  const std::string pending = not_accepted(label.platform);
  if (label.force_accept) {
    return "accepts what is " + pending + ", for the host wants it";
  }
  if (firmware_accepts_first(label)) {
    return "accepts what is " + pending;
  }
  if (leaves_low_memory(label)) {
    return "accepts until " + format_size(label.firmware_accept.at_least) +
           " are usable, and what the loader needs";
  }
  return "accepts nothing that is " + pending;
}

std::string Flow::loader_text() const {
  if (own_kernel()) {
    return accepts("the kernel's entry: leaves boot services",
                   "the kernel's entry: takes the memory map, accepts for itself");
  }
  if (any_program()) {
    return accepts("an EFI program runs", "an EFI program runs, accepts");
  }
  const bool ours = run_.label.loader == LoaderKind::kAccede;
  const std::string who = ours ? "accede-loader" : "EFI stub";
  if (!emulated()) {
    return who + ": starts the kernel";
  }
  if (firmware_accepts_first(run_.label)) {
    return who + ": finds nothing unaccepted";
  }
  if (accepted_at_exit(run_) != Bytes{}) {
    return who + ": promises nothing";
  }
  if (ours && !run_.boot_services_exited) {
    return who + ": prepares the kernel";
  }
  if (ours && unaware()) {
    return who + ": the kernel does not know unaccepted memory, accepts all";
  }
  if (ours && accepts_all_as_loader()) {
    return who + ": accepts all";
  }
  if (unaware()) {
    return who + ": does not know unaccepted memory, builds no table";
  }
  if (!ours && !run_.up) {
    return who + ": prepares the kernel";  // whether it built a table only the kernel could tell
  }
  return who + ": builds the unaccepted table, accepts for the kernel";
}

std::optional<double> Flow::loader_seconds() const {
  if (latest_ != nullptr) {
    const auto exact =
        between(phase_begin(*latest_, Phase::kLoader), phase_begin(*latest_, Phase::kKernel));
    if (exact) {
      // The firmware's part of it has a line of its own.
      const auto firmware = first_stay(*latest_, Phase::kFirmware);
      return *exact - firmware.value_or(0);
    }
  }
  return between(run_.kernel_started, run_.boot_services_exited);
}

void Flow::add_loader() {
  std::string what = loader_text();
  auto seconds = loader_seconds();
  if (!run_.boot_services_exited) {
    const bool done = any_program() && went_well();
    what += ", until " + std::string{done ? "it is done" : ended_how(run_.outcome)};
    seconds = between(run_.kernel_started, run_.total);
  }
  add("loader", std::move(what), accepted_by(Phase::kLoader), seconds);
}

void Flow::add_firmware_at_exit() {
  const Bytes accepted = accepted_at_exit(run_);
  if (accepted != Bytes{}) {
    add("firmware",
        "accepts what is " + not_accepted(run_.label.platform) +
            " at ExitBootServices, which fails once",
        accepted, first_stay(*latest_, Phase::kFirmware));
  }
}

std::string Flow::how_it_accepts() const {
  if (!emulated()) {
    return "runs";
  }
  if (unaware()) {
    return "does not know acceptance, runs";
  }
  const std::string_view policy =
      run_.label.policy.empty() ? name(run_.label.mode) : std::string_view{run_.label.policy};
  if (policy == "lazy") {
    return "accepts lazily";
  }
  if (policy == "eager") {
    return "accepts eagerly";
  }
  return policy == "background" ? "accepts in the background"
                                : "accepts (" + std::string{policy} + ")";
}

void Flow::add_kernel() {
  std::string_view until = ended_how(run_.outcome);
  if (run_.up_at) {
    until = own_kernel() ? "it is ready" : "user space is up";
  }
  const auto seconds =
      run_.up_at ? kernel_to_init(run_) : between(run_.boot_services_exited, run_.total);
  add("kernel",
      how_it_accepts() + ", until " + std::string{until} +
          accepting(accept_seconds(run_, Phase::kKernel).value_or(0)),
      accepted_by(Phase::kKernel), seconds);
}

/// How a kernel that was up ended, if it did not end well: what was accepted since its last line.
void Flow::add_end(const emulator::ReportHeader* since, std::string_view who,
                   std::string_view what) {
  if (went_well()) {
    return;
  }
  const auto accepted = accepted_between(since, header_of(run_.at_end));
  add(who, std::string{what} + ", until " + std::string{ended_how(run_.outcome)},
      accepted ? std::optional{accepted->bytes} : std::nullopt, {});
}

void Flow::add_after_up() {
  if (!run_.up_at) {
    return;
  }
  const emulator::ReportHeader* since = header_of(run_.at_up);
  std::optional<Bytes> left = run_.up ? run_.up->unaccepted : std::nullopt;
  if (run_.work) {
    const emulator::ReportHeader* const then = header_of(run_.at_work);
    const auto accepted = accepted_between(since, then);
    add("workload",
        "touches " + format_size(run_.work->touched) +
            accepts("", "; what had to be accepted for it") +
            accepting(accepted ? accepted->seconds : 0),
        accepted ? std::optional{accepted->bytes} : std::nullopt, run_.work->seconds);
    since = then;
    left = run_.work->state.unaccepted;
  }
  if (run_.kexec_at || run_.kexec_state || run_.second_at) {
    add_kexec();
    return;
  }
  if (emulated() && left) {
    add("kernel", "leaves unaccepted", left, {});
  }
  if (run_.label.kexec) {
    add("kexec", "did not happen", {}, {});
    return;
  }
  add_end(since, "kernel", "goes on");
}

void Flow::add_kexec() {
  const emulator::ReportHeader* const before = header_of(run_.at_kexec);
  const auto loading =
      accepted_between(header_of(run_.at_work ? run_.at_work : run_.at_up), before);
  if (loading && loading->bytes != Bytes{}) {
    add("kexec", "loads the next kernel; what had to be accepted for it", loading->bytes, {});
  }
  if (emulated() && run_.kexec_state && run_.kexec_state->unaccepted) {
    add("kexec", "second kernel inherits the table, with this unaccepted",
        run_.kexec_state->unaccepted, {});
  }
  if (!run_.second_at) {
    add_end(before, "kexec", "jumps");
    return;
  }
  const auto accepted = accepted_between(before, header_of(run_.at_second));
  if (accepted && accepted->to_private != Bytes{}) {
    add("kexec", "shared memory turns private and is accepted again", accepted->to_private, {});
  }
  add("kexec",
      accepts("second kernel runs", "second kernel accepts") + ", until it is up" +
          accepting(accepted ? accepted->seconds : 0),
      accepted ? std::optional{accepted->bytes - accepted->to_private} : std::nullopt,
      kexec_seconds(run_));
  if (run_.marked_page) {
    add("kexec", "a marked page that nothing was copied to: " + *run_.marked_page, {}, {});
  }
  add_second_work();
}

void Flow::add_second_work() {
  const emulator::ReportHeader* const since = header_of(run_.at_second);
  std::optional<Bytes> left = run_.second ? run_.second->unaccepted : std::nullopt;
  if (run_.second_work) {
    const auto accepted = accepted_between(since, header_of(run_.at_end));
    add("workload",
        "in the second kernel, touches " + format_size(run_.second_work->touched) +
            accepts("", "; accepted for it") + accepting(accepted ? accepted->seconds : 0),
        accepted ? std::optional{accepted->bytes} : std::nullopt, run_.second_work->seconds);
    left = run_.second_work->state.unaccepted;
  }
  if (emulated() && left) {
    add("kexec", "second kernel leaves unaccepted", left, {});
  }
  add_end(run_.second_work ? header_of(run_.at_end) : since, "kexec", "second kernel goes on");
}

}  // namespace

std::vector<Step> steps_of(const RunResult& result) {
  return Flow{result}.take();
}

std::string steps_text(const RunResult& result) {
  struct Line {
    std::string who, what, bytes, seconds;
  };
  std::vector<Line> lines;
  Line widest;
  for (Step& step : steps_of(result)) {
    lines.push_back({std::move(step.who), std::move(step.what),
                     step.bytes ? format_size(*step.bytes) : "-", format_seconds(step.seconds)});
    for (std::string Line::* cell : {&Line::who, &Line::what, &Line::bytes, &Line::seconds}) {
      const std::size_t width = std::max((widest.*cell).size(), (lines.back().*cell).size());
      (widest.*cell).resize(width, ' ');
    }
  }
  const auto blanks = [](const std::string& room, const std::string& cell) {
    return std::string(2 + room.size() - cell.size(), ' ');
  };
  std::string text;
  for (const Line& line : lines) {
    text += line.who + blanks(widest.who, line.who) + line.what + blanks(widest.what, line.what) +
            std::string(widest.bytes.size() - line.bytes.size(), ' ') + line.bytes +
            blanks(widest.seconds, line.seconds) + line.seconds + "\n";
  }
  return text;
}

}  // namespace accede::cli
