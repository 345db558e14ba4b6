// Any bytes as an E820 map and kexec segments: the segments that pass are pages of RAM that nobody
// else has, and a place that is chosen is one that passes.
#include "accede/base/assert.hpp"
#include "accede/base/byte_reader.hpp"
#include "accede/guest/kexec.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

using namespace accede;
using namespace accede::guest;

namespace {

bool is_ram(const MemoryMap& map, PhysRange range) {
  PhysAddr at = range.begin();
  for (const MemoryRegion& region : map.regions()) {
    if (region.kind == MemoryKind::kUsable && region.range.contains(at)) {
      at = region.range.end();
    }
  }
  return at >= range.end();
}

void check_list(std::span<const SegmentRequest> requests, const MemoryMap& map,
                const UnacceptedTable& table) {
  const auto list = SegmentList::check(requests, map, table);
  if (!list) {
    ACCEDE_ASSERT(list.error().segment < std::max<std::size_t>(requests.size(), 1));
    return;
  }
  const auto segments = list->segments();
  ACCEDE_ASSERT(segments.size() == requests.size());
  Bytes sum;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const PhysRange range = segments[i].destination;
    ACCEDE_ASSERT(range.begin() == requests[i].destination && range.size() == requests[i].size);
    ACCEDE_ASSERT(range.begin().is_aligned(4_KiB) && range.end().is_aligned(4_KiB));
    ACCEDE_ASSERT(segments[i].file_size <= range.size());
    ACCEDE_ASSERT(is_ram(map, range));
    for (std::size_t other = 0; other < i; ++other) {
      ACCEDE_ASSERT(!segments[other].destination.overlaps(range));
    }
    sum += range.size();
  }
  ACCEDE_ASSERT(sum.value() <= map.bytes_of(MemoryKind::kUsable).value() / 2);
}

void check_choice(const SegmentRequest& wish, unsigned align, const MemoryMap& map,
                  const UnacceptedTable& table) {
  if (wish.size == Bytes{0}) {
    return;
  }
  const DestinationRequest request{.size = wish.size, .align = Bytes{1ULL << (12 + align % 52)}};
  const auto chosen = choose_destination(request, map, table);
  if (!chosen) {
    return;
  }
  ACCEDE_ASSERT(chosen->range.begin().is_aligned(request.align));
  ACCEDE_ASSERT(chosen->range.size() >= wish.size && chosen->range.size() - wish.size < 4_KiB);
  ACCEDE_ASSERT(is_ram(map, chosen->range));
  const PhysRange guarded = table.guarded(chosen->range);
  ACCEDE_ASSERT(chosen->unaccepted == (guarded.empty() ? Bytes{0} : table.count(guarded)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kEntries = 8;
  constexpr std::size_t kMapBytes = kEntries * 20;
  constexpr std::size_t kTableBytes = 64;
  const auto bytes = std::as_bytes(std::span{data, size});
  if (size < 1 + kMapBytes + kTableBytes) {
    return 0;
  }
  std::array<MemoryRegion, kEntries> storage{};
  const auto map = MemoryMap::from_e820(bytes.subspan(1, kMapBytes), storage);
  if (!map) {
    return 0;
  }
  alignas(8) std::array<std::byte, kTableBytes> table_bytes{};
  std::ranges::copy(bytes.subspan(1 + kMapBytes, kTableBytes), table_bytes.begin());
  UnacceptedTable table;
  if (!table.attach(table_bytes, PhysAddr{0x1008}, {})) {
    ACCEDE_ASSERT(!table.present());
  }
  const ByteReader rest{bytes.subspan(1 + kMapBytes + kTableBytes)};
  std::vector<SegmentRequest> requests;
  for (std::size_t at = 0; at + 24 <= rest.size() && requests.size() <= kMostSegments; at += 24) {
    requests.push_back({.destination = PhysAddr{*rest.read<std::uint64_t>(at)},
                        .size = Bytes{*rest.read<std::uint64_t>(at + 8)},
                        .file_size = Bytes{*rest.read<std::uint64_t>(at + 16)}});
  }
  check_list(requests, *map, table);
  for (const SegmentRequest& wish : requests) {
    check_choice(wish, data[0], *map, table);
  }
  return 0;
}
