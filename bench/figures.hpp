// The experiments by name: what the benchmarks report and what the checks judge.
#pragma once

#include "bench/accept_bench.hpp"
#include "bench/alloc_bench.hpp"
#include "bench/arena.hpp"
#include "bench/boot_bench.hpp"
#include "bench/first_touch_bench.hpp"
#include "bench/linux_policy.hpp"
#include "bench/modelled_platform.hpp"
#include "bench/table_bench.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace accede::bench {

/// How much every experiment does.
struct Scale {
  Bytes accept = 1_GiB;                 ///< accepted in one run
  Bytes hand_out = 4_GiB;               ///< by FirstTouch
  Bytes spare = 512_MiB;                ///< more memory than FirstTouch hands out
  Bytes boot_memory = 256_GiB;          ///< of the VM of 248 CPUs
  std::size_t build_regions = 100'000;  ///< of the table of 4 PiB
  std::size_t scan_runs = 65'536;
  unsigned repetitions = 5;

  /// For a look whether everything runs; no figure of it means anything.
  [[nodiscard]] static Scale quick() {
    return {.accept = 32_MiB,
            .hand_out = 64_MiB,
            .spare = 64_MiB,
            .boot_memory = 16_GiB,
            .build_regions = 1000,
            .scan_runs = 1000,
            .repetitions = 1};
  }
};

enum class PolicyName : std::uint8_t { kLinux, kLazy, kBackground };
[[nodiscard]] constexpr std::string_view to_string(PolicyName policy) {
  switch (policy) {
    case PolicyName::kLinux:
      return "linux";
    case PolicyName::kLazy:
      return "lazy";
    case PolicyName::kBackground:
      return "background";
  }
  return "unknown";
}

/// FirstTouch under a policy.
template <class Platform>
[[nodiscard]] FirstTouchFigures first_touch_under(PolicyName policy, Platform& platform,
                                                  PhysWindow window, PhysRange range,
                                                  const FirstTouchSetup& setup) {
  const auto plain = [](auto&) {};
  switch (policy) {
    case PolicyName::kLinux:
      return first_touch<LinuxPolicy>(platform, window, range, setup, [&](LinuxPolicy& linux) {
        linux.set_watermark(LinuxPolicy::promotion_watermark(range.size()));
      });
    case PolicyName::kLazy:
      return first_touch<guest::Lazy>(platform, window, range, setup, plain);
    case PolicyName::kBackground:
      return first_touch<guest::Background>(platform, window, range, setup, plain);
  }
  std::abort();
}

/// Boot/248cpus. The baseline has the watermarks that Linux has early in boot: zero.
[[nodiscard]] inline BootFigures boot_under(PolicyName policy, const BootTrace& trace,
                                            Bytes memory) {
  const auto plain = [](auto&) {};
  return policy == PolicyName::kLinux ? boot<LinuxPolicy>(trace, memory, plain)
                                      : boot<guest::Lazy>(trace, memory, plain);
}

}  // namespace accede::bench
