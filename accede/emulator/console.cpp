#include "accede/emulator/console.hpp"

#include "accede/emulator/cpu.hpp"

namespace accede::emulator {

using namespace std::string_view_literals;
namespace {

constexpr std::uint16_t kSerialData = 0x3F8;
constexpr std::uint16_t kSerialLineStatus = 0x3FD;
constexpr std::uint8_t kTransmitterEmpty = 0x20;

void put(char c) {
  // Bounded: a machine without a serial port reads as all ones, one with a stuck port loses text.
  for (unsigned tries = 0; tries < 100'000; ++tries) {
    if ((cpu::in8(kSerialLineStatus) & kTransmitterEmpty) != 0) {
      break;
    }
  }
  cpu::out8(kSerialData, static_cast<std::uint8_t>(c));
}

void put(std::string_view text) {
  for (const char c : text) {
    put(c);
  }
}

/// Text that a guest may have written: nothing but printable characters reaches a terminal.
void put_untrusted(std::string_view text) {
  for (const char c : text) {
    put(c >= 0x20 && c < 0x7F ? c : '?');
  }
}

void put_hex(std::uint64_t value) {
  put("0x"sv);
  for (int shift = 60; shift >= 0; shift -= 4) {
    put("0123456789abcdef"[value >> shift & 15]);
  }
}

}  // namespace

void write_report(JsonLine& line) {
  for (const char c : line.finish()) {
    cpu::out8(kReportPort, static_cast<std::uint8_t>(c));
  }
}

void write_serial(EventKind kind, std::uint64_t gpa, std::uint64_t rip, std::string_view message) {
  put("\r\naccede emulator: guest stopped: "sv);
  put(name(kind));
  put(", GPA "sv);
  put_hex(gpa);
  put(", RIP "sv);
  put_hex(rip);
  put("\r\naccede emulator: "sv);
  put_untrusted(message);
  put("\r\n"sv);
}

}  // namespace accede::emulator
