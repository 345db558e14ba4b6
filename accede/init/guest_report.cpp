#include "accede/init/guest_report.hpp"

#include "accede/init/proc_files.hpp"

#include <sys/utsname.h>
#include <unistd.h>
#include <array>
#include <cstdint>
#include <ctime>
#include <string_view>

namespace accede::init {
namespace {

constexpr unsigned kMaxNodes = 64;

void write_uptime(JsonLine& line) {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  line.text(R"("uptime_seconds":)")
      .hundredths(static_cast<std::uint64_t>(now.tv_sec) * 100 +
                  static_cast<std::uint64_t>(now.tv_nsec) / 10'000'000);
}

void write_release(JsonLine& line) {
  utsname names{};
  uname(&names);
  line.text(R"(,"release":)").quoted(names.release);
}

void write_meminfo(JsonLine& line) {
  line.text(R"(,"meminfo":{)");
  std::string_view text = read_file("/proc/meminfo");
  std::string_view separator;
  while (!text.empty()) {
    if (const auto figure = parse_figure(take_line(text))) {
      line.text(separator).quoted(figure->name).text(":").number(figure->bytes);
      separator = ",";
    }
  }
  line.text("}");
}

void write_vmstat(JsonLine& line) {
  line.text(R"(,"vmstat":{)");
  std::string_view text = read_file("/proc/vmstat");
  std::string_view separator;
  while (!text.empty()) {
    const std::string_view entry = take_line(text);
    const std::string_view name = entry.substr(0, entry.find(' '));
    if ((name == "nr_unaccepted" || name == "nr_free_pages") && name.size() < entry.size()) {
      line.text(separator).quoted(name).text(":").text(entry.substr(name.size() + 1));
      separator = ",";
    }
  }
  line.text("}");
}

/// One node of /sys; a kernel without unaccepted memory leaves the last field out.
void write_node(JsonLine& line, unsigned node, std::string_view text) {
  line.text(R"({"node":)").number(node);
  while (!text.empty()) {
    const auto figure = parse_figure(take_line(text));
    if (!figure) {
      continue;
    }
    // "Node 0 MemTotal"
    const std::string_view name = figure->name.substr(figure->name.rfind(' ') + 1);
    if (name == "MemTotal") {
      line.text(R"(,"mem_total_bytes":)").number(figure->bytes);
    } else if (name == "MemFree") {
      line.text(R"(,"mem_free_bytes":)").number(figure->bytes);
    } else if (name == "Unaccepted") {
      line.text(R"(,"unaccepted_bytes":)").number(figure->bytes);
    }
  }
  line.text("}");
}

void write_nodes(JsonLine& line) {
  line.text(R"(,"nodes":[)");
  std::string_view separator;
  for (unsigned node = 0; node < kMaxNodes; ++node) {
    TextBuffer<64> path;
    path.text("/sys/devices/system/node/node").number(node).text("/meminfo");
    const std::string_view text = read_file(path.c_str());
    if (!text.empty()) {
      line.text(separator);
      write_node(line, node, text);
      separator = ",";
    }
  }
  line.text("]");
}

/// Opens the object: the step, and the fields that every step has.
void write_state(JsonLine& line, std::string_view step, unsigned generation) {
  line.text(R"({"step":)").quoted(step);
  line.text(R"(,"generation":)").number(generation).text(",");
  write_uptime(line);
  write_release(line);
  line.text(R"(,"ram_bytes":)").number(read_system_ram());
  write_meminfo(line);
  write_vmstat(line);
  write_nodes(line);
}

/// TSC ticks of this run as nanoseconds.
class TickScale {
 public:
  explicit TickScale(const TouchResult& result)
      : ns_per_tick_{result.elapsed_ticks == 0 ? 0.0
                                               : static_cast<double>(result.elapsed_ns) /
                                                     static_cast<double>(result.elapsed_ticks)} {}
  [[nodiscard]] std::uint64_t ns(std::uint64_t ticks) const {
    return static_cast<std::uint64_t>(static_cast<double>(ticks) * ns_per_tick_);
  }

 private:
  double ns_per_tick_;
};

void write_first_touch(JsonLine& line, const TouchResult& result) {
  const TickScale scale{result};
  const LatencyHistogram& latency = result.latency;
  line.text(R"(,"first_touch_ns":{"count":)").number(latency.count());
  line.text(R"(,"p50":)").number(scale.ns(latency.quantile(5'000)));
  line.text(R"(,"p99":)").number(scale.ns(latency.quantile(9'900)));
  line.text(R"(,"p999":)").number(scale.ns(latency.quantile(9'990)));
  line.text(R"(,"p9999":)").number(scale.ns(latency.quantile(9'999)));
  line.text(R"(,"max":)").number(scale.ns(latency.max()));
  line.text(R"(,"histogram":[)");
  std::string_view separator;
  for (std::size_t bucket = 0; bucket < LatencyHistogram::kBuckets; ++bucket) {
    if (latency.count_in(bucket) != 0) {
      line.text(separator).text("[");
      line.number(scale.ns(LatencyHistogram::upper_bound(bucket)));
      line.text(",").number(latency.count_in(bucket)).text("]");
      separator = ",";
    }
  }
  line.text("]}");
}

}  // namespace

void write_up(JsonLine& line, unsigned generation) {
  write_state(line, "up", generation);
  line.text("}");
}

void write_work(JsonLine& line, unsigned generation, const TouchResult& result) {
  write_state(line, "work", generation);
  line.text(R"(,"touched_bytes":)").number(result.touched_bytes);
  line.text(R"(,"wrong_pages":)").number(result.wrong_pages);
  line.text(R"(,"touch_ns":)").number(result.elapsed_ns);
  line.text(R"(,"stopped":)").quoted(result.stopped);
  write_first_touch(line, result);
  line.text("}");
}

void write_kexec(JsonLine& line, unsigned generation) {
  write_state(line, "kexec", generation);
  line.text("}");
}

}  // namespace accede::init
