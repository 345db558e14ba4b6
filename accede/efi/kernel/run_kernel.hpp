// What the kernel does, from its memory to its end.
#pragma once

#include "accede/base/assert.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/efi/kernel/boot_info.hpp"
#include "accede/efi/kernel/kernel_error.hpp"
#include "accede/efi/kernel/kernel_hooks.hpp"
#include "accede/efi/kernel/kernel_memory.hpp"
#include "accede/efi/kernel/kernel_report.hpp"
#include "accede/efi/kernel/next_kernel.hpp"
#include "accede/efi/kernel/options.hpp"
#include "accede/efi/kernel/workload.hpp"

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <new>
#include <optional>
#include <string_view>
#include <type_traits>

namespace accede::efi::kernel {

/// What the sequence needs of the machine.
///   write_line(line)         to the host; `line` has no line end
///   wait_for_host()          until the host answers, at most 10 s
///   ticks()                  the time stamp counter
///   ns_of(ticks)             a duration in nanoseconds
///   now_ns()                 since BootInfo::tsc_entry; does not fall
///   panic(text)              the fault line, and the end; does not return
///   break_rule(kind)         breaks it. Returns only when nothing stopped it
///   set_table(table)         what fault reports ask; it lives until the end
///   prepare_jump()           stops the timer and whatever else would go on after the jump
///   jump(next)               jump_to_kernel(); does not return
///   power_off()              does not return
///   idle()                   until the next interrupt, about a millisecond
/// Those that do not return may throw in tests.
template <class S>
concept KernelServices =
    requires(S& services, std::string_view text, std::uint64_t ticks, FaultKind kind,
             const guest::UnacceptedTable* table, const NextKernelEntry& next) {
      services.write_line(text);
      services.wait_for_host();
      { services.ticks() } -> std::same_as<std::uint64_t>;
      { services.ns_of(ticks) } -> std::same_as<std::uint64_t>;
      { services.now_ns() } -> std::same_as<std::uint64_t>;
      services.panic(text);
      services.break_rule(kind);
      services.set_table(table);
      services.prepare_jump();
      services.jump(next);
      services.power_off();
      services.idle();
    };

/// Room for all objects of a run under any policy: too much for a stack, so it goes to .bss.
struct alignas(64) RunStorage {
  static constexpr std::size_t kBytes = std::size_t{256} * 1024;
  std::array<std::byte, kBytes> bytes;
};

/// The sequence under one policy: memory, ready, work, fault on request, kexec, off.
template <guest::AcceptancePolicy Policy, KernelServices Services,
          guest::AcceptPlatform Platform = MachinePlatform, class Interrupts = CpuInterrupts>
class KernelRun {
 public:
  KernelRun(const BootInfo& boot, const Options& options, Platform& platform, Services& services,
            PhysWindow window)
      : boot_{boot},
        options_{options},
        services_{services},
        hooks_{Clock{&services}},
        memory_{platform, hooks_, window} {}
  KernelRun(const KernelRun&) = delete;
  KernelRun& operator=(const KernelRun&) = delete;

  /// Ends in one of the services that do not return.
  void run() {
    become_ready();
    if (options_.wants_work()) {
      work();
    }
    if (options_.fault) {
      services_.break_rule(*options_.fault);
      say(error_line("the rule was broken, and nothing stopped the kernel"sv));
    }
    if (options_.kexec) {
      start_again();
    }
    if (options_.exit == ExitKind::kPowerOff) {
      say(off_line());
      services_.power_off();
    }
    for (;;) {
      // What an idle kernel does: works ahead, and sleeps.
      if (const auto polled = memory_.background_poll(); !polled) {
        services_.panic(guest::to_string(polled.error().failure.kind));
      }
      services_.idle();
    }
  }

 private:
  struct Clock {
    Services* services;
    std::uint64_t operator()() const { return services->now_ns(); }
  };
  struct Ticks {
    Services* services;
    std::uint64_t operator()() const { return services->ticks(); }
  };
  using Hooks = KernelHooks<Clock, Interrupts>;
  using Memory = KernelMemory<Policy, Hooks, Platform>;

