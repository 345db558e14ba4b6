// Lines of the guest's serial console: those of our init (docs/emulator.md) and the few kernel
// messages that say how the boot goes.
#pragma once

#include "accede/base/units.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace accede::cli {

/// The guest as its own kernel sees it.
struct GuestState {
  double uptime_seconds = 0;
  std::string release;
  Bytes mem_total;
  Bytes mem_free;
  Bytes mem_available;
  /// Nothing: this kernel does not know unaccepted memory.
  std::optional<Bytes> unaccepted;
  /// RAM that the kernel manages, its own image included.
  std::optional<Bytes> ram;
};

/// Durations up to and including `upper_ns` that are above those of the bucket before.
struct LatencyBucket {
  std::uint64_t upper_ns = 0;
  std::uint64_t count = 0;
};

/// First-touch latency of the workload in nanoseconds.
struct FirstTouch {
  std::uint64_t count = 0;
  std::uint64_t p50 = 0;
  std::uint64_t p99 = 0;
  std::uint64_t p999 = 0;
  std::uint64_t p9999 = 0;
  std::uint64_t max = 0;
  std::vector<LatencyBucket> histogram;
};

struct GuestUp {
  GuestState state;
};
struct GuestWork {
  GuestState state;
  Bytes touched;
  std::uint64_t wrong_pages = 0;
  double seconds = 0;
  std::string stopped;
  FirstTouch first_touch;
};
struct GuestOff {};
struct GuestError {
  std::string message;
};
/// A line of our init that cannot be read.
struct GarbledInit {};

struct KernelPanic {
  std::string message;
};
/// `Memory: 3985732K/4174332K available`: RAM that the kernel found.
struct KernelMemory {
  Bytes ram;
};
/// `Memory Encryption Features active: Intel TDX`.
struct EncryptionFeatures {
  std::string text;
};
/// The kernel starts the first program of user space.
struct InitStarted {};
struct OtherLine {};

using ConsoleLine = std::variant<OtherLine, GuestUp, GuestWork, GuestOff, GuestError, GarbledInit,
                                 KernelPanic, KernelMemory, EncryptionFeatures, InitStarted>;

[[nodiscard]] ConsoleLine parse_console_line(std::string_view line);

}  // namespace accede::cli
