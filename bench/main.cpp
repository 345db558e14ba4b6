// accede-bench: Google Benchmark's command line, and --check.
#include "bench/benchmarks.hpp"
#include "bench/check.hpp"
#include "bench/check_alloc.hpp"

#include <benchmark/benchmark.h>

#include <charconv>
#include <filesystem>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::string_view kHelp =
    "usage: accede-bench [--check] [--quick] [--trace=FILE] [--benchmark_OPTION...]\n"
    "\n"
    "Measures accede's guest library, each part beside its baseline.\n"
    "  --check        runs what the project promises and prints pass or FAIL for each promise;\n"
    "                 exit status 1 when one fails. Takes about five minutes; leave the machine\n"
    "                 alone meanwhile\n"
    "  --quick        everything small and once: shows that it runs, measures nothing\n"
    "  --trace=FILE   the trace that Boot/248cpus replays\n"
    "Other options are Google Benchmark's: --benchmark_filter=REGEX, --benchmark_format=json, ...\n"
    "Example: accede-bench --benchmark_filter=FirstTouch --benchmark_format=json\n";

struct Options {
  bool check = false;
  bool quick = false;
  std::string trace = ACCEDE_BOOT_TRACE;
  std::string replay;  ///< KIND:TIMES, what --check runs under callgrind
};

/// Takes our options out of the command line; what is left is Google Benchmark's.
Options take_options(std::vector<char*>& arguments) {
  Options options;
  std::erase_if(arguments, [&](const char* argument) {
    const std::string_view word{argument};
    if (word == "--check") {
      options.check = true;
    } else if (word == "--quick") {
      options.quick = true;
    } else if (word.starts_with("--trace=")) {
      options.trace = word.substr(8);
    } else if (word.starts_with("--replay=")) {
      options.replay = word.substr(9);
    } else if (word == "--help" || word == "-h") {
      std::cout << kHelp;
      std::exit(0);
    } else {
      return false;
    }
    return true;
  });
  return options;
}

int replay(std::string_view request) {
  const std::size_t colon = request.find(':');
  const std::string_view times = request.substr(colon == request.npos ? 0 : colon + 1);
  unsigned count = 0;
  const auto parsed = std::from_chars(times.data(), times.data() + times.size(), count);
  if (colon == request.npos || parsed.ptr != times.data() + times.size() ||
      !accede::bench::replay(request.substr(0, colon), count)) {
    std::cerr << "accede-bench: --replay wants plain:N or drained:N\n";
    return 2;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<char*> arguments{argv, argv + argc};
  const Options options = take_options(arguments);
  if (!options.replay.empty()) {
    return replay(options.replay);
  }
  const auto scale = options.quick ? accede::bench::Scale::quick() : accede::bench::Scale{};
  int count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) {
    std::cerr << "accede-bench: --help says what there is\n";
    return 2;
  }
  if (options.check) {
    const auto itself = std::filesystem::read_symlink("/proc/self/exe").string();
    return accede::bench::run_checks({.scale = scale, .trace = options.trace, .itself = itself}) ==
                   0
               ? 0
               : 1;
  }
  accede::bench::register_benchmarks(scale, options.trace);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
