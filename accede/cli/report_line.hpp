// Lines of the report port (docs/emulator.md): what the launcher and the emulator say.
#pragma once

#include "accede/base/units.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

namespace accede::cli {

struct LauncherStarted {
  std::string version;
};
/// What the firmware's plan is.
struct FirmwarePlan {
  Bytes accepts;  ///< before the loader starts
};
struct Takeover {
  PhysAddr report_gpa;
  Bytes report_size;
};
struct KernelStarted {};
struct BootServicesExited {};
struct KernelReturned {
  std::uint64_t status = 0;  ///< EFI_STATUS
};
struct LauncherError {
  std::string message;
};
/// The guest broke a rule; the fields as the emulator words them, `gpa` and `rip` in hexadecimal.
struct Fault {
  std::string kind;
  std::string gpa;
  std::string rip;
  std::string state;
  std::string message;
};
struct GuestPanic {
  std::string message;
};
/// A line that means nothing here: not JSON, no known event, or fields of the wrong type.
struct UnknownLine {};

using ReportLine =
    std::variant<UnknownLine, LauncherStarted, FirmwarePlan, Takeover, KernelStarted,
                 BootServicesExited, KernelReturned, LauncherError, Fault, GuestPanic>;

[[nodiscard]] ReportLine parse_report_line(std::string_view line);

}  // namespace accede::cli
