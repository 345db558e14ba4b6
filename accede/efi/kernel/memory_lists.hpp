// What the kernel's memory consists of, whatever its policy and platform.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/guest/cpu_cache.hpp"
#include "accede/guest/early_ranges.hpp"
#include "accede/guest/kexec.hpp"
#include "accede/guest/memory_map.hpp"
#include "accede/guest/zone.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace accede::efi::kernel {

/// Figures of a moment, for reports.
struct MemoryState {
  Bytes ram;         ///< all RAM of the map that the kernel can use, accepted or not
  Bytes total;       ///< what the page allocator manages
  Bytes free;        ///< of it, the unaccepted included
  Bytes unaccepted;  ///< of the free
  Bytes page_info;   ///< page information of the allocator
  Bytes accepted;    ///< what this kernel accepted so far
  guest::HandOverRoute table = guest::HandOverRoute::kNone;  ///< where the table came from

  /// RAM that is not free: the image, page information, allocated pages.
  [[nodiscard]] Bytes used() const { return ram > free ? ram - free : Bytes{0}; }
};

/// The parts whose storage does not depend on policy or platform.
struct MemoryLists {
  static constexpr std::size_t kMostRegions = 3072;  ///< the firmware may keep 1000 single pages
  static constexpr std::size_t kMostZones = 8;  ///< one node: two below 8 TiB, one more per 8 TiB

  std::array<guest::MemoryRegion, kMostRegions> regions{};
  std::array<PhysRange, kMostRegions + 1> readable{};
  std::array<guest::EarlyRange, 128> memory{};
  std::array<guest::EarlyRange, 128> reserved{};
  std::array<guest::Zone, kMostZones> zones{};
  std::array<guest::CpuCache, 1> caches{};
  std::array<std::uint64_t, 512> index{};  ///< of the table: enough for 16 TiB at 2 MiB units
};

/// Memory that may be read before there is a table: what the map calls accepted and in use by
/// somebody, and `info`, which was accepted for us. Writes to `storage`.
/// Precondition: `storage` has room for one range more than `map` has regions.
[[nodiscard, gnu::cold]] std::span<const PhysRange> readable_ranges(const guest::MemoryMap& map,
                                                                    PhysRange info,
                                                                    std::span<PhysRange> storage);

}  // namespace accede::efi::kernel
