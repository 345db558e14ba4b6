// The E820 map that Linux gets, from the firmware's memory map.
#pragma once

#include "accede/abi/e820.hpp"
#include "accede/firmware/linux_boot_error.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

namespace accede::firmware {

/// E820 type of memory with a special purpose: Linux keeps its hands off it and gives it to drivers
/// (E820_TYPE_SOFT_RESERVED).
inline constexpr std::uint32_t kE820SoftReserved = 0xEFFF'FFFF;

/// How a kernel learns that memory of EFI type 15 must be accepted. E820 itself cannot say it.
enum class UnacceptedMemory : std::uint8_t {
  kUntold,       ///< not at all: such memory is left out of the map
  kToldByTable,  ///< by the unaccepted table: such memory is RAM
  kAccepted,     ///< it need not: all of it was accepted
};

struct E820Rules {
  UnacceptedMemory unaccepted = UnacceptedMemory::kUntold;
  /// Free memory with the attribute EFI_MEMORY_SP becomes kE820SoftReserved (Linux: unless
  /// efi=nosoftreserve).
  bool soft_reserve = true;
};

/// Translates a GetMemoryMap result, `stride` bytes a descriptor: reference boot flow 1.2, as
/// Linux's own stub does it, except that types of which neither UEFI nor Linux knows anything
/// become reserved and not a hole, where Linux could place devices.
///
/// The result lies at the begin of `storage`, is sorted, and neighbours of one type that touch are
/// one entry. `storage` needs one entry for each descriptor. The map is not trusted: any order is
/// fine; descriptors of one type may overlap.
/// Errors: kBadStride, kBadDescriptor, kOverlap, kE820Storage, kNoMemory.
[[nodiscard]] std::expected<std::span<abi::e820::Entry>, LinuxBootError> build_e820(
    std::span<const std::byte> efi_map, std::size_t stride, E820Rules rules,
    std::span<abi::e820::Entry> storage);

}  // namespace accede::firmware
