#include "bench/check.hpp"

#include "bench/attributes_bench.hpp"
#include "bench/benchmarks.hpp"
#include "bench/check_alloc.hpp"
#include "bench/check_first_touch.hpp"
#include "bench/convert_bench.hpp"
#include "bench/real_platform.hpp"
#include "bench/tdmr_bench.hpp"
#include "bench/verdict.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

namespace accede::bench {

namespace {

double mib(Bytes bytes) {
  return static_cast<double>(bytes.value()) / (1 << 20);
}

bool all_zero(PhysWindow window, PhysRange range) {
  const std::span words{window.pointer<const std::uint64_t>(range.begin()),
                        range.size().value() / 8};
  std::uint64_t any = 0;
  for (const std::uint64_t word : words) {
    any |= word;
  }
  return any == 0;
}

/// What one accept run must be besides fast.
struct Honest {
  bool zero = true;
  bool same_calls = true;
  std::vector<double> charge_off;  ///< charged / (bytes / 1.5 GB/s) - 1, by amount, of each run
};

template <class Run>
AcceptFigures modelled(const Arena& arena, Honest& honest, Run run) {
  std::memset(arena.window().pointer<void>(arena.range().begin()), 0xA5,
              arena.range().size().value());
  ModelledPlatform platform{arena.window()};
  const AcceptFigures figures = run(platform, arena.range());
  honest.zero = honest.zero && all_zero(arena.window(), arena.range());
  honest.same_calls =
      honest.same_calls && platform.counters().calls() == arena.range().size() / 2_MiB;
  const double due =
      static_cast<double>(platform.counters().bytes().value()) / kModelledBytesPerSecond * 1e9;
  honest.charge_off.push_back(
      std::abs(static_cast<double>(platform.counters().charged_ns()) / due - 1));
  return figures;
}

void check_accept(Verdicts& verdicts, const Scale& scale) {
  const Arena arena{scale.accept};
  Honest honest;
  const auto raw = [&](unsigned threads) {
    return modelled(arena, honest,
                    [&](auto& platform, PhysRange range) {
                      return accept_raw(platform, range, threads);
                    })
        .seconds;
  };
  const auto lazy = [&](unsigned threads) {
    return modelled(arena, honest,
                    [&](auto& platform, PhysRange range) {
                      return accept_lazily(platform, range, threads);
                    })
        .seconds;
  };
  Repetitions repetitions{scale.repetitions};
  std::vector<double> one;
  std::vector<double> two;
  std::vector<double> speedup;
  while (repetitions.more()) {
    const double raw_1 = raw(1);
    const double lazy_1 = lazy(1);
    const double raw_2 = raw(2);
    const double lazy_2 = lazy(2);
    if (repetitions.accept(raw(1) / raw_1) && raw_2 > 0) {
      one.push_back(raw_1 / lazy_1);
      two.push_back(raw_2 / lazy_2);
      speedup.push_back(lazy_1 / lazy_2);
    }
  }
  verdicts.judge(repetitions.complete(), "accept: " + repetitions.summary());
  if (one.empty()) {
    return;
  }
  verdicts.at_least("accept, one thread, library / raw throughput", median(one), 0.97);
  verdicts.at_least("accept, two threads, library / raw throughput", median(two), 0.95);
  verdicts.at_least("accept, library, two threads / one", median(speedup), 1.8);
  verdicts.judge(honest.same_calls, "accept: raw and library make the same backing calls");
  verdicts.judge(honest.zero, "accept: every page is read back as zero");
  verdicts.at_most("accept: charged time differs from bytes / 1.5 GB/s by (share)",
                   median(honest.charge_off), 0.01);
  verdicts.note(text("charged time differs by %.4f in the worst of %zu runs",
                     *std::max_element(honest.charge_off.begin(), honest.charge_off.end()),
                     honest.charge_off.size()));
}

void check_real_accept(Verdicts& verdicts, const Scale& scale) {
  std::vector<double> ratios[2];
  std::vector<double> seconds[2];
  bool zero = true;
  for (unsigned i = 0; i < scale.repetitions; ++i) {
    for (const unsigned threads : {1U, 2U}) {
      double took[2] = {};
      for (const bool library : {false, true}) {
        auto vm = RealVm::make(scale.accept);
        if (!vm) {
          verdicts.judge(false, "accept, real memory: " + vm.error());
          return;
        }
        const PhysRange range = (*vm)->range();
        took[library] = library ? accept_lazily((*vm)->platform(), range, threads).seconds
                                : accept_raw((*vm)->platform(), range, threads).seconds;
        zero = zero && all_zero((*vm)->window(), range);
      }
      ratios[threads - 1].push_back(took[0] / took[1]);
      seconds[threads - 1].push_back(took[1]);
    }
  }
  verdicts.at_least("accept, real memory, one thread, library / raw", median(ratios[0]), 0.95);
  verdicts.at_least("accept, real memory, two threads, library / raw", median(ratios[1]), 0.8);
  verdicts.judge(zero, "accept, real memory: every page is read back as zero");
  verdicts.note(text("real memory: %.2f GB/s by one thread, %.2f GB/s by two",
                     static_cast<double>(scale.accept.value()) / median(seconds[0]) / 1e9,
                     static_cast<double>(scale.accept.value()) / median(seconds[1]) / 1e9));
}

void check_boot(Verdicts& verdicts, const CheckSettings& settings) {
  const auto trace = read_boot_trace(settings.trace);
  if (!trace) {
    verdicts.judge(false, "Boot/248cpus: " + trace.error());
    return;
  }
  const BootFigures lazy = boot_under(PolicyName::kLazy, *trace, settings.scale.boot_memory);
  const BootFigures linux_ = boot_under(PolicyName::kLinux, *trace, settings.scale.boot_memory);
  verdicts.judge(trace->cpus == 248, text("Boot: the trace has %u CPUs", trace->cpus));
  verdicts.at_most(
      text("Boot/248cpus: lazy accepts %.0f MiB for %.0f MiB in use (%.0f handed out, "
           "%.0f bookkeeping); more, in MiB",
           mib(lazy.accepted), mib(lazy.used()), mib(lazy.handed_out), mib(lazy.bookkeeping)),
      mib(lazy.accepted) - mib(lazy.used()), 64);
  verdicts.at_least(
      text("Boot/248cpus: linux accepts %.0f MiB, times what lazy does", mib(linux_.accepted)),
      mib(linux_.accepted) / mib(lazy.accepted), 4);
}

void check_table(Verdicts& verdicts, const Scale& scale) {
  LargeTable table;
  std::vector<double> builds;
  std::vector<double> scans;
  bool right = true;
  for (unsigned i = 0; i < scale.repetitions; ++i) {
    const double filled = table.fill(static_cast<int>(i) + 1);
    auto regions = LargeTable::regions(scale.build_regions);
    const std::uint64_t begin = now_ns();
    const auto built = table.build(regions);
    builds.push_back(static_cast<double>(now_ns() - begin) / 1e9 / filled);
    right = right && built->invariants();
    auto runs_of = LargeTable::regions(scale.scan_runs);
    const auto scanned = table.build(runs_of);
    const std::uint64_t scan_begin = now_ns();
    const Runs runs = scan(*scanned);
    scans.push_back(268'435'456.0 / static_cast<double>(now_ns() - scan_begin));
    right = right && (i != 0 || runs == naive_scan(*scanned)) && runs.count == scale.scan_runs;
  }
  verdicts.judge(table.layout.bitmap == 256_MiB,
                 text("Table: 4 PiB have a bitmap of %.0f MiB (256)", mib(table.layout.bitmap)));
  verdicts.at_most("Table: private index, in MiB",
                   static_cast<double>(table.layout.index) * 8 / (1 << 20), 1);
  verdicts.at_most(text("Table/Build4PiB: %zu unsorted regions, times filling the same memory",
                        scale.build_regions),
                   median(builds), 3);
  verdicts.at_least(text("Table/Scan4PiB: %zu runs, GB of bitmap a second", scale.scan_runs),
                    median(scans), 10);
  verdicts.judge(right, "Table: number and XOR of the runs equal a naive scan's");
  std::vector<double> contains;
  std::uint64_t wrong = 0;
  for (unsigned i = 0; i < scale.repetitions; ++i) {
    const ContainsFigures figures = contains_figures();
    contains.push_back(figures.nanoseconds);
    wrong += figures.wrong;
  }
  verdicts.at_most("Table/Contains1TiB: ns", median(contains), 200);
  verdicts.judge(wrong == 0, "Table/Contains1TiB: every answer equals a naive scan's");
}

}  // namespace

unsigned run_checks(const CheckSettings& settings) {
  Verdicts verdicts;
  check_table(verdicts, settings.scale);
  check_tdmr(verdicts, settings.scale.repetitions);
  check_attributes(verdicts, settings.scale.repetitions == 1);
  check_convert(verdicts, settings.scale.repetitions == 1);
  check_boot(verdicts, settings);
  check_alloc(verdicts, settings);
  check_accept(verdicts, settings.scale);
  check_real_accept(verdicts, settings.scale);
  check_first_touch(verdicts, settings.scale);
  check_first_touch_loaded(verdicts, settings.scale);
  std::printf("%s\n", verdicts.failures() == 0
                          ? "all checks passed"
                          : text("%u checks FAILED", verdicts.failures()).c_str());
  return verdicts.failures();
}

}  // namespace accede::bench
