#include "accede/cli/run_result.hpp"

namespace accede::cli {
namespace {

const ReportSnapshot* report_of(const std::optional<Measurement>& measurement) {
  return measurement && measurement->report ? &*measurement->report : nullptr;
}

const ReportSnapshot* first_of(const std::optional<Measurement>& a,
                               const std::optional<Measurement>& b,
                               const std::optional<Measurement>& c) {
  for (const auto* measurement : {&a, &b, &c}) {
    if (const ReportSnapshot* const report = report_of(*measurement)) {
      return report;
    }
  }
  return nullptr;
}

}  // namespace

std::string_view name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kUserspace:
      return "userspace";
    case Outcome::kReady:
      return "ready";
    case Outcome::kPanic:
      return "panic";
    case Outcome::kGuestFault:
      return "guest-fault";
    case Outcome::kTimeout:
      return "timeout";
    case Outcome::kReset:
      return "reset";
  }
  return "reset";
}

ExitCode exit_code(const RunResult& result) {
  const bool wrong = result.work && result.work->wrong_pages != 0;
  switch (result.outcome) {
    case Outcome::kUserspace:
    case Outcome::kReady:
      return wrong ? kExitTestedFailed : kExitDone;
    case Outcome::kTimeout:
      return kExitTimedOut;
    case Outcome::kPanic:
    case Outcome::kGuestFault:
    case Outcome::kReset:
      return kExitTestedFailed;
  }
  return kExitTestedFailed;
}

const ReportSnapshot* main_report(const RunResult& result) {
  return first_of(result.at_up, result.at_end, result.at_work);
}

const ReportSnapshot* last_report(const RunResult& result) {
  return first_of(result.at_end, result.at_work, result.at_up);
}

std::optional<Bytes> lost_memory(const RunResult& result) {
  std::optional<Bytes> seen = result.console_ram;
  if (result.up && result.up->ram) {
    seen = result.up->ram;
  }
  if (!seen) {
    return std::nullopt;
  }
  const ReportSnapshot* const report = main_report(result);
  const std::uint64_t hidden = report == nullptr ? 0 : report->header.hidden_bytes;
  const std::uint64_t memory = result.label.memory.value();
  const std::uint64_t known = seen->value() + hidden;
  return Bytes{known < memory ? memory - known : 0};
}

std::optional<double> kernel_to_init(const RunResult& result) {
  if (!result.up_at || !result.boot_services_exited) {
    return std::nullopt;
  }
  return *result.up_at - *result.boot_services_exited;
}

std::optional<double> speedup(std::span<const RunResult> results) {
  for (const RunResult& lazy : results) {
    for (const RunResult& eager : results) {
      const auto lazy_seconds = kernel_to_init(lazy);
      const auto eager_seconds = kernel_to_init(eager);
      const bool pair = lazy.label.mode == AcceptMode::kLazy &&
                        eager.label.mode == AcceptMode::kEager &&
                        lazy.label.kernel == eager.label.kernel;
      if (pair && lazy_seconds && eager_seconds && *lazy_seconds > 0) {
        return *eager_seconds / *lazy_seconds;
      }
    }
  }
  return std::nullopt;
}

}  // namespace accede::cli
