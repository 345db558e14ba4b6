#include "bench/tdmr_bench.hpp"

#include "bench/clock.hpp"
#include "bench/figures.hpp"
#include "bench/tdmr_hosts.hpp"

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

namespace accede::bench {

namespace {

/// For any 4096 ranges.
constexpr double kMostMilliseconds = 50;

struct TdmrCase {
  const char* name;
  FragmentedHost (*host)();
};
constexpr TdmrCase kCases[] = {
    {"at-the-limit", host_at_the_limit},
    {"infeasible", host_beyond_the_limit},
    {"infeasible-wide", wide_host_beyond_the_limit},
};

double as_double(std::uint64_t value) {
  return static_cast<double>(value);
}

/// Median milliseconds of planning, with everything that the answer holds.
double milliseconds(TdmrDesk& desk, const FragmentedHost& host, unsigned repetitions) {
  std::vector<double> times;
  for (unsigned i = 0; i < repetitions; ++i) {
    const std::uint64_t begin = now_ns();
    benchmark::DoNotOptimize(desk.plan(host));
    times.push_back(as_double(now_ns() - begin) / 1e6);
  }
  return median(times);
}

}  // namespace

void register_tdmr_benchmarks() {
  for (const TdmrCase& each : kCases) {
    const std::string name = std::string{"Tdmr/4096ranges/"} + each.name;
    benchmark::RegisterBenchmark(name.c_str(), [&each](benchmark::State& state) {
      const FragmentedHost host = each.host();
      TdmrDesk desk{host};
      host::TdmrPlan plan{};
      for (auto _ : state) {
        plan = desk.plan(host);
      }
      state.counters["ranges"] = as_double(host.memory.size());
      state.counters["tdmrs"] = as_double(plan.tdmrs.size());
      state.counters["areas"] = as_double(plan.areas);
      state.counters["least_tdmrs"] = as_double(plan.least_tdmrs);
      state.counters["given_up_bytes"] = as_double(plan.given_up_bytes.value());
    })->Unit(benchmark::kMillisecond);
  }
}

void check_tdmr(Verdicts& verdicts, unsigned repetitions) {
  for (const TdmrCase& each : kCases) {
    const FragmentedHost host = each.host();
    TdmrDesk desk{host};
    const double took = milliseconds(desk, host, repetitions);
    const host::TdmrPlan plan = desk.plan(host);
    const bool fits = plan.least_tdmrs <= abi::tdx::kMostTdmrs;
    const std::string name = text("Tdmr/4096ranges/%s", each.name);
    verdicts.at_most(text("%s: %zu ranges, %zu TDMRs, %zu areas; ms", name.c_str(),
                          host.memory.size(), plan.tdmrs.size(), plan.areas),
                     took, kMostMilliseconds);
    verdicts.judge(module_takes(host, plan), name + ": the module takes the plan");
    if (fits) {
      verdicts.judge(plan.feasible && plan.least_tdmrs >= 48 && plan.areas_at_least >= 500,
                     text("%s: needs %zu TDMRs (48) and %zu areas (500)", name.c_str(),
                          plan.least_tdmrs, plan.areas_at_least));
    } else {
      verdicts.judge(
          !plan.feasible && change_suffices(host, plan),
          text("%s: needs %zu TDMRs; without %.1f MiB in %zu ranges it has a plan", name.c_str(),
               plan.least_tdmrs, as_double(plan.given_up_bytes.value()) / (1 << 20),
               plan.given_up.size()));
    }
  }
}

}  // namespace accede::bench
