// The zero page of the Linux boot protocol, filled by a loader that left boot services itself.
#pragma once

#include "accede/abi/linux_boot.hpp"
#include "accede/firmware/linux_boot_error.hpp"
#include "accede/firmware/linux_setup.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

namespace accede::firmware {

/// Memory for a SETUP_E820_EXT node, and its physical address. Empty: the map must fit into the
/// zero page.
struct E820Extension {
  std::span<std::byte> memory;
  PhysAddr where;

  /// Bytes for a map of `entries` entries; 0 when the zero page holds them.
  [[nodiscard]] static constexpr Bytes bytes_for(std::size_t entries) {
    const std::size_t most = abi::linux_boot::kMostE820Entries;
    return Bytes{entries <= most ? 0
                                 : sizeof(abi::linux_boot::SetupData) +
                                       (entries - most) * sizeof(abi::e820::Entry)};
  }
};

/// What the kernel reaches EFI by. All of it must be accepted memory.
struct EfiHandOver {
  PhysAddr system_table;
  PhysRange memory_map;  ///< the final GetMemoryMap result
  std::size_t stride = 0;
  std::uint32_t descriptor_version = 0;
};

struct LinuxHandOver {
  PhysRange kernel;        ///< its load address, init_size bytes
  PhysRange command_line;  ///< with its final zero
  PhysRange initrd;        ///< empty: none
  EfiHandOver efi;
  PhysAddr acpi_rsdp;  ///< 0: none
  std::span<const abi::e820::Entry> e820;
  E820Extension extension;
};

/// Fills all of `params`, and the extension when the map is too long for the page.
/// Errors: kKernelMisplaced, kInitrdTooHigh, kAbove4G, kExtensionStorage; kE820Storage when the
/// EFI map is longer than the zero page can say. The contents are then unspecified.
[[nodiscard]] std::expected<void, LinuxBootError> fill_boot_params(
    abi::linux_boot::BootParams& params, const LinuxSetup& setup, const LinuxHandOver& given);

}  // namespace accede::firmware
