// The emulator's two ways to be read while nothing else works: report port and serial port.
#pragma once

#include "accede/emulator/reporter.hpp"

namespace accede::emulator {

/// Writes the finished line to the report port.
void write_report(JsonLine& line);

/// Writes one readable line to the first serial port (polled), for whoever runs the launcher
/// without the `accede` command.
void write_serial(EventKind kind, std::uint64_t gpa, std::uint64_t rip, std::string_view message);

}  // namespace accede::emulator
