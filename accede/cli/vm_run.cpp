#include "accede/cli/vm_run.hpp"

#include "accede/cli/boot_watcher.hpp"
#include "accede/cli/child_process.hpp"
#include "accede/cli/file_text.hpp"
#include "accede/cli/line_splitter.hpp"
#include "accede/cli/qemu_command.hpp"
#include "accede/cli/size_text.hpp"
#include "accede/cli/smaps.hpp"
#include "accede/cli/unique_fd.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>

namespace accede::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxLine = 256U << 10;
constexpr int kMostMilliseconds = 1'000;
constexpr int kProgressMilliseconds = 100;

/// One of QEMU's three channels, this side.
struct Channel {
  UniqueFd ours;
  UniqueFd theirs;
  LineSplitter lines{kMaxLine};

  [[nodiscard]] bool open() {
    int ends[2] = {-1, -1};
    const bool made = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0;
    ours = UniqueFd{ends[0]};
    theirs = UniqueFd{ends[1]};
    return made && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0;
  }
};

/// Sends all of a short text; what cannot be sent is of no use to a VM that is gone.
void send_text(const UniqueFd& fd, std::string_view text) {
  [[maybe_unused]] const ssize_t done = send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
}

void copy_to(int fd, std::string_view text) {
  while (fd >= 0 && !text.empty()) {
    const ssize_t done = write(fd, text.data(), text.size());
    if (done <= 0) {
      return;
    }
    text.remove_prefix(static_cast<std::size_t>(done));
  }
}

Expectations expectations_of(const BootOptions& options, const RunPlan& plan) {
  const bool on_its_own = plan.own_command_line || plan.own_initrd;
  return {.our_init =
              !on_its_own && (!options.initrd.has_value() || plan.image.kind == KernelKind::kGuest),
          .kernel = plan.image.kind != KernelKind::kEfiProgram,
          .on_its_own = on_its_own};
}

/// The state of one run: channels, child, watcher. Lives inside `run_vm`.
class VmRun {
 public:
  VmRun(const BootOptions& options, const RunPlan& plan, const RunContext& context,
        const VmFiles& files)
      : options_{options},
        context_{context},
        files_{files},
        watcher_{label_of(options, plan), expectations_of(options, plan)} {
    if (plan.disk) {
      disk_ = VmDisk{.file = plan.kernel, .format = *plan.disk};
    }
  }

  std::expected<RunResult, Failure> run();

 private:
  std::expected<void, Failure> start();
  std::expected<void, Failure> step();
  [[nodiscard]] int wait_milliseconds() const;
  void show_progress() const;
  void read_console();
  void read_report();
  void read_control();
  void read_errors();
  /// What `fd` has now, in `buffer_`; empty when there is nothing. Closes `fd` at the end.
  std::string_view read_some(UniqueFd& fd);
  void handle_control(const QmpMessage& message);
  void begin_measurement();
  void finish_measurement();
  void check_time();
  void check_child();
  [[nodiscard]] std::string errors_text() const;
  [[nodiscard]] double now() const {
    return std::chrono::duration<double>(Clock::now() - started_).count();
  }

  const BootOptions& options_;
  const RunContext& context_;
  const VmFiles& files_;
  std::optional<VmDisk> disk_;
  BootWatcher watcher_;

  Channel console_;
  Channel report_;
  Channel control_;
  Channel errors_;  // QEMU's standard error
  std::string error_text_;
  std::optional<ChildProcess> child_;
  std::optional<int> child_status_;
  Clock::time_point started_;
  std::array<char, 64U << 10> buffer_{};

  bool control_ready_ = false;
  bool measuring_ = false;
  std::uint64_t command_id_ = 0;
};

