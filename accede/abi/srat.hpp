// ACPI System Resource Affinity Table: which memory belongs to which NUMA node.
// Source: ACPI 6.5, 5.2.6 (header) and 5.2.16.
#pragma once

#include <cstddef>
#include <cstdint>

namespace accede::abi::srat {

/// "SRAT" as the first four bytes read it.
inline constexpr std::uint32_t kSignature = 0x5441'5253;
inline constexpr std::size_t kLengthOffset = 4;  ///< u32: of the whole table
/// Header (36 bytes), a reserved u32 that is 1, a reserved u64; then the structures.
inline constexpr std::size_t kFirstStructure = 48;

/// Each structure begins with a type and its length, a byte each.
inline constexpr std::uint8_t kMemoryAffinity = 1;

inline constexpr std::uint32_t kEnabled = 1U << 0;
inline constexpr std::uint32_t kHotPluggable = 1U << 1;
inline constexpr std::uint32_t kNonVolatile = 1U << 2;

/// 5.2.16.2. Read it through ByteReader: fields are not aligned in the table.
struct [[gnu::packed]] MemoryAffinity {
  std::uint8_t type;
  std::uint8_t length;
  std::uint32_t proximity_domain;
  std::uint16_t reserved1;
  std::uint64_t base;
  std::uint64_t size;
  std::uint32_t reserved2;
  std::uint32_t flags;
  std::uint64_t reserved3;
};
static_assert(sizeof(MemoryAffinity) == 40);
static_assert(offsetof(MemoryAffinity, base) == 8);
static_assert(offsetof(MemoryAffinity, flags) == 28);

}  // namespace accede::abi::srat
