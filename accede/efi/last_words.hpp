// Saying something after ExitBootServices, when the firmware's console is gone.
#pragma once

#include "accede/efi/firmware.hpp"

#include <string_view>

namespace accede::efi {

/// Writes to the first serial port and powers off. Made while boot services are there.
class LastWords {
 public:
  /// `tdx`: port I/O goes through the host (TDVMCALL<Instruction.IO>).
  LastWords(const Firmware& firmware, bool tdx) : firmware_{firmware}, tdx_{tdx} {}

  /// `who` and `what` on a line, then off. Precondition: ExitBootServices was
  /// called.
  [[noreturn]] void say_and_stop(std::string_view who, std::string_view what) const;

 private:
  const Firmware& firmware_;
  bool tdx_;
};

}  // namespace accede::efi
