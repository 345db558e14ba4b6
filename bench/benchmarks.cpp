// The experiments as Google Benchmark cases: one run each, manual time, counters beside it.
#include "bench/benchmarks.hpp"

#include "bench/attributes_bench.hpp"
#include "bench/clock.hpp"
#include "bench/convert_bench.hpp"
#include "bench/real_platform.hpp"
#include "bench/tdmr_bench.hpp"

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>

namespace accede::bench {

namespace {

double as_double(std::uint64_t value) {
  return static_cast<double>(value);
}

void report(benchmark::State& state, const AcceptFigures& figures) {
  state.SetIterationTime(figures.seconds);
  state.counters["accepted_bytes"] = as_double(figures.bytes.value());
  state.counters["used_bytes"] = as_double(figures.bytes.value());
  state.counters["platform_calls"] = as_double(figures.platform_calls);
  state.counters["accept_waits"] = as_double(figures.waits);
  state.counters["longest_step_bytes"] = as_double(figures.longest_step.value());
  state.SetBytesProcessed(static_cast<std::int64_t>(figures.bytes.value()));
}

void report(benchmark::State& state, const FirstTouchFigures& figures, double seconds) {
  state.SetIterationTime(seconds);
  state.counters["p50"] = as_double(figures.latency.p50);
  state.counters["p99"] = as_double(figures.latency.p99);
  state.counters["p9995"] = as_double(figures.latency.p9995);
  state.counters["p9999"] = as_double(figures.latency.p9999);
  state.counters["max"] = as_double(figures.latency.max);
  state.counters["allocations"] = as_double(figures.allocations);
  state.counters["accept_waits"] = as_double(figures.accept_waits);
  state.counters["accepted_bytes"] = as_double(figures.accepted.value());
  state.counters["used_bytes"] = as_double(figures.used.value());
  state.counters["platform_calls"] = as_double(figures.platform_calls);
  state.counters["longest_step_bytes"] = as_double(figures.longest_wait_step.value());
  state.counters["most_unused_bytes"] = as_double(figures.most_unused.value());
  state.counters["acceptor_cpu_seconds"] = figures.acceptor_cpu_seconds;
}

void add(const std::string& name, std::function<void(benchmark::State&)> run) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [run](benchmark::State& state) {
                                 for (auto _ : state) {
                                   run(state);
                                 }
                               })
      ->UseManualTime()
      ->Iterations(1)
      ->Unit(benchmark::kMillisecond);
}

void add_accept(const Scale& scale) {
  for (const unsigned threads : {1U, 2U}) {
    const std::string suffix = "/threads:" + std::to_string(threads);
    const auto modelled = [scale](auto experiment) {
      return [scale, experiment](benchmark::State& state) {
        const Arena arena{scale.accept};
        ModelledPlatform platform{arena.window()};
        report(state, experiment(platform, arena.range()));
      };
    };
    const auto real = [scale](auto experiment) {
      return [scale, experiment](benchmark::State& state) {
        auto vm = RealVm::make(scale.accept);
        if (!vm) {
          state.SkipWithError(vm.error().c_str());
          return;
        }
        report(state, experiment((*vm)->platform(), (*vm)->range()));
      };
    };
    const auto raw = [threads](auto& platform, PhysRange range) {
      return accept_raw(platform, range, threads);
    };
    const auto lazy = [threads](auto& platform, PhysRange range) {
      return accept_lazily(platform, range, threads);
    };
    const auto eager = [threads](auto& platform, PhysRange range) {
      return accept_eagerly(platform, range, threads);
    };
    add("Accept/Raw" + suffix, modelled(raw));
    add("Accept/Lazy" + suffix, modelled(lazy));
    add("Eager" + suffix, modelled(eager));
    add("Real/Accept/Raw" + suffix, real(raw));
    add("Real/Accept/Lazy" + suffix, real(lazy));
    add("Real/Eager" + suffix, real(eager));
  }
}

template <class Policy>
void replay(benchmark::State& state) {
  DrainedVm<Policy> vm;
  constexpr int kReplays = 20;
  const std::uint64_t begin = now_ns();
  for (int i = 0; i < kReplays; ++i) {
    vm.replay();
  }
  state.SetIterationTime(as_double(now_ns() - begin) / 1e9 / kReplays);
}

void add_first_touch(const Scale& scale) {
  for (const bool loaded : {false, true}) {
    for (const PolicyName policy :
         {PolicyName::kLinux, PolicyName::kLazy, PolicyName::kBackground}) {
      const FirstTouchSetup setup{.hand_out = scale.hand_out,
                                  .busy_thread = loaded,
                                  .empty_reserve = loaded,
                                  .idle_after = false};
      const std::string name =
          (loaded ? "FirstTouchLoaded/" : "FirstTouch/") + std::string{to_string(policy)};
      const Bytes memory = scale.hand_out + scale.spare;
      add(name, [=](benchmark::State& state) {
        const Arena arena{memory};
        ModelledPlatform platform{arena.window()};
        const std::uint64_t begin = now_ns();
        const auto figures =
            first_touch_under(policy, platform, arena.window(), arena.range(), setup);
        report(state, figures, as_double(now_ns() - begin) / 1e9);
      });
      add("Real/" + name, [=](benchmark::State& state) {
        auto vm = RealVm::make(memory);
        if (!vm) {
          state.SkipWithError(vm.error().c_str());
          return;
        }
        const std::uint64_t begin = now_ns();
        const auto figures =
            first_touch_under(policy, (*vm)->platform(), (*vm)->window(), (*vm)->range(), setup);
        report(state, figures, as_double(now_ns() - begin) / 1e9);
      });
    }
  }
}

