// How the steps of a boot are made; used by steps_text.cpp alone.
#pragma once

#include "accede/cli/run_result.hpp"
#include "accede/cli/step_figures.hpp"
#include "accede/cli/steps_text.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace accede::cli {

/// Collects the steps of one run, one party after the other. Until the kernel begins:
/// step_flow_start.cpp; from there on: step_flow_kernel.cpp.
class StepFlow {
 public:
  explicit StepFlow(const RunResult& run)
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

  [[nodiscard]] std::optional<Bytes> accepted_by(emulator::Phase phase) const {
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
    const auto accepted = accepted_by(emulator::Phase::kLoader);
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

}  // namespace accede::cli