std::expected<void, Failure> VmRun::start() {
  if (!console_.open() || !report_.open() || !control_.open() || !errors_.open()) {
    return std::unexpected{missing(std::string{"cannot make a socket: "} + std::strerror(errno))};
  }
  const VmSetup setup{.platform = options_.platform,
                      .memory = options_.memory,
                      .firmware = files_.firmware,
                      .partition = files_.partition,
                      .channels = {.console = console_.theirs.get(),
                                   .report = report_.theirs.get(),
                                   .control = control_.theirs.get()},
                      .force_accept = options_.force_accept,
                      .disk = disk_};
  started_ = Clock::now();
  auto child = ChildProcess::start(
      {.arguments = qemu_arguments(context_.tools.qemu, setup),
       .stdout_fd = errors_.theirs.get(),
       .stderr_fd = errors_.theirs.get(),
       .inherited = {setup.channels.console, setup.channels.report, setup.channels.control},
       .directory = {},
       .first_to_kill = true,
       // Guest memory in small pages: what the guest touches is what the host backs, to the page,
       // and the time does not hang on whether the host finds huge pages (4.5 ms or 0.2 ms for the
       // same 2 MiB on one machine).
       .no_huge_pages = true});
  if (!child) {
    return std::unexpected{child.error()};
  }
  child_.emplace(std::move(*child));
  for (Channel* const channel : {&console_, &report_, &control_, &errors_}) {
    channel->theirs.reset();
  }
  return {};
}

int VmRun::wait_milliseconds() const {
  double seconds = static_cast<double>(options_.timeout.count()) - now();
  if (const auto deadline = watcher_.deadline()) {
    seconds = std::min(seconds, *deadline - now());
  }
  const int most = context_.progress.visible() ? kProgressMilliseconds : kMostMilliseconds;
  return std::clamp(static_cast<int>(std::ceil(seconds * 1000)), 0, most);
}

void VmRun::show_progress() const {
  if (context_.progress.visible()) {
    context_.progress.show(context_.title + ": " + std::string{watcher_.phase()} + ", " +
                           format_fixed(now(), 1) + " s");
  }
}

std::string_view VmRun::read_some(UniqueFd& fd) {
  const ssize_t count = read(fd.get(), buffer_.data(), buffer_.size());
  if (count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN)) {
    fd.reset();
  }
  return count > 0 ? std::string_view{buffer_.data(), static_cast<std::size_t>(count)}
                   : std::string_view{};
}

void VmRun::read_console() {
  const std::string_view bytes = read_some(console_.ours);
  copy_to(context_.console_fd, bytes);
  for (const std::string& line : console_.lines.feed(bytes)) {
    watcher_.console_line(now(), line);
  }
}

void VmRun::read_report() {
  for (const std::string& line : report_.lines.feed(read_some(report_.ours))) {
    watcher_.report_line(now(), line);
  }
}

void VmRun::read_control() {
  for (const std::string& line : control_.lines.feed(read_some(control_.ours))) {
    handle_control(parse_qmp(line));
  }
}

void VmRun::read_errors() {
  constexpr std::size_t kMost = 16U << 10;
  error_text_ += read_some(errors_.ours);
  if (error_text_.size() > kMost) {
    error_text_.erase(0, error_text_.size() - kMost);
  }
}

void VmRun::handle_control(const QmpMessage& message) {
  if (std::holds_alternative<QmpGreeting>(message)) {
    send_text(control_.ours, qmp_capabilities());
    control_ready_ = true;
  } else if (const auto* const shutdown = std::get_if<QmpShutdown>(&message)) {
    // What the guest said before it went off is older than this.
    read_report();
    read_console();
    watcher_.shutdown(now(), *shutdown);
  } else if (const auto* const done = std::get_if<QmpDone>(&message);
             done != nullptr && measuring_ && done->id == command_id_) {
    finish_measurement();
  } else if (const auto* const error = std::get_if<QmpError>(&message);
             error != nullptr && measuring_ && error->id == command_id_) {
    watcher_.warn("QEMU cannot save the report area: " + error->message);
    measuring_ = false;
    watcher_.measured(now(), {.report = std::nullopt,
                              .backed = backed_guest_ram(child_->pid(), options_.memory)});
  }
}

void VmRun::begin_measurement() {
  const auto& takeover = watcher_.takeover();
  if (!takeover) {
    watcher_.measured(now(), {.report = std::nullopt,
                              .backed = backed_guest_ram(child_->pid(), options_.memory)});
    return;
  }
  if (control_ready_ && takeover->report_size.value() <= kMaxReportBytes) {
    measuring_ = true;
    ++command_id_;
    send_text(control_.ours,
              qmp_save_memory(command_id_, takeover->report_gpa, takeover->report_size,
                              files_.directory.path() / "report"));
  } else if (control_ready_) {
    watcher_.warn("the report area is too large to read");
    watcher_.measured(now(), {});
  }
}

