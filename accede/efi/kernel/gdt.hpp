// Segments and the stacks that exceptions switch to.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace accede::efi::kernel {

inline constexpr std::uint16_t kCodeSelector = 8;
inline constexpr std::uint16_t kDataSelector = 16;
inline constexpr std::uint16_t kTaskSelector = 24;

/// Entries of the interrupt stack table (1-based, as gates name them). #DF, #PF and NMI get stacks
/// of their own: the stack that they interrupt may be the very thing that is broken.
enum class FaultStack : std::uint8_t { kNone = 0, kDoubleFault = 1, kPageFault = 2, kNmi = 3 };

/// The 64-bit task state segment.
struct [[gnu::packed]] TaskState {
  std::uint32_t reserved0;
  std::array<std::uint64_t, 3> rsp;
  std::uint64_t reserved1;
  std::array<std::uint64_t, 7> ist;
  std::uint64_t reserved2;
  std::uint16_t reserved3;
  std::uint16_t io_map;  ///< offset of the I/O bitmap; behind the limit: none
};
static_assert(sizeof(TaskState) == 104 && offsetof(TaskState, ist) == 36 &&
              offsetof(TaskState, io_map) == 102);

/// One CPU's GDT, TSS and fault stacks: 48 KiB and a little, meant for .bss. Must stay where it is
/// once loaded.
class Segments {
 public:
  constexpr Segments() = default;
  Segments(const Segments&) = delete;
  Segments& operator=(const Segments&) = delete;

  /// Makes them the CPU's: flat 64-bit segments, CPL 0. Precondition: interrupts are off and the
  /// object lies in memory mapped at its physical address.
  void load();

 private:
  static constexpr std::size_t kStackBytes = 16 * 1024;
  struct alignas(16) Stack {
    std::array<std::byte, kStackBytes> bytes;
  };

  std::array<Stack, 3> stacks_{};
  std::array<std::uint64_t, 5> gdt_{};
  TaskState task_{};
};

}  // namespace accede::efi::kernel
