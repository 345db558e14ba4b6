// All small maps, not samples of them.
//
// Exhaustive here:
//   - the table of every map with one to four unaccepted regions whose ends are unit boundaries on
//     a line of 32 units (15 million maps; of those with three or four regions every 16th under a
//     sanitizer), with usable memory in every other gap;
//   - the table of every map with one or two regions whose ends are multiples of a quarter unit on
//     a line of 12 units;
//   - accept(), contains_unaccepted() and the guard for every table of 12 units (all 4096 sets of
//     bits), and every request whose begin is on a unit boundary or a page after it and whose end
//     is on one, a byte before it or a page before it.
#include "accede/guest/acceptor.hpp"
#include "accede/guest/memory_map.hpp"
#include "accede/guest/unaccepted_table.hpp"
#include "tests/guest/naive_table.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

namespace accede::guest {
namespace {

using test::NaiveTable;
using test::range;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
#else
constexpr bool kSanitized = false;
#endif

constexpr std::uint64_t kUnit = 4 * 4096;
constexpr std::uint64_t kBase = 1 << 20;

/// The bits [begin, end).
constexpr std::uint64_t mask(unsigned begin, unsigned end) {
  return ((1ULL << (end - begin)) - 1) << begin;
}

/// Calls `visit` with every strictly ascending choice of `count` of the numbers 0 to `last`; stops
/// when it returns false.
template <class Visit>
void for_each_choice(unsigned count, unsigned last, Visit visit) {
  std::array<unsigned, 8> at{};
  for (unsigned i = 0; i < count; ++i) {
    at[i] = i;
  }
  while (visit(std::span<const unsigned>{at.data(), count})) {
    unsigned i = count;
    while (i > 0 && at[i - 1] == last - (count - i)) {
      --i;
    }
    if (i == 0) {
      return;
    }
    ++at[i - 1];
    for (; i < count; ++i) {
      at[i] = at[i - 1] + 1;
    }
  }
}

/// Boundaries in pairs: unaccepted regions, with usable memory in the first and third gap.
MemoryMap map_of(std::span<const unsigned> ends, std::uint64_t step,
                 std::array<MemoryRegion, 8>& storage) {
  std::size_t count = 0;
  for (std::size_t i = 0; i + 1 < ends.size(); ++i) {
    const bool gap = i % 2 != 0;
    if (!gap || i % 4 == 1) {
      storage[count++] = {range(kBase + ends[i] * step, kBase + ends[i + 1] * step),
                          gap ? MemoryKind::kUsable : MemoryKind::kUnaccepted, 0};
    }
  }
  const auto map = MemoryMap::from_regions(std::span{storage}.first(count));
  return map.value_or(MemoryMap{});
}

/// Units that a bit stands for, and units accepted at once, as bits of a line.
struct Units {
  std::uint64_t bits = 0;
  std::uint64_t at_once = 0;
};

/// On unit boundaries Linux's rule is short: a region of one unit is accepted, others get bits.
Units expected_units(std::span<const unsigned> ends) {
  Units units;
  for (std::size_t i = 0; i < ends.size(); i += 2) {
    const bool large = ends[i + 1] - ends[i] >= 2;
    (large ? units.bits : units.at_once) |= mask(ends[i], ends[i + 1]);
  }
  return units;
}

/// True when the table for the map is what it should be, every byte of it.
bool builds_right(std::span<const unsigned> ends) {
  std::array<MemoryRegion, 8> regions;
  const MemoryMap map = map_of(ends, kUnit, regions);
  const auto layout = UnacceptedTable::plan(map, Bytes{kUnit});
  if (!layout || !*layout) {
    return false;
  }
  const unsigned first = ends.front();
  const std::uint64_t bitmap = (ends.back() - first + 7) / 8;
  std::array<std::uint64_t, 4> words{~0ULL, ~0ULL, ~0ULL, ~0ULL};
  std::array<std::uint64_t, 2> index{~0ULL, ~0ULL};
  Units units;
  UnacceptedTable table;
  const auto built =
      table.build(map, **layout, std::as_writable_bytes(std::span{words}), PhysAddr{0}, index,
                  [&](PhysRange now) {
                    const auto begin = static_cast<unsigned>((now.begin().value() - kBase) / kUnit);
                    const auto end = static_cast<unsigned>((now.end().value() - kBase) / kUnit);
                    units.at_once |= mask(begin, end);
                    return PlatformResult{};
                  });
  const Units expected = expected_units(ends);
  return built && (**layout).bitmap == Bytes{bitmap} &&
         words == std::array<std::uint64_t, 4>{kUnit << 32 | 1, kBase + first * kUnit, bitmap,
                                               expected.bits >> first} &&
         units.at_once == expected.at_once && table.invariants();
}

TEST(SmallMaps, EveryArrangementOfUpToFourRegionsOn32UnitsGetsTheRightTable) {
  std::uint64_t maps = 0;
  for (unsigned count = 2; count <= 8; count += 2) {
    for_each_choice(count, 32, [&](std::span<const unsigned> ends) {
      ++maps;
      if (kSanitized && count >= 6 && maps % 16 != 0) {
        return true;
      }
      const bool right = builds_right(ends);
      EXPECT_TRUE(right) << testing::PrintToString(std::vector(ends.begin(), ends.end()));
      return right;
    });
  }
  EXPECT_EQ(maps, 528U + 40920U + 1107568U + 13884156U);
}

TEST(SmallMaps, EveryArrangementOfTwoRegionsOnQuarterUnitsGetsTheRightTable) {
  std::uint64_t maps = 0;
  for (unsigned count = 2; count <= 4; count += 2) {
    for_each_choice(count, 48, [&](std::span<const unsigned> ends) {
      ++maps;
      std::array<MemoryRegion, 8> regions;
      const MemoryMap map = map_of(ends, kUnit / 4, regions);
      const auto layout = UnacceptedTable::plan(map, Bytes{kUnit});
      std::vector<PhysRange> unaccepted;
      for (std::size_t i = 0; i < ends.size(); i += 2) {
        unaccepted.push_back(range(kBase + ends[i] * kUnit / 4, kBase + ends[i + 1] * kUnit / 4));
      }
      const NaiveTable expected = NaiveTable::built(unaccepted, kUnit);
      std::array<std::uint64_t, 4> words{~0ULL, ~0ULL, ~0ULL, ~0ULL};
      const auto memory = std::as_writable_bytes(std::span{words});
      std::vector<PhysRange> now;
      UnacceptedTable table;
      const bool right =
          layout && *layout &&
          table.build(map, **layout, memory, PhysAddr{0}, {},
                      [&](PhysRange part) {
                        now.push_back(part);
                        return PlatformResult{};
                      }) &&
          std::ranges::equal(memory.first((**layout).table.value()), expected.bytes()) &&
          now == expected.accepted_at_once;
      EXPECT_TRUE(right) << testing::PrintToString(std::vector(ends.begin(), ends.end()));
      return right;
    });
  }
  EXPECT_EQ(maps, 1176U + 211876U);
}

/// A platform of 64 units as one word; a unit that is accepted twice is a failure.
class WordPlatform {
 public:
  PlatformResult accept(PhysRange asked) {
    const auto begin = static_cast<unsigned>((asked.begin().value() - kBase) / kUnit);
    const auto end = static_cast<unsigned>((asked.end().value() - kBase) / kUnit);
    twice = twice || (units & mask(begin, end)) != 0;
    units |= mask(begin, end);
    return {};
  }
  PlatformResult convert(PhysRange, Visibility) { return {}; }
  [[nodiscard]] PlatformKind kind() const { return PlatformKind::kTdx; }
  [[nodiscard]] Bytes preferred_step() const { return Bytes{3 * kUnit}; }

