// Any bytes as a table that somebody else built: attach() refuses it or takes it, and then every
// question has the same answer with and without the index, and changes keep the two alike.
#include "accede/base/assert.hpp"
#include "accede/base/byte_reader.hpp"
#include "accede/guest/acceptor.hpp"
#include "accede/guest/platform.hpp"
#include "accede/guest/unaccepted_table.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace {

using namespace accede;
using namespace accede::guest;

/// Questions and changes come first in the input, the table is the rest.
constexpr std::size_t kAction = 18;
constexpr std::size_t kActions = 4;
constexpr std::size_t kPrefix = 8 + kActions * kAction;

/// A table in memory of its own, so that a read behind it is seen.
struct Owned {
  Owned(std::span<const std::byte> bytes, bool indexed)
      : words((bytes.size() + 7) / 8),
        index(indexed ? UnacceptedTable::index_words(Bytes{bytes.size()}) : 0) {
    if (!bytes.empty()) {
      std::memcpy(words.data(), bytes.data(), bytes.size());
    }
  }
  std::expected<void, TableError> attach(std::size_t size, PhysAddr where) {
    return table.attach(std::as_writable_bytes(std::span{words}).first(size), where, index);
  }

  std::vector<std::uint64_t> words;
  std::vector<std::uint64_t> index;
  UnacceptedTable table;
};

std::vector<PhysRange> runs(const UnacceptedTable& table) {
  std::vector<PhysRange> list;
  table.for_each_run([&](PhysRange run) { list.push_back(run); });
  return list;
}

void compare(const UnacceptedTable& a, const UnacceptedTable& b, PhysRange asked) {
  const PhysRange guarded = a.guarded(asked);
  const PhysRange units = a.units_of(asked);
  ACCEDE_ASSERT(guarded == b.guarded(asked) && units == b.units_of(asked));
  ACCEDE_ASSERT(guarded.empty() || a.covered().contains(guarded));
  ACCEDE_ASSERT(units.size() <= guarded.size() || asked.empty());
  ACCEDE_ASSERT(a.any_unaccepted(asked) == b.any_unaccepted(asked));
  ACCEDE_ASSERT(a.count(asked) == b.count(asked));
  ACCEDE_ASSERT((a.count(asked) != Bytes{0}) == a.next_run(units).has_value());
  ACCEDE_ASSERT(a.next_run(guarded) == b.next_run(guarded));
}

/// A platform that has every page.
struct WillingPlatform {
  PlatformResult accept(PhysRange) { return {}; }
  PlatformResult convert(PhysRange, Visibility) { return {}; }
  [[nodiscard]] PlatformKind kind() const { return PlatformKind::kTdx; }
  [[nodiscard]] Bytes preferred_step() const { return 2_MiB; }
};

void act(Owned& owned, unsigned action, PhysRange asked) {
  UnacceptedTable& table = owned.table;
  const PhysRange units = table.guarded(asked);
  if (action % 4 == 0) {
    WillingPlatform platform;
    Acceptor<WillingPlatform> acceptor{table, platform};
    const Bytes before = table.count(units);
    ACCEDE_ASSERT(acceptor.contains_unaccepted(asked) == (before != Bytes{0}));
    // At the smallest step, a terabyte takes long: a budget bounds it.
    const auto some = acceptor.accept_some(asked, table.unit() * 1000);
    ACCEDE_ASSERT(some && some->accepted <= before);
    ACCEDE_ASSERT(!some->rest.empty() || some->accepted == before);
  } else if (!units.empty() && action % 4 == 1) {
    table.mark_accepted(units);
  } else if (!units.empty() && action % 4 == 2) {
    table.mark_unaccepted(units);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span{data, size});
  if (size < kPrefix) {
    return 0;
  }
  const ByteReader reader{input};
  const PhysAddr where{*reader.read<std::uint64_t>(0)};
  const auto bytes = input.subspan(kPrefix);
  Owned with{bytes, true};
  Owned without{bytes, false};
  const auto attached = with.attach(bytes.size(), where);
  const auto again = without.attach(bytes.size(), where);
  ACCEDE_ASSERT(attached.has_value() == again.has_value());
  if (!attached) {
    ACCEDE_ASSERT(attached.error().kind == again.error().kind);
    ACCEDE_ASSERT(attached.error().offset < 24);
    ACCEDE_ASSERT(!with.table.present() && !with.table.any_unaccepted(PhysRange{}));
    return 0;
  }
  ACCEDE_ASSERT(with.table.invariants() && without.table.invariants());
  for (std::size_t i = 0; i < kActions; ++i) {
    const std::size_t at = 8 + i * kAction;
    const std::uint64_t a = *reader.read<std::uint64_t>(at);
    const std::uint64_t b = *reader.read<std::uint64_t>(at + 8);
    const std::uint16_t action = *reader.read<std::uint16_t>(at + 16);
    // Half of the questions are about the table itself, by offset.
    const std::uint64_t base = action % 8 < 4 ? with.table.covered().begin().value() : 0;
    const std::uint64_t span = action % 8 < 4 ? with.table.covered().size().value() + 1 : ~0ULL;
    const PhysAddr begin{base + std::min(a % span, b % span)};
    const PhysAddr end{base + std::max(a % span, b % span)};
    const PhysRange asked = *PhysRange::make(begin, end);
    compare(with.table, without.table, asked);
    act(with, action >> 8, asked);
    act(without, action >> 8, asked);
    compare(with.table, without.table, asked);
    ACCEDE_ASSERT(with.words == without.words);
    ACCEDE_ASSERT(with.table.unaccepted() == without.table.unaccepted());
    ACCEDE_ASSERT(with.table.invariants() && without.table.invariants());
  }
  ACCEDE_ASSERT(runs(with.table) == runs(without.table));
  return 0;
}
