// Exceptions and interrupts. An exception is a bug of the kernel, or of whoever gave it memory: it
// ends in a report. Interrupts go to whoever asked for them.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/efi/kernel/console.hpp"
#include "accede/guest/platform.hpp"
#include "accede/guest/unaccepted_table.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace accede::efi::kernel {

/// What traps.S builds on the stack; the lowest address first.
struct TrapFrame {
  std::uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
  std::uint64_t vector;
  std::uint64_t error;  ///< 0 where the exception has none
  std::uint64_t rip, cs, rflags, rsp, ss;
};
static_assert(sizeof(TrapFrame) == 22 * 8);

inline constexpr std::size_t kExceptions = 32;

/// The interrupt descriptor table of the one CPU, and who handles what: 8 KiB, meant for .bss. Must
/// stay where it is once loaded. Not thread-safe: handlers are set with interrupts off.
class Traps {
 public:
  /// Runs with interrupts off on the interrupted stack. Acknowledges its own interrupt.
  using Handler = void (*)(void* context);

  constexpr Traps() = default;
  Traps(const Traps&) = delete;
  Traps& operator=(const Traps&) = delete;

  /// Makes this the CPU's table. Faults are reported on `console` (see also panic.hpp) with
  /// addresses relative to `image`; in a TD a #VE has information to fetch. `private_mask`: see
  /// PageTables. Preconditions: interrupts are off; Segments are loaded; memory is mapped at its
  /// physical address.
  void load(const Console& console, PhysRange image, guest::PlatformKind platform,
            std::uint64_t private_mask);

  /// What fault reports ask for the state of a page. May be null: then nobody keeps a table.
  void set_table(const guest::UnacceptedTable* table) { table_ = table; }

  /// Who takes interrupts of `vector`, 32 to 255. Without a handler they are strays.
  void set_handler(std::uint8_t vector, Handler handler, void* context);
  /// Who acknowledges strays; by default nobody.
  void set_stray_handler(Handler handler, void* context) { stray_handler_ = {handler, context}; }

  /// From traps.S.
  void handle(TrapFrame& frame);

 private:
  struct Gate {
    std::uint64_t low;
    std::uint64_t high;
  };
  struct Entry {
    Handler handler = nullptr;
    void* context = nullptr;
  };

  [[noreturn]] void fault(const TrapFrame& frame);

  alignas(16) std::array<Gate, 256> gates_{};
  std::array<Entry, 256 - kExceptions> handlers_{};
  const Console* console_ = nullptr;
  const guest::UnacceptedTable* table_ = nullptr;
  PhysRange image_;
  Entry stray_handler_;
  guest::PlatformKind platform_ = guest::PlatformKind::kNone;
  std::uint64_t private_mask_ = 0;
};

}  // namespace accede::efi::kernel
