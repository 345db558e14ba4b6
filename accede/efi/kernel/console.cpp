#include "accede/efi/kernel/console.hpp"

namespace accede::efi::kernel {
namespace {

constexpr std::uint16_t kData = 0x3F8;             ///< divisor, low byte, while kDivisorAccess
constexpr std::uint16_t kInterruptEnable = 0x3F9;  ///< divisor, high byte, while kDivisorAccess
constexpr std::uint16_t kFifoControl = 0x3FA;
constexpr std::uint16_t kLineControl = 0x3FB;
constexpr std::uint16_t kModemControl = 0x3FC;
constexpr std::uint16_t kLineStatus = 0x3FD;

constexpr std::uint8_t kFifoOnAndEmpty = 0x07;
constexpr std::uint8_t kEightBitsOneStop = 0x03;
constexpr std::uint8_t kDivisorAccess = 0x80;
constexpr std::uint8_t kDivisor115200 = 1;
constexpr std::uint8_t kDtrRtsOut2 = 0x0B;

constexpr std::uint8_t kDataReady = 0x01;
constexpr std::uint8_t kTransmitterEmpty = 0x20;
constexpr std::uint8_t kNoDevice = 0xFF;

/// What fits the transmit FIFO once it is empty: one look at the line status for 16 bytes, because
/// in a TD each access is an exit to the host.
constexpr unsigned kFifoBytes = 16;

/// The rest of a line follows its first byte within this: ten times as long as a byte takes.
constexpr std::uint64_t kBetweenBytesNs = 1'000'000;
/// How often the port is looked at: each look is an exit to the host.
constexpr std::uint64_t kPollNs = 200'000;

}  // namespace

void Console::init() const {
  ports_.out8(kInterruptEnable, 0);
  ports_.out8(kLineControl, kDivisorAccess);
  ports_.out8(kData, kDivisor115200);
  ports_.out8(kInterruptEnable, 0);
  ports_.out8(kLineControl, kEightBitsOneStop);
  ports_.out8(kFifoControl, kFifoOnAndEmpty);
  ports_.out8(kModemControl, kDtrRtsOut2);
}

bool Console::wait_for_transmitter() const {
  // A machine without a serial port reads as all ones: ready. A real FIFO drains in 1.4 ms, one
  // whose other end is a slow reader of the host takes longer; here half a second or more.
  constexpr std::uint64_t kMostTicks = 1ULL << 31;
  const std::uint64_t begin = Clock::ticks();
  while ((ports_.in8(kLineStatus) & kTransmitterEmpty) == 0) {
    if (Clock::ticks() - begin > kMostTicks) {
      return false;
    }
  }
  return true;
}

void Console::write(std::string_view text) const {
  unsigned room = 0;
  const auto put = [&](char c) {
    if (room == 0) {
      if (!wait_for_transmitter()) {
        return false;
      }
      room = kFifoBytes;
    }
    ports_.out8(kData, static_cast<std::uint8_t>(c));
    --room;
    return true;
  };
  for (const char c : text) {
    if ((c == '\n' && !put('\r')) || !put(c)) {
      return;
    }
  }
}

bool Console::has_input() const {
  const std::uint8_t status = ports_.in8(kLineStatus);
  return status != kNoDevice && (status & kDataReady) != 0;
}

bool Console::wait_for_input(std::uint64_t deadline_ns, const Clock& clock) const {
  while (!has_input()) {
    const std::uint64_t now = clock.now_ns();
    if (now >= deadline_ns) {
      return false;
    }
    const std::uint64_t left = deadline_ns - now;
    clock.spin(left < kPollNs ? left : kPollNs);
  }
  // Bounded: a host that never stops sending does not hold up the kernel.
  constexpr unsigned kMostBytes = 4096;
  for (unsigned taken = 0; taken < kMostBytes; ++taken) {
    if (!has_input()) {
      clock.spin(kBetweenBytesNs);
      if (!has_input()) {
        break;
      }
    }
    if (ports_.in8(kData) == '\n') {
      break;
    }
  }
  return true;
}

}  // namespace accede::efi::kernel
