// The unaccepted-memory table as slowly and plainly as possible, written from the description of
// Linux's stub and kernel (reference: boot flow 3.1, 3.2, 3.4); and a table with its storage.
#pragma once

#include "accede/guest/memory_map.hpp"
#include "accede/guest/platform.hpp"
#include "accede/guest/unaccepted_table.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

namespace accede::guest::test {

[[nodiscard]] inline PhysRange range(std::uint64_t begin, std::uint64_t end) {
  return PhysRange::make(PhysAddr{begin}, PhysAddr{end}).value();
}

/// Bits as a vector, addresses as numbers.
struct NaiveTable {
  std::uint64_t unit = 0;
  std::uint64_t base = 0;
  std::vector<bool> bits;
  std::vector<PhysRange> accepted_at_once;

  /// Linux's stub: plans over `regions` (ascending, not empty) and marks them.
  static NaiveTable built(const std::vector<PhysRange>& regions, std::uint64_t unit) {
    NaiveTable table{.unit = unit, .base = 0, .bits = {}, .accepted_at_once = {}};
    const std::uint64_t start = regions.front().begin().value() / unit * unit;
    const std::uint64_t end = (regions.back().end().value() + unit - 1) / unit * unit;
    const std::uint64_t bytes = (end - start + unit * 8 - 1) / (unit * 8);
    table.base = start;
    table.bits.resize(bytes * 8);
    for (const PhysRange region : regions) {
      table.process(region.begin().value(), region.end().value());
    }
    return table;
  }

  /// process_unaccepted_memory(): what the table cannot say is accepted at once.
  void process(std::uint64_t start, std::uint64_t end) {
    if (end - start < 2 * unit) {
      accepted_at_once.push_back(range(start, end));
      return;
    }
    if (start % unit != 0) {
      const std::uint64_t up = (start / unit + 1) * unit;
      accepted_at_once.push_back(range(start, up));
      start = up;
    }
    if (end % unit != 0) {
      const std::uint64_t down = end / unit * unit;
      accepted_at_once.push_back(range(down, end));
      end = down;
    }
    for (; start < end; start += unit) {
      bits[(start - base) / unit] = true;
    }
  }

  /// As it lies in memory, padded to 8 bytes.
  [[nodiscard]] std::vector<std::byte> bytes() const {
    std::vector<std::byte> out;
    const auto put = [&](std::uint64_t value, unsigned count) {
      for (unsigned i = 0; i < count; ++i) {
        out.push_back(static_cast<std::byte>(value >> (8 * i)));
      }
    };
    put(1, 4);
    put(unit, 4);
    put(base, 8);
    put(bits.size() / 8, 8);
    for (std::size_t i = 0; i < bits.size(); i += 8) {
      std::uint64_t byte = 0;
      for (unsigned bit = 0; bit < 8; ++bit) {
        byte |= (bits[i + bit] ? 1ULL : 0ULL) << bit;
      }
      put(byte, 1);
    }
    while (out.size() % 8 != 0) {
      put(0, 1);
    }
    return out;
  }

  [[nodiscard]] PhysRange unit_at(std::uint64_t i) const {
    return range(base + i * unit, base + (i + 1) * unit);
  }

  /// accept_memory()'s choice of units, unit by unit: pages first, then the guard. [first, second).
  [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> guarded(std::uint64_t begin,
                                                                std::uint64_t end) const {
    if (begin == end) {
      return {0, 0};
    }
    std::uint64_t last_page = (end - 1) / 4096;
    if ((last_page + 1) * 4096 % unit == 0) {
      last_page += unit / 4096;
    }
    return touched(begin, (last_page + 1) * 4096);
  }
  /// The units that hold a byte of [begin, end).
  [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> touched(std::uint64_t begin,
                                                                std::uint64_t end) const {
    std::uint64_t first = bits.size();
    std::uint64_t after = 0;
    for (std::uint64_t i = 0; i < bits.size(); ++i) {
      if (base + i * unit < end && begin < base + (i + 1) * unit) {
        first = std::min(first, i);
        after = i + 1;
      }
    }
    return first < after ? std::pair{first, after} : std::pair<std::uint64_t, std::uint64_t>{0, 0};
  }
  [[nodiscard]] std::uint64_t count(std::uint64_t first, std::uint64_t after) const {
    std::uint64_t sum = 0;
    for (std::uint64_t i = first; i < after; ++i) {
      sum += bits[i] ? 1 : 0;
    }
    return sum;
  }
  /// The first run of set bits in [first, after).
  [[nodiscard]] std::optional<PhysRange> next_run(std::uint64_t first, std::uint64_t after) const {
    while (first < after && !bits[first]) {
      ++first;
    }
    std::uint64_t end = first;
    while (end < after && bits[end]) {
      ++end;
    }
    return first < end ? std::optional{range(base + first * unit, base + end * unit)}
                       : std::nullopt;
  }
  void set(std::uint64_t first, std::uint64_t after, bool value) {
    for (std::uint64_t i = first; i < after; ++i) {
      bits[i] = value;
    }
  }
};

/// An UnacceptedTable and the memory it lies in. The table says that it lies at kWhere.
class OwnedTable {
 public:
  static constexpr PhysAddr kWhere{0x7000};

  OwnedTable() = default;

  /// A table with these bits; with an index unless told otherwise.
  explicit OwnedTable(const NaiveTable& naive, bool indexed = true, PhysAddr where = kWhere) {
    const auto result = attach(naive.bytes(), indexed, where);
    EXPECT_TRUE(result);
  }
  /// `units` unaccepted units from `base` on.
  static NaiveTable all_set(std::uint64_t base, std::uint64_t units, Bytes unit = 2_MiB) {
    NaiveTable naive{.unit = unit.value(), .base = base, .bits = {}, .accepted_at_once = {}};
    naive.bits.resize((units + 7) / 8 * 8);
    naive.set(0, units, true);
    return naive;
  }

  [[nodiscard]] std::expected<void, TableError> attach(std::span<const std::byte> bytes,
                                                       bool indexed = true,
                                                       PhysAddr where = kWhere) {
    words_.assign((bytes.size() + 7) / 8, 0);
    if (!bytes.empty()) {
      std::memcpy(words_.data(), bytes.data(), bytes.size());
    }
    index_.assign(indexed ? UnacceptedTable::index_words(Bytes{bytes.size()}) : 0, ~0ULL);
    return table_.attach(std::as_writable_bytes(std::span{words_}).first(bytes.size()), where,
                         index_);
  }

  [[nodiscard]] UnacceptedTable& operator*() { return table_; }
  [[nodiscard]] UnacceptedTable* operator->() { return &table_; }
  /// All that was given to attach(), as it is now.
  [[nodiscard]] std::span<const std::byte> memory() const {
    return std::as_bytes(std::span{words_});
  }

 private:
  std::vector<std::uint64_t> words_;
  std::vector<std::uint64_t> index_;
  UnacceptedTable table_;
};

/// The bits that are set in `table` now, one by one.
[[nodiscard]] inline std::vector<bool> bits_of(const UnacceptedTable& table) {
  std::vector<bool> bits;
  for (const std::byte byte : table.bytes().subspan(table.present() ? 24 : 0)) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      bits.push_back(((static_cast<unsigned>(byte) >> bit) & 1) != 0);
    }
  }
  return bits;
}

}  // namespace accede::guest::test
