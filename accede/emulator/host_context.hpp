// The emulator's own world: address space, descriptor tables, exceptions.
#pragma once

#include "accede/base/phys_range.hpp"

#include <array>
#include <cstdint>

namespace accede::emulator {

/// RAM must end below this: the emulator's page tables are one PML4 entry of 1 GiB pages.
inline constexpr PhysAddr kHostMapEnd{512_GiB .value()};

/// One CPU's descriptor tables and the shared page tables, in memory hidden from the guest.
/// Page tables first: both must be page aligned.
struct alignas(4096) HostContext {
  std::array<std::uint64_t, 512> pml4;
  std::array<std::uint64_t, 512> pdpt;
  std::array<std::array<std::uint64_t, 2>, 32> idt;
  std::array<std::uint64_t, 3> gdt;

  /// Fills in everything: memory identity mapped up to kHostMapEnd, flat segments, all 32
  /// exceptions to world_switch.S. Precondition: lies in identity mapped memory.
  void build();

  /// Makes it the current context of this CPU. Interrupts stay disabled.
  void enter();
};

}  // namespace accede::emulator
