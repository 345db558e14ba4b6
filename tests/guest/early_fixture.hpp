// Memory, a table and a seed for the tests of what comes before the page allocator and after it.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/guest/memory_map.hpp"
#include "accede/guest/unaccepted_table.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <random>
#include <span>
#include <vector>

namespace accede::guest::test {

constexpr PhysAddr pa(Bytes address) {
  return PhysAddr{address.value()};
}
/// [begin, end) given as distances from 0, which reads well: range_of(2_MiB, 4_MiB).
constexpr PhysRange range_of(Bytes begin, Bytes end) {
  return *PhysRange::make(pa(begin), pa(end));
}

/// Physical memory from address 0 on, not touched before it is used.
class TestRam {
 public:
  explicit TestRam(Bytes size)
      : size_{size}, memory_{static_cast<std::byte*>(std::aligned_alloc(4096, size.value()))} {}

  [[nodiscard]] PhysWindow window() const {
    return PhysWindow{reinterpret_cast<std::uintptr_t>(memory_.get())};
  }
  [[nodiscard]] std::span<std::byte> bytes(PhysRange range) const {
    return std::span{memory_.get(), size_.value()}.subspan(range.begin().value(),
                                                           range.size().value());
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  Bytes size_;
  std::unique_ptr<std::byte, Free> memory_;
};

/// A map of regions and a table of it in RAM. Regions below two units are accepted at once.
class MapAndTable {
 public:
  explicit MapAndTable(std::initializer_list<MemoryRegion> regions) : regions_{regions} {
    map = MemoryMap::from_regions(regions_).value();
  }
  MapAndTable(std::initializer_list<MemoryRegion> regions, const TestRam& ram, PhysAddr where)
      : MapAndTable{regions} {
    build(ram, where);
  }

  void build(const TestRam& ram, PhysAddr where) {
    const TableLayout layout = UnacceptedTable::plan(map).value().value();
    index_.resize(layout.index);
    const auto storage = ram.bytes(*PhysRange::make(where, layout.table));
    const auto accept_now = [](PhysRange) { return PlatformResult{}; };
    ASSERT_TRUE(table.build(map, layout, storage, where, index_, accept_now));
  }

  MemoryMap map;
  UnacceptedTable table;

 private:
  std::vector<MemoryRegion> regions_;
  std::vector<std::uint64_t> index_;
};

/// Seed of a randomised test: ACCEDE_TEST_SEED repeats a run.
inline std::uint64_t test_seed() {
  const char* const text = std::getenv("ACCEDE_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 0)
                         : (std::uint64_t{std::random_device{}()} << 16) + 1;
}

}  // namespace accede::guest::test