  std::uint64_t units = 0;
  bool twice = false;
};
static_assert(AcceptPlatform<WordPlatform>);

/// Requests with their guarded units as bits, computed once by the naive rule.
struct Request {
  PhysRange asked;
  std::uint64_t units;
};

std::vector<Request> requests(unsigned line) {
  NaiveTable naive{.unit = kUnit, .base = kBase, .bits = {}, .accepted_at_once = {}};
  naive.bits.resize((line + 7) / 8 * 8);
  std::vector<Request> list;
  for (std::uint64_t begin = 0; begin <= line + 1; ++begin) {
    for (const std::uint64_t after : {0U, 4096U}) {
      for (std::uint64_t end = begin; end <= line + 2; ++end) {
        for (const std::uint64_t before : {0U, 1U, 4096U}) {
          const std::uint64_t from = kBase - kUnit + begin * kUnit + after;
          const std::uint64_t to = kBase - kUnit + end * kUnit - before;
          if (from < to) {
            const auto [first, last] = naive.guarded(from, to);
            list.push_back(
                {range(from, to), mask(static_cast<unsigned>(first), static_cast<unsigned>(last))});
          }
        }
      }
    }
  }
  return list;
}

/// True when accept(asked) accepts exactly the unaccepted units of the request, each once.
bool accepts_right(std::uint64_t bits, const Request& request, std::uint64_t bitmap) {
  std::array<std::uint64_t, 4> words{kUnit << 32 | 1, kBase, bitmap, bits};
  std::array<std::uint64_t, 2> index{};
  UnacceptedTable table;
  const auto memory = std::as_writable_bytes(std::span{words}).first(24 + bitmap);
  if (!table.attach(memory, PhysAddr{0}, index)) {
    return false;
  }
  WordPlatform platform;
  Acceptor<WordPlatform> acceptor{table, platform};
  const std::uint64_t wanted = bits & request.units;
  const Bytes bytes = Bytes{kUnit} * static_cast<std::uint64_t>(std::popcount(wanted));
  if (acceptor.contains_unaccepted(request.asked) != (wanted != 0)) {
    return false;
  }
  const auto accepted = acceptor.accept(request.asked);
  return accepted == bytes && platform.units == wanted && !platform.twice &&
         words[3] == (bits & ~wanted) && !acceptor.contains_unaccepted(request.asked) &&
         acceptor.counters().accepted == bytes && table.invariants() &&
         acceptor.step() == Bytes{3 * kUnit};
}

TEST(SmallMaps, EveryRequestOnEveryTableOf12UnitsAcceptsItsUnitsAndTheGuard) {
  const std::vector<Request> all = requests(12);
  for (std::uint64_t bits = 0; bits < 1 << 12; ++bits) {
    for (const Request& request : all) {
      ASSERT_TRUE(accepts_right(bits, request, 2))
          << std::hex << "bits 0x" << bits << ", from 0x" << request.asked.begin().value()
          << " to 0x" << request.asked.end().value() << ", units 0x" << request.units;
    }
  }
}

}  // namespace
}  // namespace accede::guest
