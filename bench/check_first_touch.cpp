#include "bench/check_first_touch.hpp"

#include "bench/real_platform.hpp"

#include <algorithm>
#include <vector>

namespace accede::bench {

namespace {

double as_double(std::uint64_t value) {
  return static_cast<double>(value);
}
double mib(Bytes bytes) {
  return as_double(bytes.value()) / (1 << 20);
}

FirstTouchFigures run(const Arena& arena, PolicyName policy, const FirstTouchSetup& setup) {
  ModelledPlatform platform{arena.window()};
  return first_touch_under(policy, platform, arena.window(), arena.range(), setup);
}

/// Figures of the repetitions of one policy, and medians over them.
class Samples {
 public:
  void add(const FirstTouchFigures& figures) { figures_.push_back(figures); }
  template <class Get>
  [[nodiscard]] double median_of(Get get) const {
    std::vector<double> values;
    for (const FirstTouchFigures& figures : figures_) {
      values.push_back(get(figures));
    }
    return median(values);
  }
  template <class Get>
  [[nodiscard]] double most_of(Get get) const {
    double most = 0;
    for (const FirstTouchFigures& figures : figures_) {
      most = std::max(most, get(figures));
    }
    return most;
  }
  [[nodiscard]] std::string line(PolicyName policy) const {
    const auto of = [&](auto member) {
      return median_of([&](const FirstTouchFigures& f) { return as_double(f.latency.*member); });
    };
    return text(
        "%-10s p50 %.0f ns, p99 %.0f, p99.95 %.0f, p99.99 %.0f, max %.0f, waits %.0f of %.0f",
        std::string{to_string(policy)}.c_str(), of(&Percentiles::p50), of(&Percentiles::p99),
        of(&Percentiles::p9995), of(&Percentiles::p9999), of(&Percentiles::max), median_of(waits),
        median_of(allocations));
  }

  static double waits(const FirstTouchFigures& f) { return as_double(f.accept_waits); }
  static double allocations(const FirstTouchFigures& f) { return as_double(f.allocations); }
  static double p9995(const FirstTouchFigures& f) { return as_double(f.latency.p9995); }
  static double p9999(const FirstTouchFigures& f) { return as_double(f.latency.p9999); }

 private:
  std::vector<FirstTouchFigures> figures_;
};

void note_real(Verdicts& verdicts, const Scale& scale, const FirstTouchSetup& setup) {
  for (const PolicyName policy : {PolicyName::kLinux, PolicyName::kLazy, PolicyName::kBackground}) {
    auto vm = RealVm::make(scale.hand_out + scale.spare);
    if (!vm) {
      verdicts.note("FirstTouch, real memory: " + vm.error());
      return;
    }
    Samples samples;
    samples.add(
        first_touch_under(policy, (*vm)->platform(), (*vm)->window(), (*vm)->range(), setup));
    verdicts.note("real memory: " + samples.line(policy));
  }
}

/// Timing is judged by the median, memory by the worst of all repetitions.
void judge_background(Verdicts& verdicts, const Samples& background) {
  verdicts.at_most("FirstTouch/background: waits in 100,000 allocations",
                   background.median_of([](const FirstTouchFigures& f) {
                     return as_double(f.accept_waits) * 1e5 / as_double(f.allocations);
                   }),
                   1);
  verdicts.at_most(
      "FirstTouch/background: accepted but unused at any accept, MiB",
      background.most_of([](const FirstTouchFigures& f) { return mib(f.most_unused); }), 256);
  verdicts.at_most(
      "FirstTouch/background: accepted but unused after 1 s idle, MiB",
      background.most_of([](const FirstTouchFigures& f) { return mib(f.idle_unused); }), 32);
  verdicts.at_most("FirstTouch/background: acceptor CPU / charged cost",
                   background.median_of([](const FirstTouchFigures& f) {
                     return f.acceptor_cpu_seconds / f.acceptor_charged_seconds;
                   }),
                   1.1);
}

}  // namespace

void check_first_touch(Verdicts& verdicts, const Scale& scale) {
  const Arena arena{scale.hand_out + scale.spare};
  FirstTouchSetup setup{.hand_out = scale.hand_out, .idle_after = false};
  Samples linux_;
  Samples lazy;
  Samples background;
  Repetitions repetitions{scale.repetitions};
  while (repetitions.more()) {
    const FirstTouchFigures first = run(arena, PolicyName::kLinux, setup);
    const FirstTouchFigures second = run(arena, PolicyName::kLazy, setup);
    setup.idle_after = true;
    const FirstTouchFigures third = run(arena, PolicyName::kBackground, setup);
    setup.idle_after = false;
    const FirstTouchFigures control = run(arena, PolicyName::kLinux, setup);
    if (repetitions.accept(Samples::p9995(control) / Samples::p9995(first))) {
      linux_.add(first);
      lazy.add(second);
      background.add(third);
    }
  }
  verdicts.judge(repetitions.complete(), "FirstTouch: " + repetitions.summary());
  if (!repetitions.complete()) {
    return;
  }
  verdicts.note(linux_.line(PolicyName::kLinux));
  verdicts.note(lazy.line(PolicyName::kLazy));
  verdicts.note(background.line(PolicyName::kBackground));
  judge_background(verdicts, background);
  const double baseline = linux_.median_of(Samples::p9995);
  verdicts.at_most("FirstTouch: p99.95 of background / linux",
                   background.median_of(Samples::p9995) / baseline, 0.01);
  verdicts.at_most("FirstTouch: p99.95 of lazy / linux", lazy.median_of(Samples::p9995) / baseline,
                   0.55);
  const auto longest = [](const FirstTouchFigures& f) { return mib(f.longest_wait_step); };
  verdicts.at_most("FirstTouch/lazy: longest step, MiB (2, and 4 the first time)",
                   lazy.most_of(longest), 4);
  verdicts.note(text("FirstTouch/linux: longest step %.0f MiB", linux_.most_of(longest)));
  note_real(verdicts, scale, setup);
}

void check_first_touch_loaded(Verdicts& verdicts, const Scale& scale) {
  const Arena arena{scale.hand_out + scale.spare};
  const FirstTouchSetup setup{
      .hand_out = scale.hand_out, .busy_thread = true, .empty_reserve = true, .idle_after = false};
  Samples linux_;
  Samples background;
  Repetitions repetitions{scale.repetitions};
  while (repetitions.more()) {
    const FirstTouchFigures first = run(arena, PolicyName::kLinux, setup);
    const FirstTouchFigures second = run(arena, PolicyName::kBackground, setup);
    const FirstTouchFigures control = run(arena, PolicyName::kLinux, setup);
    if (repetitions.accept(Samples::p9999(control) / Samples::p9999(first))) {
      linux_.add(first);
      background.add(second);
    }
  }
  verdicts.judge(repetitions.complete(), "FirstTouchLoaded: " + repetitions.summary());
  if (!repetitions.complete()) {
    return;
  }
  verdicts.note(linux_.line(PolicyName::kLinux));
  verdicts.note(background.line(PolicyName::kBackground));
  verdicts.at_most("FirstTouchLoaded: p99.99 of background / linux",
                   background.median_of(Samples::p9999) / linux_.median_of(Samples::p9999), 1);
}

}  // namespace accede::bench