void add_boot(const Scale& scale, const std::string& trace_path) {
  for (const PolicyName policy : {PolicyName::kLinux, PolicyName::kLazy}) {
    add("Boot/248cpus/" + std::string{to_string(policy)}, [=](benchmark::State& state) {
      const auto trace = read_boot_trace(trace_path);
      if (!trace) {
        state.SkipWithError(trace.error().c_str());
        return;
      }
      const BootFigures figures = boot_under(policy, *trace, scale.boot_memory);
      state.SetIterationTime(figures.seconds);
      state.counters["accepted_bytes"] = as_double(figures.accepted.value());
      state.counters["used_bytes"] = as_double(figures.used().value());
      state.counters["platform_calls"] = as_double(figures.platform_calls);
      state.counters["accept_waits"] = as_double(figures.accept_waits);
      state.counters["longest_step_bytes"] = as_double(figures.longest_step.value());
    });
  }
}

void add_table(const Scale& scale) {
  add("Table/Fill4PiB", [](benchmark::State& state) {
    LargeTable table;
    state.SetIterationTime(table.fill(1));
  });
  add("Table/Build4PiB", [scale](benchmark::State& state) {
    LargeTable table;
    auto regions = LargeTable::regions(scale.build_regions);
    const std::uint64_t begin = now_ns();
    benchmark::DoNotOptimize(table.build(regions));
    state.SetIterationTime(as_double(now_ns() - begin) / 1e9);
  });
  add("Table/Scan4PiB", [scale](benchmark::State& state) {
    LargeTable table;
    auto regions = LargeTable::regions(scale.scan_runs);
    const auto built = table.build(regions);
    const std::uint64_t begin = now_ns();
    const Runs runs = scan(*built);
    state.SetIterationTime(as_double(now_ns() - begin) / 1e9);
    state.counters["runs"] = as_double(runs.count);
    state.SetBytesProcessed(256 << 20);
  });
  add("Table/Contains1TiB", [](benchmark::State& state) {
    const ContainsFigures figures = contains_figures();
    state.SetIterationTime(figures.nanoseconds / 1e9);
    state.counters["wrong"] = as_double(figures.wrong);
  });
}

void add_attributes(const Scale& scale) {
  const std::uint64_t operations = scale.repetitions == 1 ? 10'000 : 2'000'000;
  add("Attributes/random", [operations](benchmark::State& state) {
    const AttributesFigures figures = attributes_random(100'000, operations);
    state.SetIterationTime(figures.lookup_ns / 1e9);
    state.counters["wrong"] = as_double(figures.wrong);
    state.counters["runs"] = as_double(figures.runs);
    state.counters["lookup_ns"] = figures.lookup_ns;
    state.counters["change_ns"] = figures.change_ns;
    state.counters["bytes_per_range"] = figures.bytes_per_range;
    state.counters["uniform_bytes"] = as_double(figures.uniform_bytes);
  });
}

void add_convert(const Scale& scale) {
  const unsigned pairs = scale.repetitions == 1 ? 2 : 200;
  const std::uint64_t pages = scale.repetitions == 1 ? 8192 : 262144;
  const auto pairs_of = [pairs](bool list) {
    return [pairs, list](benchmark::State& state) {
      const ConvertFigures figures = convert_pairs(pairs, {});
      state.SetIterationTime(median(list ? figures.list_us : figures.each_us) / 1e6);
      state.counters["backing_calls"] = as_double(list ? figures.list_calls : figures.each_calls);
      state.counters["wrong"] = as_double(figures.wrong);
    };
  };
  add("Convert/4k-each", pairs_of(false));
  add("Convert/list253", pairs_of(true));
  add("Convert/range1GiB", [pages](benchmark::State& state) {
    const ConvertRangeFigures figures = convert_range(pages);
    state.SetIterationTime(figures.seconds);
    state.counters["backing_calls"] = as_double(figures.calls);
    state.counters["exits"] = as_double(figures.exits);
    state.counters["longest_exit_ms"] = figures.longest_exit_ms;
    state.counters["one_call_seconds"] = figures.one_call_seconds;
  });
}

}  // namespace

ContainsFigures contains_figures() {
  LargeTable table;
  auto regions = LargeTable::regions(1);
  const auto built = table.build(regions);
  CountedPlatform platform;
  const guest::Acceptor<CountedPlatform> acceptor{*built, platform};
  const auto places = contains_places(*built);
  ContainsFigures figures{.places = places.size()};
  for (const ContainsPlace& place : places) {
    const bool answer = acceptor.contains_unaccepted(place.range);
    figures.wrong += answer != naive_contains(*built, place.range) || answer != place.expected;
  }
  constexpr unsigned kRounds = 20;
  std::uint64_t yes = 0;
  const std::uint64_t begin = now_ns();
  for (unsigned i = 0; i < kRounds; ++i) {
    for (const ContainsPlace& place : places) {
      yes += acceptor.contains_unaccepted(place.range);
    }
  }
  figures.nanoseconds = as_double(now_ns() - begin) / kRounds / as_double(places.size());
  benchmark::DoNotOptimize(yes);
  return figures;
}

void register_benchmarks(const Scale& scale, const std::string& trace) {
  add_accept(scale);
  add("Alloc/Plain", [](benchmark::State& state) { replay<guest::NoAcceptance>(state); });
  add("Alloc/LazyDrained", [](benchmark::State& state) { replay<guest::Lazy>(state); });
  add_first_touch(scale);
  add_boot(scale, trace);
  add_table(scale);
  register_tdmr_benchmarks();
  add_attributes(scale);
  add_convert(scale);
}

}  // namespace accede::bench
