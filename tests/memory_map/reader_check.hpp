// What holds of every reader, whatever it reads: for the test of hostile inputs and the fuzzer.
#pragma once

#include "accede/base/assert.hpp"
#include "accede/memory_map/memmap_option.hpp"
#include "accede/memory_map/recognise.hpp"
#include "accede/memory_map/region_list.hpp"
#include "accede/memory_map/srat.hpp"

#include <cstddef>
#include <expected>
#include <span>
#include <string_view>
#include <vector>

namespace accede::memory_map::test {

template <class Item>
void check_disjoint(const std::vector<Item>& items) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    ACCEDE_ASSERT(!items[i].range.empty());
    ACCEDE_ASSERT(i == 0 || items[i - 1].range.end() <= items[i].range.begin());
  }
}

/// One line that says something.
template <class Result>
void check_error(const Result& result) {
  if (!result) {
    ACCEDE_ASSERT(!result.error().message.empty());
    ACCEDE_ASSERT(result.error().message.find('\n') == std::string::npos);
  }
}

inline void check_memory_map(std::span<const std::byte> bytes) {
  const auto regions = read_memory_map(bytes);
  check_error(regions);
  if (regions) {
    ACCEDE_ASSERT(!regions->empty());
    check_disjoint(*regions);
  }
}

inline void check_cmrs(std::span<const std::byte> bytes) {
  const auto ranges = read_cmrs(bytes);
  check_error(ranges);
  ACCEDE_ASSERT(!ranges || !ranges->empty());
}

/// The bytes as options, applied to a map.
inline void check_memmap(std::span<const std::byte> bytes) {
  const std::string_view text{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  std::vector<Region> regions{
      {.range = *PhysRange::make(PhysAddr{0x1000}, Bytes{4096})},
      {.range = *PhysRange::make(PhysAddr{0x8000}, Bytes{1ULL << 40}), .node = 1}};
  const std::vector<Region> before = regions;
  const auto applied = apply_memmap(text, regions);
  check_error(applied);
  ACCEDE_ASSERT(applied || regions == before);
  check_disjoint(regions);
}

inline void check_srat(std::span<const std::byte> bytes) {
  const auto nodes = read_srat(bytes);
  check_error(nodes);
  if (!nodes) {
    return;
  }
  check_disjoint(*nodes);
  const std::vector<Region> regions{{.range = *PhysRange::make(PhysAddr{0}, Bytes{1ULL << 33})}};
  const auto with = with_nodes(regions, *nodes);
  check_disjoint(with);
  Bytes sum;
  for (const Region& region : with) {
    sum += region.range.size();
  }
  ACCEDE_ASSERT(sum == Bytes{1ULL << 33});
  check_disjoint(free_hot_plug_ranges(regions, *nodes));
}

inline void check_readers(std::span<const std::byte> bytes) {
  check_memory_map(bytes);
  check_cmrs(bytes);
  check_memmap(bytes);
  check_srat(bytes);
}

}  // namespace accede::memory_map::test
