// The steps from the kernel on: it, the workload, kexec.

#include "accede/cli/size_text.hpp"
#include "accede/cli/step_flow.hpp"

namespace accede::cli {

using emulator::Phase;

std::string StepFlow::how_it_accepts() const {
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

void StepFlow::add_kernel() {
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
void StepFlow::add_end(const emulator::ReportHeader* since, std::string_view who,
                       std::string_view what) {
  if (went_well()) {
    return;
  }
  const auto accepted = accepted_between(since, header_of(run_.at_end));
  add(who, std::string{what} + ", until " + std::string{ended_how(run_.outcome)},
      accepted ? std::optional{accepted->bytes} : std::nullopt, {});
}

void StepFlow::add_after_up() {
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

void StepFlow::add_kexec() {
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

void StepFlow::add_second_work() {
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

}  // namespace accede::cli
