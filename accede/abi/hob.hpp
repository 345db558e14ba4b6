// Hand-off blocks (HOBs): the list by which a VMM tells firmware, and one firmware phase the next,
// which memory there is.
// Source: UEFI Platform Initialization specification 1.8, volume 3; reference: boot flow 1.5.
#pragma once

#include "accede/abi/efi.hpp"

#include <cstddef>
#include <cstdint>

namespace accede::abi::hob {

enum class Type : std::uint16_t {
  kHandoff = 1,
  kMemoryAllocation = 2,
  kResourceDescriptor = 3,
  kGuidExtension = 4,
  kFirmwareVolume = 5,
  kCpu = 6,
  kMemoryPool = 7,
  kFirmwareVolume2 = 9,
  kFirmwareVolume3 = 0xC,
  kUnused = 0xFFFE,
  kEndOfList = 0xFFFF,
};

/// Begins every HOB. `length` counts the header and is a multiple of 8; `reserved` is 0.
struct Header {
  std::uint16_t type;
  std::uint16_t length;
  std::uint32_t reserved;
};
static_assert(sizeof(Header) == 8);
static_assert(offsetof(Header, length) == 2);
static_assert(offsetof(Header, reserved) == 4);

inline constexpr std::size_t kAlignment = 8;
inline constexpr std::uint32_t kHandoffVersion = 9;

/// The first HOB of a list. A VMM that makes one leaves the memory fields 0.
struct Handoff {
  Header header;
  std::uint32_t version;
  std::uint32_t boot_mode;
  std::uint64_t memory_top;
  std::uint64_t memory_bottom;
  std::uint64_t free_memory_top;
  std::uint64_t free_memory_bottom;
  std::uint64_t end_of_hob_list;
};
static_assert(sizeof(Handoff) == 56);
static_assert(offsetof(Handoff, version) == 8);
static_assert(offsetof(Handoff, memory_top) == 16);
static_assert(offsetof(Handoff, end_of_hob_list) == 48);

/// kUnaccepted came with PI 1.8; before it, 7 was the first value without a meaning.
enum class Resource : std::uint32_t {
  kSystemMemory = 0,
  kMemoryMappedIo = 1,
  kIo = 2,
  kFirmwareDevice = 3,
  kMemoryMappedIoPort = 4,
  kMemoryReserved = 5,
  kIoReserved = 6,
  kMemoryUnaccepted = 7,
};

struct ResourceDescriptor {
  Header header;
  efi::Guid owner;
  std::uint32_t resource;
  std::uint32_t attributes;
  std::uint64_t physical_start;
  std::uint64_t bytes;
};
static_assert(sizeof(ResourceDescriptor) == 48);
static_assert(offsetof(ResourceDescriptor, owner) == 8);
static_assert(offsetof(ResourceDescriptor, resource) == 24);
static_assert(offsetof(ResourceDescriptor, attributes) == 28);
static_assert(offsetof(ResourceDescriptor, physical_start) == 32);
static_assert(offsetof(ResourceDescriptor, bytes) == 40);

inline constexpr std::uint32_t kPresent = 0x1;
inline constexpr std::uint32_t kInitialized = 0x2;
inline constexpr std::uint32_t kTested = 0x4;
/// What makes system memory usable; what every VMM writes for RAM of every kind.
inline constexpr std::uint32_t kTestedMemory = kPresent | kInitialized | kTested;
inline constexpr std::uint32_t kPersistent = 0x80'0000;
/// Every attribute that PI 1.8 gives a meaning; HOT_PLUGGABLE is the highest.
inline constexpr std::uint32_t kKnownAttributes = 0x1FFF'FFFF;

/// Least lengths of the HOBs that accede passes over.
inline constexpr std::size_t kMemoryAllocationBytes = 48;
inline constexpr std::size_t kGuidExtensionBytes = 24;
inline constexpr std::size_t kFirmwareVolumeBytes = 24;
inline constexpr std::size_t kFirmwareVolume2Bytes = 56;
inline constexpr std::size_t kFirmwareVolume3Bytes = 64;
inline constexpr std::size_t kCpuBytes = 16;

}  // namespace accede::abi::hob
