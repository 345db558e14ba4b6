// Any bytes as an EFI memory map or as E820 entries: the map that comes out keeps its invariants,
// and the table that is planned and built for it accounts for every unaccepted byte.
#include "accede/abi/e820.hpp"
#include "accede/base/assert.hpp"
#include "accede/guest/memory_map.hpp"
#include "accede/guest/unaccepted_table.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace {

using namespace accede;
using namespace accede::guest;

void check(const MemoryMap& map) {
  Bytes sum;
  for (std::size_t i = 0; i < map.regions().size(); ++i) {
    const MemoryRegion& region = map.regions()[i];
    ACCEDE_ASSERT(!region.range.empty());
    ACCEDE_ASSERT(map.covers(region.range, region.kind));
    sum += region.range.size();
    if (i > 0) {
      const MemoryRegion& before = map.regions()[i - 1];
      ACCEDE_ASSERT(before.range.end() <= region.range.begin());
      ACCEDE_ASSERT(before.range.end() < region.range.begin() || before.kind != region.kind);
    }
  }
  for (const MemoryKind kind : {MemoryKind::kUsable, MemoryKind::kUnaccepted, MemoryKind::kReserved,
                                MemoryKind::kAcpiReclaim, MemoryKind::kAcpiNvs,
                                MemoryKind::kUnusable, MemoryKind::kPersistent}) {
    sum -= map.bytes_of(kind);
  }
  ACCEDE_ASSERT(sum == Bytes{0});
}

void build(const MemoryMap& map, Bytes unit) {
  const auto layout = UnacceptedTable::plan(map, unit);
  const Bytes unaccepted = map.bytes_of(MemoryKind::kUnaccepted);
  if (!layout) {
    return;
  }
  ACCEDE_ASSERT(layout->has_value() == (unaccepted != Bytes{0}));
  if (!*layout || (*layout)->table > 1_MiB) {
    return;
  }
  std::vector<std::uint64_t> storage((*layout)->table.value() / 8);
  std::vector<std::uint64_t> index((*layout)->index);
  Bytes now;
  PhysAddr last;
  UnacceptedTable table;
  const auto built = table.build(map, **layout, std::as_writable_bytes(std::span{storage}),
                                 PhysAddr{0}, index, [&](PhysRange part) {
                                   ACCEDE_ASSERT(map.covers(part, MemoryKind::kUnaccepted));
                                   ACCEDE_ASSERT(last <= part.begin());
                                   last = part.end();
                                   now += part.size();
                                   return PlatformResult{};
                                 });
  ACCEDE_ASSERT(built);
  ACCEDE_ASSERT(table.invariants());
  ACCEDE_ASSERT(now + table.unaccepted() == unaccepted);
  table.for_each_run(
      [&](PhysRange run) { ACCEDE_ASSERT(map.covers(run, MemoryKind::kUnaccepted)); });
}

void check(const MemoryMap::Result& map, std::size_t bytes, Bytes unit) {
  if (!map) {
    ACCEDE_ASSERT(map.error().offset <= bytes);
    return;
  }
  check(*map);
  build(*map, unit);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) {
    return 0;
  }
  const auto bytes = std::as_bytes(std::span{data, size}).subspan(3);
  const Bytes unit{1ULL << data[1] % 64};
  std::array<MemoryRegion, 64> storage;
  const std::size_t room = data[2] % (storage.size() + 1);
  const auto regions = std::span{storage}.first(room);
  if (data[0] == 0) {
    check(MemoryMap::from_e820(bytes, regions), bytes.size(), unit);
  } else {
    check(MemoryMap::from_efi(bytes, data[0], regions), bytes.size(), unit);
  }
  return 0;
}
