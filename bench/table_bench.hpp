// The table at its largest: 4 PiB.
#pragma once

#include "accede/guest/memory_map.hpp"
#include "accede/guest/unaccepted_table.hpp"
#include "bench/arena.hpp"
#include "bench/clock.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

namespace accede::bench {

/// A table of 4 PiB in resident memory, with its index, to be built again and again.
class LargeTable {
 public:
  static constexpr Bytes kMemory = 4096_TiB;

  static constexpr std::size_t kIndexWords = (1U << 20) / 8;

  LargeTable()
      : memory_{260_MiB},
        storage_{memory_.window().pointer<std::uint64_t>(Arena::kBase), (256ULL << 20) / 8 + 3},
        index_{memory_.window().pointer<std::uint64_t>(Arena::kBase + 258_MiB), kIndexWords} {}

  /// Regions as firmware might report them: disjoint, unsorted, from the first to the last unit.
  [[nodiscard]] static std::vector<guest::MemoryRegion> regions(std::size_t count) {
    std::mt19937_64 random{20261121};
    const std::uint64_t slot = kMemory.value() / count / 8192 * 8192;
    std::vector<guest::MemoryRegion> list;
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t begin = slot * i + (i == 0 ? 0 : random() % (slot / 4) / 4096 * 4096);
      const std::uint64_t end = i + 1 == count
                                    ? kMemory.value()
                                    : slot * i + slot / 2 + random() % (slot / 3) / 4096 * 4096;
      list.push_back(
          {*PhysRange::make(PhysAddr{begin}, PhysAddr{end}), guest::MemoryKind::kUnaccepted});
    }
    std::shuffle(list.begin(), list.end(), random);
    return list;
  }

  /// Sorts, plans and builds; returns the table. Clears what was there.
  [[nodiscard]] std::unique_ptr<guest::UnacceptedTable> build(
      std::span<guest::MemoryRegion> regions) {
    const auto map = guest::MemoryMap::from_regions(regions);
    if (!map) {
      std::abort();
    }
    layout = **guest::UnacceptedTable::plan(*map);
    if (layout.table.value() > storage_.size() * 8 || layout.index > index_.size()) {
      std::abort();
    }
    auto table = std::make_unique<guest::UnacceptedTable>();
    const auto built = table->build(*map, layout, std::as_writable_bytes(storage_), PhysAddr{4096},
                                    index_, [](PhysRange) { return guest::PlatformResult{}; });
    if (!built) {
      std::abort();
    }
    return table;
  }

  /// Fills the same memory; returns seconds.
  [[nodiscard]] double fill(int value) {
    const std::uint64_t begin = now_ns();
    std::memset(storage_.data(), value, storage_.size_bytes());
    std::memset(index_.data(), value, index_.size_bytes());
    return static_cast<double>(now_ns() - begin) / 1e9;
  }

  guest::TableLayout layout;

 private:
  Arena memory_;  ///< in huge pages, as a kernel's direct map
  std::span<std::uint64_t> storage_;
  std::span<std::uint64_t> index_;
};

/// Runs of a table by a look at every bit.
struct Runs {
  std::uint64_t count = 0;
  std::uint64_t checksum = 0;  ///< XOR of begin and rotated end of each

  void add(PhysRange run) {
    ++count;
    checksum ^= run.begin().value() ^ std::rotl(run.end().value(), 17);
  }
  friend bool operator==(Runs, Runs) = default;
};

[[nodiscard]] inline Runs scan(const guest::UnacceptedTable& table) {
  Runs runs;
  table.for_each_run([&](PhysRange run) { runs.add(run); });
  return runs;
}

/// The same without the library: one bit after the other.
[[nodiscard]] inline Runs naive_scan(const guest::UnacceptedTable& table) {
  const auto bitmap = table.bytes().subspan(24);
  const auto at = [&](std::uint64_t unit) { return table.covered().begin() + table.unit() * unit; };
  Runs runs;
  std::uint64_t begin = 0;
  bool inside = false;
  for (std::uint64_t unit = 0; unit <= bitmap.size() * 8; ++unit) {
    const bool set = unit < bitmap.size() * 8 &&
                     ((static_cast<unsigned>(bitmap[unit / 8]) >> (unit % 8)) & 1) != 0;
    if (set && !inside) {
      begin = unit;
    } else if (!set && inside) {
      runs.add(*PhysRange::make(at(begin), at(unit)));
    }
    inside = set;
  }
  return runs;
}

/// A place for Contains1TiB: a range of 1 TiB at a random unaligned address, all accepted, with
/// unaccepted units directly before it and directly behind its guard.
struct ContainsPlace {
  PhysRange range;
  bool expected = false;
};

/// Makes such places in an otherwise accepted table of 4 PiB; in every fourth, one unit inside or
/// the guard is unaccepted after all.
[[nodiscard]] inline std::vector<ContainsPlace> contains_places(guest::UnacceptedTable& table) {
  table.mark_accepted(table.covered());
  std::mt19937_64 random{20261121};
  std::vector<ContainsPlace> places;
  const auto mark = [&](PhysAddr unit) {
    table.mark_unaccepted(*PhysRange::make(unit, table.unit()));
  };
  for (std::uint64_t slot = 1; slot + 1 < 4096 / 4; ++slot) {
    const PhysAddr begin{(slot << 42) + random() % (1ULL << 41)};
    const PhysRange range = *PhysRange::make(begin, 1_TiB);
    const PhysRange guarded = table.guarded(range);
    mark(guarded.begin() - table.unit());
    mark(guarded.end());
    const bool inside = slot % 4 == 0;
    if (inside) {
      mark(guarded.begin() + table.unit() * (random() % (guarded.size() / table.unit())));
    }
    places.push_back({.range = range, .expected = inside});
  }
  std::shuffle(places.begin(), places.end(), random);
  return places;
}

/// A naive answer to contains_unaccepted(): bit by bit, the guard by the rule.
[[nodiscard]] inline bool naive_contains(const guest::UnacceptedTable& table, PhysRange range) {
  const auto bitmap = table.bytes().subspan(24);
  const std::uint64_t unit = table.unit().value();
  const std::uint64_t base = table.covered().begin().value();
  std::uint64_t end = (range.end().value() + 4095) / 4096 * 4096;
  end += end % unit == 0 ? unit : 0;
  for (std::uint64_t i = (range.begin().value() - base) / unit; base + i * unit < end; ++i) {
    if (((static_cast<unsigned>(bitmap[i / 8]) >> (i % 8)) & 1) != 0) {
      return true;
    }
  }
  return false;
}

}  // namespace accede::bench
