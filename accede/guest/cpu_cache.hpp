// Free pages that a CPU keeps for itself.
#pragma once

#include "accede/base/spin_lock.hpp"
#include "accede/guest/page_info.hpp"

#include <array>
#include <cstdint>

namespace accede::guest {

/// Single pages that one CPU may take and give back without the zone's lock.
struct alignas(64) CpuCache {
  static constexpr unsigned kCapacity = 30;
  static constexpr unsigned kBatch = 15;

  SpinLock lock;
  std::uint16_t zone = 0;   ///< the only zone whose pages it holds: the first of the CPU's node
  std::uint16_t count = 0;  ///< changed under the lock
  std::array<Frame, kCapacity> frames{};
};
static_assert(sizeof(CpuCache) == 128);

}  // namespace accede::guest
