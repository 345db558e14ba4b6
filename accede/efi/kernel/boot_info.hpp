// How our kernel is entered: by its EFI part, and by the kernel before it (kexec). Both fill the
// same structure, so the kernel proper has one way in.
#pragma once

#include <cstddef>
#include <cstdint>

namespace accede::efi::kernel {

/// Lies in accepted memory that nobody overwrites before the kernel has read it. Addresses are
/// physical; the caller's page tables map all RAM at its physical address. Everything that `info`
/// covers (this structure, the memory map, the command line) belongs to the kernel.
struct BootInfo {
  static constexpr std::uint64_t kMagic = 0x4F464E49'54424341;  // "ACBTINFO" in memory order
  static constexpr std::uint32_t kVersion = 1;

  struct Range {
    std::uint64_t begin;
    std::uint64_t end;  ///< exclusive
  };

  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t generation;  ///< 1: started by the firmware; one more with each kexec

  Range image;     ///< the running kernel with its .bss
  Range pristine;  ///< the image file (FlatImageHeader), to start the next kernel from
  Range info;

  std::uint64_t efi_map;  ///< descriptors of the last GetMemoryMap
  std::uint64_t efi_map_bytes;
  std::uint64_t efi_stride;
  std::uint64_t efi_system_table;  ///< lies in runtime services memory, survives a kexec
  std::uint64_t efi_entries;       ///< EFI configuration table; 0 after a kexec
  std::uint64_t efi_entry_count;   ///< entries of 24 bytes
  std::uint64_t hand_over;         ///< guest::HandOver object; 0 when the firmware started us

  std::uint64_t command_line;  ///< ASCII, not terminated
  std::uint64_t command_line_bytes;

  std::uint64_t tsc_hz;     ///< time stamp counter ticks a second
  std::uint64_t tsc_entry;  ///< counter when the machine became the kernel's

  /// A page that the kernel before us asked us to find as it left it; 0: none.
  std::uint64_t marked_page;
  std::uint64_t marked_value;  ///< in each of its 512 words
};
static_assert(sizeof(BootInfo) == 168);

/// The entry point of the flat image: interrupts off, identity mapping, any stack.
using EntryFn = void (*)(const BootInfo*);

}  // namespace accede::efi::kernel
