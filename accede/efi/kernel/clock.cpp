#include "accede/efi/kernel/clock.hpp"

#include "accede/emulator/cpu.hpp"

namespace accede::efi::kernel {

std::uint64_t Clock::ticks() {
  return emulator::cpu::read_tsc();
}

std::uint64_t Clock::now_ns() const {
  const std::uint64_t now = ticks();
  return now < entry_ ? 0 : ns_of(now - entry_);
}

void Clock::spin(std::uint64_t ns) const {
  const std::uint64_t begin = ticks();
  const std::uint64_t wait = ticks_of(ns) + 1;
  while (ticks() - begin < wait) {
    emulator::cpu::pause();
  }
}

}  // namespace accede::efi::kernel
