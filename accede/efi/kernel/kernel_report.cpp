#include "accede/efi/kernel/kernel_report.hpp"

#include <cstddef>

namespace accede::efi::kernel {
namespace {

constexpr std::string_view kPrefix = "ACCEDE-GUEST "sv;
constexpr std::string_view kRelease = "accede-guest " ACCEDE_VERSION ""sv;
constexpr std::uint64_t kNsPerHundredth = 10'000'000;

std::string_view table_name(guest::HandOverRoute route) {
  switch (route) {
    case guest::HandOverRoute::kNone:
      return "none"sv;
    case guest::HandOverRoute::kEfi:
      return "efi"sv;
    case guest::HandOverRoute::kSetupData:
      return "setup-data"sv;
    case guest::HandOverRoute::kHandOver:
      return "hand-over"sv;
  }
  return "unknown"sv;
}

void begin(ReportLine& line, std::string_view step) {
  line.clear();
  line.text(kPrefix).text(R"({"step":)"sv).quoted(step);
}

void field(ReportLine& line, std::string_view name, std::uint64_t value) {
  line.text(","sv).quoted(name).text(":"sv).number(value);
}

void write_meminfo(ReportLine& line, const MemoryState& memory) {
  line.text(R"(,"meminfo":{"MemTotal":)"sv).number(memory.total.value());
  field(line, "MemFree"sv, memory.free.value());
  // Nothing here is a cache that could be dropped: what is free is what is available.
  field(line, "MemAvailable"sv, memory.free.value());
  field(line, "Unaccepted"sv, memory.unaccepted.value());
  line.text("}"sv);
}

void write_state(ReportLine& line, const KernelState& state) {
  field(line, "generation"sv, state.generation);
  line.text(R"(,"release":)"sv).quoted(kRelease);
  line.text(R"(,"uptime_seconds":)"sv).hundredths(state.uptime_ns / kNsPerHundredth);
  line.text(R"(,"policy":)"sv).quoted(to_string(state.policy));
  field(line, "ram_bytes"sv, state.memory.ram.value());
  write_meminfo(line, state.memory);
  field(line, "used_bytes"sv, state.memory.used().value());
  field(line, "page_info_bytes"sv, state.memory.page_info.value());
  field(line, "accepted_bytes"sv, state.memory.accepted.value());
  line.text(R"(,"table":)"sv).quoted(table_name(state.memory.table));
}

void write_first_touch(ReportLine& line, const LatencyHistogram& latency, NsOfTicks ns_of) {
  line.text(R"(,"first_touch_ns":{"count":)"sv).number(latency.count());
  field(line, "p50"sv, ns_of(latency.quantile(5'000)));
  field(line, "p99"sv, ns_of(latency.quantile(9'900)));
  field(line, "p999"sv, ns_of(latency.quantile(9'990)));
  field(line, "p9999"sv, ns_of(latency.quantile(9'999)));
  field(line, "max"sv, ns_of(latency.max()));
  line.text(R"(,"histogram":[)"sv);
  std::string_view separator;
  for (std::size_t bucket = 0; bucket < LatencyHistogram::kBuckets; ++bucket) {
    if (latency.count_in(bucket) != 0) {
      line.text(separator).text("["sv).number(ns_of(LatencyHistogram::upper_bound(bucket)));
      line.text(","sv).number(latency.count_in(bucket)).text("]"sv);
      separator = ","sv;
    }
  }
  line.text("]}"sv);
}

MessageLine message_line(std::string_view step, std::string_view message) {
  MessageLine line;
  line.text(kPrefix).text(R"({"step":)"sv).quoted(step);
  // Cut rather than end in the middle of a string: a fault's text may be long.
  constexpr std::size_t kMost = 512;
  const std::string_view part{message.data(), message.size() < kMost ? message.size() : kMost};
  line.text(R"(,"message":)"sv).quoted(part).text("}"sv);
  return line;
}

}  // namespace

void write_ready(ReportLine& line, const KernelState& state, std::optional<bool> marked) {
  begin(line, "ready"sv);
  write_state(line, state);
  if (marked) {
    line.text(R"(,"marked_page":)"sv).quoted(*marked ? "kept"sv : "lost"sv);
  }
  line.text("}"sv);
}

void write_work(ReportLine& line, const KernelState& state, const WorkResult& result,
                NsOfTicks ns_of) {
  begin(line, "work"sv);
  write_state(line, state);
  line.text(R"(,"workload":)"sv).quoted(to_string(result.kind));
  field(line, "touched_bytes"sv, result.touched.value());
  field(line, "wrong_pages"sv, result.wrong_pages);
  field(line, "touch_ns"sv, ns_of(result.elapsed_ticks));
  line.text(R"(,"stopped":)"sv).quoted(result.stopped);
  write_first_touch(line, result.latency, ns_of);
  line.text("}"sv);
}

void write_kexec(ReportLine& line, const KernelState& state) {
  begin(line, "kexec"sv);
  write_state(line, state);
  line.text("}"sv);
}

MessageLine error_line(std::string_view message) {
  return message_line("error"sv, message);
}

MessageLine error_line(const OptionProblem& problem) {
  TextBuffer<256> message;
  constexpr std::size_t kMost = 128;
  const std::string_view word{problem.word.data(),
                              problem.word.size() < kMost ? problem.word.size() : kMost};
  message.text(word).text(": "sv).text(problem.why);
  return error_line(message.view());
}

MessageLine fault_line(std::string_view message) {
  return message_line("fault"sv, message);
}

MessageLine off_line() {
  MessageLine line;
  line.text(kPrefix).text(R"({"step":"off"})"sv);
  return line;
}

}  // namespace accede::efi::kernel
