#include "accede/cli/result_rows.hpp"

#include "accede/cli/size_text.hpp"

#include <algorithm>
#include <utility>

namespace accede::cli {
namespace {

using OptionalBytes = std::optional<Bytes>;

std::optional<double> real(OptionalBytes size) {
  return size ? std::optional{static_cast<double>(size->value())} : std::nullopt;
}

std::optional<double> no_figure(const RunResult& /*run*/) {
  return std::nullopt;
}

Row text_row(std::string_view title, std::function<std::string(const RunResult&)> cell) {
  return {title, std::move(cell), no_figure};
}

Row seconds_row(std::string_view title,
                const std::function<std::optional<double>(const RunResult&)>& seconds) {
  return {title, [seconds](const RunResult& run) { return format_seconds(seconds(run)); }, seconds};
}

Row size_row(std::string_view title, const std::function<OptionalBytes(const RunResult&)>& size) {
  return {title,
          [size](const RunResult& run) {
            const auto bytes = size(run);
            return bytes ? format_size(*bytes) : "-";
          },
          [size](const RunResult& run) { return real(size(run)); }};
}

/// What the emulator counted until the guest was up.
Row counter_row(std::string_view title,
                const std::function<std::uint64_t(const emulator::Counters&)>& counter) {
  return size_row(title, [counter](const RunResult& run) -> OptionalBytes {
    const ReportSnapshot* const report = main_report(run);
    return report == nullptr ? std::nullopt
                             : std::optional{Bytes{counter(report->header.counters)}};
  });
}

Row accepted_by_row(std::string_view title, emulator::Phase phase) {
  return counter_row(title, [phase](const emulator::Counters& counters) {
    return counters.accepted_bytes[static_cast<std::size_t>(phase)];
  });
}

std::string accept_calls(const RunResult& run) {
  const ReportSnapshot* const report = main_report(run);
  if (report == nullptr) {
    return "-";
  }
  const auto& calls = report->header.counters.accept_calls;
  return std::to_string(calls[1]) + " / " + std::to_string(calls[0]);
}

OptionalBytes backed(const RunResult& run) {
  const auto& rest = run.at_up ? run.at_up : run.at_end;
  return rest ? rest->backed : std::nullopt;
}

OptionalBytes used(const RunResult& run) {
  return run.up ? run.up->used : std::nullopt;
}

/// What was accepted before it was needed.
OptionalBytes accepted_above_used(const RunResult& run) {
  const auto accepted = accepted_bytes(run);
  const auto needed = used(run);
  if (!accepted || !needed) {
    return std::nullopt;
  }
  return *accepted > *needed ? *accepted - *needed : Bytes{};
}

/// Nothing when the firmware accepted nothing.
std::optional<double> firmware_accept_seconds(const RunResult& run) {
  const auto seconds = accept_seconds(run, emulator::Phase::kFirmware);
  return seconds && *seconds > 0 ? seconds : std::nullopt;
}

template <class Predicate>
bool any(std::span<const RunResult> results, Predicate predicate) {
  return std::ranges::any_of(results, predicate);
}

bool is_ready_kernel(const RunResult& run) {
  return run.label.kernel_kind == KernelKind::kGuest;
}

std::string_view start_title(std::span<const RunResult> results) {
  if (!any(results, is_ready_kernel)) {
    return "kernel start to init";
  }
  return std::ranges::all_of(results, is_ready_kernel) ? "kernel start to ready"
                                                       : "kernel start to ready/init";
}

void add_accept_rows(std::vector<Row>& table) {
  table.push_back(size_row("still unaccepted", [](const RunResult& run) {
    return run.up ? run.up->unaccepted : std::nullopt;
  }));
  table.push_back(size_row("accepted", accepted_bytes));
  table.push_back(accepted_by_row("  by firmware", emulator::Phase::kFirmware));
  table.push_back(seconds_row("    predicted to take", [](const RunResult& run) {
    return run.label.forecast ? std::optional{run.label.forecast->seconds} : std::nullopt;
  }));
  table.push_back(seconds_row("    took", firmware_accept_seconds));
  table.push_back(accepted_by_row("  by loader", emulator::Phase::kLoader));
  table.push_back(accepted_by_row("  by kernel", emulator::Phase::kKernel));
  table.push_back(size_row("used by the kernel", used));
  table.push_back(size_row("  accepted above that", accepted_above_used));
  table.push_back(text_row("accept calls 2M / 4K", accept_calls));
  table.push_back(counter_row("longest accept step", [](const emulator::Counters& counters) {
    return counters.longest_step_bytes;
  }));
}

void add_touch_row(std::vector<Row>& table, std::string_view title,
                   std::uint64_t FirstTouch::* quantile) {
  const auto microseconds = [quantile](const RunResult& run) -> std::optional<double> {
    if (!run.work || run.work->first_touch.count == 0) {
      return std::nullopt;
    }
    return static_cast<double>(run.work->first_touch.*quantile) / 1000;
  };
  table.push_back({title,
                   [microseconds](const RunResult& run) {
                     const auto time = microseconds(run);
                     return time ? format_fixed(*time, 1) + " us" : "-";
                   },
                   microseconds});
}

void add_work_rows(std::vector<Row>& table) {
  table.push_back(size_row("touched by the workload", [](const RunResult& run) {
    return run.work ? std::optional{run.work->touched} : std::nullopt;
  }));
  table.push_back(size_row("  unaccepted after it", [](const RunResult& run) {
    return run.work ? run.work->state.unaccepted : std::nullopt;
  }));
  add_touch_row(table, "  first touch, median", &FirstTouch::p50);
  add_touch_row(table, "  first touch, 99 %", &FirstTouch::p99);
  add_touch_row(table, "  first touch, 99.9 %", &FirstTouch::p999);
  add_touch_row(table, "  first touch, 99.99 %", &FirstTouch::p9999);
  add_touch_row(table, "  first touch, longest", &FirstTouch::max);
}

void add_kexec_rows(std::vector<Row>& table) {
  table.push_back(seconds_row("kexec to second kernel up", kexec_seconds));
  table.push_back(size_row("  unaccepted before", [](const RunResult& run) {
    return run.kexec_state ? run.kexec_state->unaccepted : std::nullopt;
  }));
  table.push_back(size_row("  unaccepted after", [](const RunResult& run) {
    return run.second ? run.second->unaccepted : std::nullopt;
  }));
  table.push_back(size_row("  accepted meanwhile", accepted_by_kexec));
  table.push_back(text_row("  accepted twice", [](const RunResult& run) {
    const auto doubles = double_accepts(run);
    return doubles ? std::to_string(*doubles) : "-";
  }));
  table.push_back(text_row("  marked page",
                           [](const RunResult& run) { return run.marked_page.value_or("-"); }));
}

}  // namespace

std::optional<Bytes> accepted_bytes(const RunResult& run) {
  const ReportSnapshot* const report = main_report(run);
  return report == nullptr ? std::nullopt
                           : std::optional{Bytes{total_accepted(report->header.counters)}};
}

std::vector<Row> result_rows(std::span<const RunResult> results) {
  std::vector<Row> table{
      text_row("outcome", [](const RunResult& run) { return std::string{name(run.outcome)}; }),
      seconds_row(start_title(results), kernel_to_init),
      seconds_row("firmware and loader",
                  [](const RunResult& run) { return run.boot_services_exited; }),
      seconds_row("whole run", [](const RunResult& run) { return std::optional{run.total}; }),
      size_row("RAM the kernel manages",
               [](const RunResult& run) {
                 return run.up ? std::optional{run.up->mem_total} : std::nullopt;
               }),
      size_row("host memory backed", backed),
      text_row("memory encryption",
               [](const RunResult& run) { return run.encryption.empty() ? "-" : run.encryption; }),
  };
  if (any(results, [](const RunResult& run) { return run.label.platform != Platform::kNone; })) {
    add_accept_rows(table);
  }
  if (any(results, [](const RunResult& run) { return run.work.has_value(); })) {
    add_work_rows(table);
  }
  if (any(results, has_kexec)) {
    add_kexec_rows(table);
  }
  return table;
}

}  // namespace accede::cli
