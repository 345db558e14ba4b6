// A machine's physical memory as people can read it off a running host.
#pragma once

#include "accede/base/phys_range.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace accede::memory_map {

enum class RegionKind : std::uint8_t {
  kRam,
  kReserved,         ///< also what ACPI keeps, and kinds that we do not know
  kPersistent,       ///< legacy persistent memory; not RAM until a driver makes it so
  kPersistentRam,    ///< persistent memory that the kernel uses as RAM
  kSpecificPurpose,  ///< set aside for a device driver ("soft reserved"), mostly CXL memory
  kCxlRam,           ///< memory of a CXL device that the kernel uses as RAM
};

struct Region {
  PhysRange range;
  RegionKind kind = RegionKind::kRam;
  std::optional<std::uint32_t> node = {};  ///< NUMA node, where the source tells it

  friend bool operator==(const Region&, const Region&) = default;
};

/// The most ranges that are read from one input: twice what a plan takes. It bounds the time that
/// a hostile file takes.
inline constexpr std::size_t kMostRanges = 16384;

/// Why an input cannot be read. `line` counts from 1; 0: the message says where.
struct ReadError {
  std::size_t line = 0;
  std::string message;

  friend bool operator==(const ReadError&, const ReadError&) = default;
};

}  // namespace accede::memory_map
