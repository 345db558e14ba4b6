// What the kernel tells about itself in /proc and /sys.
#pragma once

#include "accede/base/text_buffer.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace accede::init {

/// The figures of /proc/meminfo that the workload watches, in bytes.
struct MemoryState {
  std::uint64_t total = 0;
  std::uint64_t available = 0;
  std::optional<std::uint64_t> unaccepted;  ///< nothing: the kernel does not know such memory
};

/// What the kernel command line asks of this program.
struct Request {
  enum class Exit { kPowerOff, kReboot, kHang, kPanic };

  std::uint64_t touch_bytes = 0;
  bool touch_all = false;
  Exit exit = Exit::kPowerOff;
  bool kexec = false;       ///< start this kernel once more
  unsigned generation = 1;  ///< how many kernels have run since power-on, this one included
};

/// The text of a small file, up to `kMaxFile` bytes; empty when it cannot be read. The text lives
/// until the next call.
inline constexpr int kMaxFile = 64 * 1024;
[[nodiscard]] std::string_view read_file(const char* path);

/// Takes the first line off `text`.
[[nodiscard]] std::string_view take_line(std::string_view& text);

/// Takes the first word off `text`, and the blanks before it; empty when there is none.
[[nodiscard]] std::string_view take_word(std::string_view& text);

/// `Name:   123 kB` as name and bytes; nothing for a line of another form (counts, blank lines).
struct Figure {
  std::string_view name;
  std::uint64_t bytes;
};
[[nodiscard]] std::optional<Figure> parse_figure(std::string_view line);

[[nodiscard]] MemoryState read_memory_state();

/// Bytes of RAM that the kernel manages, from the top level of /proc/iomem.
[[nodiscard]] std::uint64_t read_system_ram();

/// Reads `accede.*` from /proc/cmdline; the last of several wins. What it does not understand is
/// left out and named by the result of `unknown_request`.
[[nodiscard]] Request parse_request(std::string_view command_line);

/// The first `accede.` word of `command_line` that `parse_request` does not understand; or empty.
[[nodiscard]] std::string_view unknown_request(std::string_view command_line);

/// x86 Linux keeps 2048 bytes of command line, the zero at the end included, and its loader takes
/// one byte less.
inline constexpr std::size_t kMaxCommandLine = 2046;
using CommandLine = TextBuffer<kMaxCommandLine>;

/// The command line for the next kernel: `current` as /proc/cmdline shows it, without the words
/// accede.kexec=... and accede.generation=..., and with accede.generation=`generation`. What does
/// not fit is dropped (`CommandLine::overflowed`).
void write_next_command_line(CommandLine& next, std::string_view current, unsigned generation);

}  // namespace accede::init
