#include "accede/cli/run_result.hpp"

#include <initializer_list>

namespace accede::cli {
namespace {

const ReportSnapshot* report_of(const std::optional<Measurement>& measurement) {
  return measurement && measurement->report ? &*measurement->report : nullptr;
}

const ReportSnapshot* first_of(
    std::initializer_list<const std::optional<Measurement>*> measurements) {
  for (const std::optional<Measurement>* const measurement : measurements) {
    if (const ReportSnapshot* const report = report_of(*measurement)) {
      return report;
    }
  }
  return nullptr;
}

/// How much a counter grew; counters do not go back.
std::uint64_t growth(std::uint64_t before, std::uint64_t after) {
  return after > before ? after - before : 0;
}

/// True when memory did not hold what was written to it.
bool lost_content(const RunResult& result) {
  const auto wrong = [](const std::optional<GuestWork>& work) {
    return work && work->wrong_pages != 0;
  };
  return wrong(result.work) || wrong(result.second_work) ||
         (result.marked_page && *result.marked_page != "kept");
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
  const bool wrong = lost_content(result) || double_accepts(result).value_or(0) != 0;
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
  return first_of({&result.at_up, &result.at_end, &result.at_work});
}

const ReportSnapshot* last_report(const RunResult& result) {
  return first_of(
      {&result.at_end, &result.at_second, &result.at_kexec, &result.at_work, &result.at_up});
}

bool firmware_accepts_first(const RunLabel& label) {
  return label.platform != Platform::kNone &&
         (label.firmware == FirmwareKind::kAcceptAll || label.force_accept ||
          label.firmware_accept.scope == firmware::AcceptanceScope::kEverything);
}

bool leaves_low_memory(const RunLabel& label) {
  return label.platform != Platform::kNone && !firmware_accepts_first(label) &&
         label.firmware_accept.scope == firmware::AcceptanceScope::kAtLeast;
}

Bytes accepted_at_exit(const RunResult& result) {
  const ReportSnapshot* const report = main_report(result);
  if (report == nullptr || result.label.firmware != FirmwareKind::kHandshake ||
      firmware_accepts_first(result.label)) {
    return Bytes{};
  }
  constexpr auto kFirmware = static_cast<std::size_t>(emulator::Phase::kFirmware);
  return Bytes{growth(result.firmware_plan.value_or(Bytes{}).value(),
                      report->header.counters.accepted_bytes[kFirmware])};
}

std::optional<double> accept_seconds(const RunResult& result, emulator::Phase who) {
  const ReportSnapshot* const report = main_report(result);
  if (report == nullptr) {
    return std::nullopt;
  }
  return seconds_of(report->header.counters.accept_ticks[static_cast<std::size_t>(who)],
                    report->header);
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

bool has_kexec(const RunResult& result) {
  return result.label.kexec || result.kexec_at || result.second_at;
}

std::optional<double> kexec_seconds(const RunResult& result) {
  return result.kexec_at && result.second_at ? std::optional{*result.second_at - *result.kexec_at}
                                             : std::nullopt;
}

std::optional<Bytes> accepted_by_kexec(const RunResult& result) {
  const ReportSnapshot* const before = report_of(result.at_kexec);
  const ReportSnapshot* const after = report_of(result.at_second);
  if (before == nullptr || after == nullptr) {
    return std::nullopt;
  }
  return Bytes{
      growth(total_accepted(before->header.counters), total_accepted(after->header.counters))};
}

std::optional<std::uint64_t> double_accepts(const RunResult& result) {
  const ReportSnapshot* const before = first_of({&result.at_kexec, &result.at_work, &result.at_up});
  const ReportSnapshot* const after = first_of({&result.at_end, &result.at_second});
  if (before == nullptr || after == nullptr) {
    return std::nullopt;
  }
  return growth(before->header.counters.already_accepted, after->header.counters.already_accepted);
}

std::optional<double> speedup(std::span<const RunResult> results, std::string_view kernel) {
  for (const RunResult& lazy : results) {
    for (const RunResult& eager : results) {
      const auto lazy_seconds = kernel_to_init(lazy);
      const auto eager_seconds = kernel_to_init(eager);
      const bool pair = lazy.label.mode == AcceptMode::kLazy &&
                        eager.label.mode == AcceptMode::kEager && lazy.label.kernel == kernel &&
                        eager.label.kernel == kernel;
      if (pair && lazy_seconds && eager_seconds && *lazy_seconds > 0) {
        return *eager_seconds / *lazy_seconds;
      }
    }
  }
  return std::nullopt;
}

std::optional<double> speedup(std::span<const RunResult> results) {
  for (const RunResult& run : results) {
    if (const auto factor = speedup(results, run.label.kernel)) {
      return factor;
    }
  }
  return std::nullopt;
}

}  // namespace accede::cli
