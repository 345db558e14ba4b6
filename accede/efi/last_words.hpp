// Saying something after ExitBootServices, when the firmware's console is gone.
#pragma once

#include "accede/efi/firmware.hpp"
#include "accede/guest/platform.hpp"

#include <string_view>

namespace accede::efi {

/// Writes to the first serial port and ends the machine. Made while boot services are there.
class LastWords {
 public:
  /// TDX: port I/O goes through the host (TDVMCALL<Instruction.IO>). SEV-SNP: the firmware's
  /// exception handler, which outlives boot services, does that; the end is a termination request
  /// (GHCB MSR protocol, general failure) and not the firmware's power off, so that the host knows.
  LastWords(const Firmware& firmware, guest::PlatformKind platform)
      : firmware_{firmware}, platform_{platform} {}

  /// `who` and `what` on a line, then off. Precondition: ExitBootServices was
  /// called.
  [[noreturn]] void say_and_stop(std::string_view who, std::string_view what) const;

 private:
  const Firmware& firmware_;
  guest::PlatformKind platform_;
};

}  // namespace accede::efi