void VmRun::finish_measurement() {
  measuring_ = false;
  Measurement measurement{.report = std::nullopt,
                          .backed = backed_guest_ram(child_->pid(), options_.memory)};
  const auto file = files_.directory.path() / "report";
  const auto bytes = read_bytes(file, kMaxReportBytes);
  std::error_code ignored;
  std::filesystem::remove(file, ignored);
  if (!bytes) {
    watcher_.warn("the saved report area: " + bytes.error());
  } else if (auto report = parse_report_area(*bytes)) {
    measurement.report = std::move(*report);
  } else {
    watcher_.warn(std::string{report.error()});
  }
  watcher_.measured(now(), std::move(measurement));
}

void VmRun::check_time() {
  const double time = now();
  if (time >= static_cast<double>(options_.timeout.count())) {
    watcher_.timed_out(time, console_.lines.partial());
  } else if (const auto deadline = watcher_.deadline(); deadline && time >= *deadline) {
    watcher_.deadline_passed(time);
  }
}

void VmRun::check_child() {
  child_status_ = child_->ended();
  if (child_status_) {
    // The last it said is still in the sockets.
    read_report();
    read_console();
    read_errors();
    watcher_.vm_ended(now(), describe_status(*child_status_));
  }
}

std::string VmRun::errors_text() const {
  std::string text = error_text_;
  while (text.ends_with('\n')) {
    text.pop_back();
  }
  // QEMU starts its messages with the program's path.
  const std::size_t line = text.rfind('\n');
  return text.substr(line == std::string::npos ? 0 : line + 1);
}

std::expected<void, Failure> VmRun::step() {
  std::array<pollfd, 5> fds{{{console_.ours.get(), POLLIN, 0},
                             {report_.ours.get(), POLLIN, 0},
                             {control_.ours.get(), POLLIN, 0},
                             {errors_.ours.get(), POLLIN, 0},
                             {context_.signals.fd(), POLLIN, 0}}};
  poll(fds.data(), fds.size(), wait_milliseconds());
  if (const auto signal = context_.signals.ending_signal()) {
    return std::unexpected{interrupted(*signal)};
  }
  // The report port first: a fault explains what the console says after it.
  if (fds[1].revents != 0) {
    read_report();
  }
  if (fds[0].revents != 0) {
    read_console();
  }
  if (fds[2].revents != 0) {
    read_control();
  }
  if (fds[3].revents != 0) {
    read_errors();
  }
  check_child();
  check_time();
  if (watcher_.wants_measurement() && !measuring_ && !child_status_) {
    begin_measurement();
  }
  if (watcher_.take_resume()) {
    send_text(console_.ours, "\n");
  }
  show_progress();
  return {};
}

std::expected<RunResult, Failure> VmRun::run() {
  if (const auto started = start(); !started) {
    return std::unexpected{started.error()};
  }
  while (!watcher_.wants_stop()) {
    if (const auto stepped = step(); !stepped) {
      return std::unexpected{stepped.error()};
    }
  }
  // What was said before the end but not read yet, such as why a loader returned.
  read_console();
  child_->kill();
  if (child_status_ && !watcher_.launcher_seen() && !watcher_.launcher_error()) {
    const std::string text = errors_text();
    return std::unexpected{missing("QEMU could not run the VM (" + describe_status(*child_status_) +
                                   ")" + (text.empty() ? "" : ": " + text))};
  }
  return watcher_.take_result();
}

}  // namespace

std::expected<RunResult, Failure> run_vm(const BootOptions& options, const RunPlan& plan,
                                         const RunContext& context) {
  const auto files = make_vm_files(options, plan, context.tools);
  if (!files) {
    return std::unexpected{files.error()};
  }
  VmRun run{options, plan, context, *files};
  return run.run();
}

}  // namespace accede::cli
