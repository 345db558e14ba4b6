// Lines of the guest's serial console: those of our init and of our own kernel (docs/emulator.md)
// and the few messages of others that say how the boot goes.
#pragma once

#include "accede/base/units.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace accede::cli {

/// The guest as its own kernel sees it. What only our own kernel says is optional.
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
  std::optional<Bytes> used = std::nullopt;       ///< RAM that is not free
  std::optional<Bytes> page_info = std::nullopt;  ///< of `used`, what describes pages
  std::optional<Bytes> accepted = std::nullopt;   ///< what this kernel accepted itself so far
  std::string table = {};  ///< where it had the unaccepted table from: efi, hand-over, none
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

/// Our init runs, or our own kernel is ready. The guest waits.
struct GuestUp {
  GuestState state;
  bool own_kernel = false;
  std::uint64_t generation = 1;                           ///< 2: started by kexec
  std::optional<std::string> marked_page = std::nullopt;  ///< `kept` or `lost`; from 2 on
};
/// The workload is done. The guest waits.
struct GuestWork {
  GuestState state;
  Bytes touched;
  std::uint64_t wrong_pages = 0;
  double seconds = 0;
  std::string stopped;
  FirstTouch first_touch;
};
/// The next kernel is loaded, the jump comes next. The guest waits.
struct GuestKexec {
  GuestState state;
};
struct GuestOff {};
struct GuestError {
  std::string message;
};
/// Our own kernel gave up.
struct GuestFaultLine {
  std::string message;
};
/// A line of our init or kernel that cannot be read.
struct GarbledInit {};

struct KernelPanic {
  std::string message;
};
/// `Memory: 3985732K/4174332K available`: RAM that the kernel found.
struct KernelMemory {
  Bytes ram;
};
/// `Linux version 6.12.1 (...`.
struct KernelBanner {
  std::string release;
};
/// `Memory Encryption Features active: Intel TDX`.
struct EncryptionFeatures {
  std::string text;
};
/// The kernel starts the first program of user space.
struct InitStarted {};
/// Our loader, or our kernel before it takes over, says why it returns to the firmware.
struct Refusal {
  std::string reason;
};
struct OtherLine {};

using ConsoleLine = std::variant<OtherLine, GuestUp, GuestWork, GuestKexec, GuestOff, GuestError,
                                 GuestFaultLine, GarbledInit, KernelPanic, KernelMemory,
                                 KernelBanner, EncryptionFeatures, InitStarted, Refusal>;

/// True for a line that our init or our own kernel wrote for this command.
[[nodiscard]] bool is_guest_report(std::string_view line);

[[nodiscard]] ConsoleLine parse_console_line(std::string_view line);

}  // namespace accede::cli
