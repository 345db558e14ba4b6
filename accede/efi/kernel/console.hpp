// The first serial port: where the kernel writes its lines, and where the host answers.
#pragma once

#include "accede/efi/kernel/clock.hpp"
#include "accede/efi/kernel/port_io.hpp"

#include <cstdint>
#include <string_view>

namespace accede::efi::kernel {

/// A 16550 at I/O port 0x3F8. Keeps no state of its own, so a fault handler may write in the middle
/// of anything; its text may then cut a line in two. Waiting for the device is bounded: on a
/// machine without a serial port, or with a stuck one, the rest of a text is lost and nothing else.
class Console {
 public:
  constexpr explicit Console(PortIo ports) : ports_{ports} {}

  /// 115200 baud, 8N1, FIFOs on and empty, no interrupts. Once, before the first use.
  void init() const;

  /// Writes `text`; a line feed becomes carriage return and line feed.
  void write(std::string_view text) const;

  /// Waits until the host has sent something, at most until `deadline_ns` on `clock`, and discards
  /// what came up to the end of the line. False when nothing came.
  bool wait_for_input(std::uint64_t deadline_ns, const Clock& clock) const;

 private:
  [[nodiscard]] bool has_input() const;
  [[nodiscard]] bool wait_for_transmitter() const;

  PortIo ports_;
};

}  // namespace accede::efi::kernel
