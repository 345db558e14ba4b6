// The DXE services: how a UEFI platform's drivers change what its memory is.
//
// Only the members that accede uses have a type. Source: PI specification 1.8 volume 2, 7.2; edk2
// (reference: boot flow 1.6).
#pragma once

#include "accede/abi/efi.hpp"

#include <cstddef>
#include <cstdint>

namespace accede::abi::efi {

/// Configuration table that leads to the services.
inline constexpr Guid kDxeServicesTable{
    0x05AD34BA, 0x6F02, 0x4214, {0x95, 0x2E, 0x4D, 0xA0, 0x39, 0x8E, 0x2B, 0xB9}};
inline constexpr std::uint64_t kDxeServicesSignature = 0x565245535F455844;  // "DXE_SERV"

/// EFI_GCD_MEMORY_TYPE.
enum class MemorySpaceType : std::uint32_t {
  kNonExistent = 0,
  kReserved = 1,
  kSystemMemory = 2,
  kMemoryMappedIo = 3,
  kPersistent = 4,
  kMoreReliable = 5,
  kUnaccepted = 6,
  kUnaccepted202211 = 7,  ///< what edk2-stable202211 called kUnaccepted
};

/// EFI_GCD_MEMORY_SPACE_DESCRIPTOR.
struct MemorySpaceDescriptor {
  std::uint64_t base;
  std::uint64_t length;
  std::uint64_t capabilities;
  std::uint64_t attributes;
  MemorySpaceType type;
  std::uint32_t padding;
  Handle image;
  Handle device;
};
static_assert(sizeof(MemorySpaceDescriptor) == 56);
static_assert(offsetof(MemorySpaceDescriptor, type) == 32);
static_assert(offsetof(MemorySpaceDescriptor, image) == 40);

/// Capabilities that the firmware sets itself (present, initialized, tested; runtime): not to be
/// passed on when memory is added. With them the cacheability bits vanish from the OS's map.
inline constexpr std::uint64_t kInternalCapabilities = 0x0700'0000'0000'0000 | (1ULL << 63);

struct DxeServices {
  TableHeader header;
  Status(ACCEDE_EFIAPI* add_memory_space)(MemorySpaceType, std::uint64_t base, std::uint64_t bytes,
                                          std::uint64_t capabilities);
  void* allocate_memory_space;
  void* free_memory_space;
  Status(ACCEDE_EFIAPI* remove_memory_space)(std::uint64_t base, std::uint64_t bytes);
  /// What lies at `base`: the largest range around it that is the same throughout.
  Status(ACCEDE_EFIAPI* get_memory_space_descriptor)(std::uint64_t base, MemorySpaceDescriptor*);
};
static_assert(offsetof(DxeServices, add_memory_space) == 0x18);
static_assert(offsetof(DxeServices, remove_memory_space) == 0x30);
static_assert(offsetof(DxeServices, get_memory_space_descriptor) == 0x38);

}  // namespace accede::abi::efi