  void say(const MessageLine& line) { services_.write_line(line.view()); }
  void say_and_wait() {
    // A line that was cut is no JSON: the host shall not be left to guess.
    ACCEDE_ASSERT(!line_.overflowed());
    services_.write_line(line_.view());
    services_.wait_for_host();
  }

  [[nodiscard]] KernelState state() const {
    return {.generation = boot_.generation,
            .uptime_ns = services_.now_ns(),
            .policy = options_.policy,
            .memory = memory_.state()};
  }

  void become_ready() {
    if (const auto started = memory_.start(boot_); !started) {
      services_.panic(started.error().text().view());
    }
    services_.set_table(&memory_.table());
    // Before anything else can use the page.
    const std::optional<bool> marked = memory_.marked_page_kept();
    if (const auto released = memory_.release_marked_page(); !released) {
      services_.panic(released.error().text().view());
    }
    write_ready(line_, state(), marked);
    say_and_wait();
    if (memory_.unusable() != Bytes{0}) {
      say(error_line("memory is unaccepted, and this machine cannot accept it: left alone"sv));
    }
  }

  void work() {
    Workload workload{memory_, Ticks{&services_}};
    workload.run({.kind = options_.work, .all = options_.touch_all, .amount = options_.touch},
                 result_);
    write_work(line_, state(), result_,
               [this](std::uint64_t ticks) { return services_.ns_of(ticks); });
    say_and_wait();
    if (result_.failure) {
      // What an attack on the memory looks like: nothing may be done with it any more.
      const KernelError error{.what = "memory could not be accepted"sv,
                              .why = guest::to_string(result_.failure->failure.kind),
                              .detail = result_.failure->failure.at.value()};
      services_.panic(error.text().view());
    }
    if (!result_.good()) {
      say(error_line("the workload found an error"sv));
    }
  }

  void start_again() {
    NextKernel<Memory> next{memory_};
    const auto entry = next.prepare();
    if (!entry) {
      return say(error_line(entry.error().text().view()));
    }
    write_kexec(line_, state());
    say_and_wait();
    services_.prepare_jump();
    set_entry_time(*entry, memory_.window(), services_.ticks());
    services_.jump(*entry);
  }

  const BootInfo& boot_;
  const Options& options_;
  Services& services_;
  Hooks hooks_;
  Memory memory_;
  WorkResult result_;
  ReportLine line_;
};

/// Runs the kernel under `Policy`. `boot` was checked by nobody yet. `storage` is used by one run.
template <guest::AcceptancePolicy Policy, class Interrupts = CpuInterrupts, KernelServices Services,
          guest::AcceptPlatform Platform>
void run(const BootInfo& boot, const Options& options, Platform& platform, Services& services,
         RunStorage& storage, PhysWindow window = {}) {
  using Run = KernelRun<Policy, Services, Platform, Interrupts>;
  static_assert(sizeof(Run) <= RunStorage::kBytes && alignof(Run) <= alignof(RunStorage));
  (new (storage.bytes.data()) Run{boot, options, platform, services, window})->run();
}

/// The same under the policy that the options name.
template <class Interrupts = CpuInterrupts, KernelServices Services, guest::AcceptPlatform Platform>
void run_as_asked(const BootInfo& boot, const Options& options, Platform& platform,
                  Services& services, RunStorage& storage, PhysWindow window = {}) {
  switch (options.policy) {
    case PolicyName::kLazy:
      return run<guest::Lazy, Interrupts>(boot, options, platform, services, storage, window);
    case PolicyName::kEager:
      return run<guest::Eager, Interrupts>(boot, options, platform, services, storage, window);
    case PolicyName::kBackground:
      return run<guest::Background, Interrupts>(boot, options, platform, services, storage, window);
  }
}

}  // namespace accede::efi::kernel
