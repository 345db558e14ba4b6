// Any bytes as a HOB list or as E820 entries: a map that comes out has a plan that keeps its
// promises, plan, hand-over and EFI map agree byte for byte, and the composer says the same again.
//
// The first 16 bytes choose: 0 the dialect, 1 the scope, 2 the chunk, 3 the room for regions,
// 4 to 7 what is needed, 8 to 15 how much must be accepted at least. The rest is the input.
#include "accede/base/assert.hpp"
#include "accede/base/byte_reader.hpp"
#include "accede/firmware/e820_memory_map.hpp"
#include "accede/firmware/hob_composer.hpp"
#include "accede/firmware/hob_list.hpp"
#include "accede/firmware/hob_memory_map.hpp"
#include "tests/firmware/plan_check.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace {

using namespace accede;
using namespace accede::firmware;
using guest::MemoryMap;
using guest::MemoryRegion;

constexpr std::size_t kHead = 16;

/// A part of a region that the input names, and a range that it makes up.
std::vector<PhysRange> needed(const MemoryMap& map, const ByteReader& head) {
  std::vector<PhysRange> list;
  if (!map.regions().empty()) {
    const PhysRange region =
        map.regions()[*head.read<std::uint8_t>(4) % map.regions().size()].range;
    const Bytes skip{region.size().value() / 256 * *head.read<std::uint8_t>(5)};
    const Bytes left = region.size() - skip;
    list.push_back(*PhysRange::make(region.begin() + skip,
                                    Bytes{left.value() / 256 * *head.read<std::uint8_t>(6)}));
  }
  const std::uint8_t odd = *head.read<std::uint8_t>(7);
  if (odd % 2 == 1) {
    list.push_back(*PhysRange::make(PhysAddr{std::uint64_t{odd} << 24}, Bytes{odd}));
  }
  return list;
}

/// plan_check's promises; a plan of petabytes has too many chunks to look at each.
void check(const AcceptancePlan& plan, const MemoryMap& map, std::size_t stride) {
  ACCEDE_ASSERT(test::check_ranges(plan, map) == nullptr);
  ACCEDE_ASSERT(test::check_hand_over(plan, map, stride) == nullptr);
  ACCEDE_ASSERT(test::check_prediction(plan, map) == nullptr);
  const std::uint64_t chunks = plan.chunk_count();
  if (chunks < 4096) {
    ACCEDE_ASSERT(test::check_chunks(plan) == nullptr);
  } else {
    ACCEDE_ASSERT(plan.chunk(0).begin() == plan.ranges().front().begin());
    ACCEDE_ASSERT(plan.chunk(chunks - 1).end() == plan.ranges().back().end());
  }
}

void check(const MemoryMap& map, const ByteReader& head) {
  const std::vector<PhysRange> wanted = needed(map, head);
  const AcceptanceGoal goal{.scope = static_cast<AcceptanceScope>(*head.read<std::uint8_t>(1) % 3),
                            .at_least = Bytes{*head.read<std::uint64_t>(8)},
                            .needed = wanted};
  const std::uint8_t chunk = *head.read<std::uint8_t>(2);
  const ChunkRules rules{.chunk = Bytes{1ULL << (30 + chunk % 8)},
                         .largest = static_cast<PageSize>(chunk / 8 % 3)};
  std::vector<PhysRange> room(AcceptancePlan::ranges_for(map, goal));
  const auto plan = AcceptancePlan::make(map, goal, rules, room);
  if (!plan) {
    ACCEDE_ASSERT(plan.error().kind == PlanErrorKind::kNeededIsNotRam);
    ACCEDE_ASSERT(plan.error().value < wanted.size());
    return;
  }
  check(*plan, map, 40 + chunk);
}

void compose_again(const MemoryMap& map, HobDialect dialect) {
  std::vector<std::byte> memory(HobComposer::size_of(map.regions().size()).value());
  const auto written = compose_hobs(map, dialect, PhysAddr{0x80'9000}, memory);
  if (!written) {
    ACCEDE_ASSERT(written.error().kind == ComposeErrorKind::kNotSayable);
    return;
  }
  const auto list = HobList::parse(*written);
  ACCEDE_ASSERT(list);
  std::vector<MemoryRegion> storage(map.regions().size());
  const auto again = map_from_hobs(*list, dialect, storage);
  ACCEDE_ASSERT(again && test::regions(*again) == test::regions(map));
}

void run_hobs(std::span<const std::byte> input, const ByteReader& head, HobDialect dialect,
              std::span<MemoryRegion> storage) {
  const auto list = HobList::parse(input);
  if (!list) {
    ACCEDE_ASSERT(list.error().offset <= input.size());
    return;
  }
  const auto map = map_from_hobs(*list, dialect, storage);
  if (!map) {
    ACCEDE_ASSERT(map.error().offset < list->bytes().size());
    return;
  }
  check(*map, head);
  compose_again(*map, dialect);
}

void run_e820(std::span<const std::byte> input, const ByteReader& head, E820Dialect dialect,
              std::span<MemoryRegion> storage) {
  const auto map = map_from_e820(input, dialect, storage);
  if (!map) {
    ACCEDE_ASSERT(map.error().offset < input.size());
    return;
  }
  check(*map, head);
  compose_again(*map, HobDialect::kStandard);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kHead) {
    return 0;
  }
  const auto bytes = std::as_bytes(std::span{data, size});
  const ByteReader head{bytes.first(kHead)};
  const auto input = bytes.subspan(kHead);
  std::array<MemoryRegion, 64> all;
  const auto storage = std::span{all}.first(data[3] % (all.size() + 1));
  const std::uint8_t dialect = data[0] % 5;
  if (dialect < 3) {
    run_hobs(input, head, static_cast<HobDialect>(dialect), storage);
  } else {
    run_e820(input, head, static_cast<E820Dialect>(dialect - 3), storage);
  }
  return 0;
}
