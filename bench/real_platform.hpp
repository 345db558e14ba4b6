// Real memory and real instructions: the testbed's TD as a platform of the benchmarks.
#pragma once

#include "accede/guest/tdx_platform.hpp"
#include "accede/testbed/testbed.hpp"
#include "bench/clock.hpp"
#include "bench/modelled_platform.hpp"

#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace accede::bench {

/// The library's TDX platform, counted. Every accept is a real TDCALL, which traps; the model
/// answers, and the kernel populates and zeroes the memory.
class RealPlatform {
 public:
  explicit RealPlatform(guest::TdxPlatform platform) : platform_{platform} {}

  [[nodiscard]] guest::PlatformResult accept(PhysRange range) {
    const std::uint64_t begin = now_ns();
    const guest::PlatformResult result = platform_.accept(range);
    counters_.add(range.size(), now_ns() - begin);
    if (on_accept) {
      on_accept(range);
    }
    return result;
  }
  [[nodiscard]] guest::PlatformResult convert(PhysRange range, guest::Visibility to) {
    return platform_.convert(range, to);
  }
  [[nodiscard]] guest::PlatformKind kind() const { return platform_.kind(); }
  [[nodiscard]] Bytes preferred_step() const { return platform_.preferred_step(); }
  [[nodiscard]] const BackingCounters& counters() const { return counters_; }

  std::function<void(PhysRange)> on_accept;  ///< set before the first accept

 private:
  guest::TdxPlatform platform_;
  BackingCounters counters_;
};
static_assert(guest::AcceptPlatform<RealPlatform>);

/// A TD of that much unaccepted memory. One at a time.
class RealVm {
 public:
  [[nodiscard]] static std::expected<std::unique_ptr<RealVm>, std::string> make(Bytes memory) {
    auto testbed = testbed::Testbed::make({.memory = memory, .ram_begin = PhysAddr{4ULL << 30}});
    if (!testbed) {
      return std::unexpected{testbed.error()};
    }
    auto platform = guest::TdxPlatform::make();
    if (!platform) {
      return std::unexpected{std::string{guest::to_string(platform.error())}};
    }
    return std::unique_ptr<RealVm>{new RealVm{std::move(*testbed), *platform}};
  }

  [[nodiscard]] RealPlatform& platform() { return platform_; }
  [[nodiscard]] PhysWindow window() const { return testbed_->window(); }
  [[nodiscard]] PhysRange range() const { return testbed_->ram(); }

 private:
  RealVm(std::unique_ptr<testbed::Testbed> testbed, guest::TdxPlatform platform)
      : testbed_{std::move(testbed)}, platform_{platform} {}

  std::unique_ptr<testbed::Testbed> testbed_;
  RealPlatform platform_;
};

}  // namespace accede::bench
