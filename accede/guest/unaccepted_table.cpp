// Building, checking and adopting a table; looking and changing are in unaccepted_table_bits.cpp.
#include "accede/guest/unaccepted_table.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <limits>

namespace accede::guest {

namespace {

namespace wire = abi::linux_unaccepted;

constexpr Bytes kLargestSpan = 4096_TiB;
/// The unit is a 32-bit field.
constexpr Bytes kLargestUnit = 2_GiB;

std::unexpected<TableError> fail(TableErrorKind kind) {
  return std::unexpected{TableError{.kind = kind}};
}

std::unexpected<TableError> accept_failed(const PlatformFailure& failure) {
  return std::unexpected{TableError{.kind = TableErrorKind::kAcceptFailed, .failure = failure}};
}

void write_header(std::span<std::byte> storage, const TableLayout& layout) {
  const wire::TableHeader header{.version = wire::kVersion,
                                 .unit_size = static_cast<std::uint32_t>(layout.unit.value()),
                                 .phys_base = layout.covered.begin().value(),
                                 .bitmap_bytes = layout.bitmap.value()};
  const auto raw = std::bit_cast<std::array<std::byte, sizeof(header)>>(header);
  std::copy(raw.begin(), raw.end(), storage.begin());
}

/// What a region becomes: ranges to accept now, and whole units for the table.
struct Split {
  PhysRange head;
  PhysRange units;
  PhysRange tail;
};

Split split(PhysRange region, Bytes unit) {
  const PhysAddr begin = region.begin();
  const PhysAddr end = region.end();
  if (region.size() < unit * 2) {
    return {
        .head = region, .units = *PhysRange::make(end, end), .tail = *PhysRange::make(end, end)};
  }
  const PhysAddr first = begin.align_up(unit);
  const PhysAddr last = end.align_down(unit);
  return {.head = *PhysRange::make(begin, first),
          .units = *PhysRange::make(first, last),
          .tail = *PhysRange::make(last, end)};
}

}  // namespace

std::string_view to_string(TableErrorKind kind) {
  switch (kind) {
    case TableErrorKind::kMalformed:
      return "the unaccepted-memory table is malformed"sv;
    case TableErrorKind::kUnaligned:
      return "the unaccepted-memory table is not aligned to 8 bytes"sv;
    case TableErrorKind::kUnacceptedTable:
      return "the unaccepted-memory table says that it lies in unaccepted memory"sv;
    case TableErrorKind::kTooLarge:
      return "unaccepted memory spans more than 4 PiB"sv;
    case TableErrorKind::kStorage:
      return "the storage for the unaccepted-memory table is too small or not aligned"sv;
    case TableErrorKind::kBadUnit:
      return "the unit of an unaccepted-memory table must be a power of two from 4 KiB to 2 GiB"sv;
    case TableErrorKind::kAcceptFailed:
      return "memory that the table cannot describe could not be accepted"sv;
  }
  return "unknown error of the unaccepted-memory table"sv;
}

UnacceptedTable::Result UnacceptedTable::plan(const MemoryMap& map, Bytes unit) {
  if (unit < wire::kMinUnitSize || unit > kLargestUnit || !std::has_single_bit(unit.value())) {
    return fail(TableErrorKind::kBadUnit);
  }
  std::optional<PhysRange> span;
  for (const MemoryRegion& region : map.regions()) {
    if (region.kind == MemoryKind::kUnaccepted) {
      span = PhysRange::make(span ? span->begin() : region.range.begin(), region.range.end());
    }
  }
  if (!span) {
    return std::nullopt;
  }
  const PhysAddr begin = span->begin().align_down(unit);
  if (span->end() - begin > kLargestSpan ||
      span->end().value() > std::numeric_limits<std::uint64_t>::max() - unit.value() * 8) {
    return fail(TableErrorKind::kTooLarge);
  }
  const PhysAddr end = span->end().align_up(unit);
  const std::uint64_t units = (end - begin) / unit;
  const Bytes bitmap{(units + 7) / 8};
  const Bytes padded{(bitmap.value() + 7) / 8 * 8};
  return TableLayout{.unit = unit,
                     .covered = *PhysRange::make(begin, begin + unit * (bitmap.value() * 8)),
                     .bitmap = bitmap,
                     .table = Bytes{sizeof(wire::TableHeader)} + padded,
                     .index = index_words(bitmap)};
}

std::expected<void, TableError> UnacceptedTable::build(const MemoryMap& map,
                                                       const TableLayout& layout,
                                                       std::span<std::byte> storage, PhysAddr where,
                                                       std::span<std::uint64_t> index,
                                                       AcceptNow accept_now) {
  ACCEDE_ASSERT(!present());
  const bool aligned = reinterpret_cast<std::uintptr_t>(storage.data()) % sizeof(Word) == 0;
  if (!aligned || storage.size() < layout.table.value() ||
      (!index.empty() && index.size() < layout.index)) {
    return fail(TableErrorKind::kStorage);
  }
  const auto table = storage.first(layout.table.value());
  write_header(table, layout);
  const auto used = table.first(sizeof(wire::TableHeader) + layout.bitmap.value());
  adopt(used, where,
        {.unit_size = layout.unit, .covered = layout.covered, .bitmap_size = layout.bitmap}, index);
  std::fill(some_.begin(), some_.end(), Word{0});
  std::fill(full_.begin(), full_.end(), Word{0});
  std::uint64_t units = 0;
  std::size_t written = 0;  // regions ascend, so each byte of the bitmap is written once
  for (const MemoryRegion& region : map.regions()) {
    if (region.kind != MemoryKind::kUnaccepted) {
      continue;
    }
    const Split parts = split(region.range, layout.unit);
    for (const PhysRange now : {parts.head, parts.tail}) {
      if (now.empty()) {
        continue;
      }
      if (const PlatformResult result = accept_now(now); !result) {
        drop();
        return accept_failed(result.error());
      }
    }
    if (!parts.units.empty()) {
      set_run(bits_of(parts.units), written);
      units += parts.units.size() / layout.unit;
    }
  }
  zero_bytes_to(written, bitmap_.size());
  std::fill(table.begin() + static_cast<std::ptrdiff_t>(used.size()), table.end(), std::byte{0});
  unaccepted_units_.store(units, std::memory_order_release);
  return {};
}

std::expected<void, TableError> UnacceptedTable::attach(std::span<std::byte> table, PhysAddr where,
                                                        std::span<std::uint64_t> index) {
  ACCEDE_ASSERT(!present());
  if (reinterpret_cast<std::uintptr_t>(table.data()) % sizeof(Word) != 0) {
    return fail(TableErrorKind::kUnaligned);
  }
  const auto header = wire::parse_header(table);
  if (!header) {
    return std::unexpected{TableError{.kind = TableErrorKind::kMalformed,
                                      .offset = header.error().offset,
                                      .parse = header.error().kind}};
  }
  if (header->bitmap_size == Bytes{0}) {
    return {};
  }
  const Bytes used = Bytes{sizeof(wire::TableHeader)} + header->bitmap_size;
  const auto place = PhysRange::make(where, used);
  if (!place) {
    return std::unexpected{TableError{.kind = TableErrorKind::kMalformed,
                                      .offset = offsetof(wire::TableHeader, bitmap_bytes),
                                      .parse = wire::ParseErrorKind::kCoverageOverflow}};
  }
  const bool usable = index.size() >= index_words(header->bitmap_size);
  adopt(table.first(used.value()), where, *header, usable ? index : std::span<std::uint64_t>{});
  std::fill(some_.begin(), some_.end(), ~Word{0});  // nothing is known yet
  std::fill(full_.begin(), full_.end(), Word{0});
  if (any_unaccepted(*place)) {
    drop();
    return fail(TableErrorKind::kUnacceptedTable);
  }
  fill_index();
  return {};
}

std::optional<PhysRange> UnacceptedTable::first_beyond(const MemoryMap& map) const {
  const auto is_ram = [](const MemoryRegion& region) {
    return region.kind == MemoryKind::kUsable || region.kind == MemoryKind::kUnaccepted;
  };
  auto region = map.regions().begin();
  PhysRange rest = covered_;
  while (const auto run = next_run(rest)) {
    PhysAddr at = run->begin();
    while (at < run->end()) {
      region = std::find_if(region, map.regions().end(), [&](const MemoryRegion& candidate) {
        return is_ram(candidate) && candidate.range.end() > at;
      });
      const bool found = region != map.regions().end();
      const PhysAddr begins = found ? std::min(region->range.begin(), run->end()) : run->end();
      if (begins > at) {
        return PhysRange::make(at, begins);
      }
      at = std::min(region->range.end(), run->end());
    }
    rest = *PhysRange::make(run->end(), rest.end());
  }
  return std::nullopt;
}

void UnacceptedTable::adopt(std::span<std::byte> table, PhysAddr where, const wire::Header& header,
                            std::span<std::uint64_t> index) {
  table_ = table;
  bitmap_ = table.subspan(sizeof(wire::TableHeader), header.bitmap_size.value());
  where_ = where;
  unit_ = header.unit_size;
  unit_shift_ = static_cast<unsigned>(std::countr_zero(unit_.value()));
  covered_ = header.covered;
  bits_ = header.bitmap_size.value() * 8;
  full_words_ = header.bitmap_size.value() / sizeof(Word);
  use_index(index);
}

void UnacceptedTable::use_index(std::span<std::uint64_t> index) {
  const std::size_t words = index.empty() ? 0 : index_words(Bytes{bitmap_.size()}) / 2;
  some_ = index.first(words);
  full_ = index.subspan(words, words);
}

void UnacceptedTable::drop() {
  table_ = {};
  bitmap_ = {};
  use_index({});
  where_ = {};
  unit_ = wire::kLinuxX86UnitSize;
  unit_shift_ = static_cast<unsigned>(std::countr_zero(unit_.value()));
  covered_ = {};
  bits_ = 0;
  full_words_ = 0;
  unaccepted_units_.store(0, std::memory_order_relaxed);
}

Bytes unusable_without_platform(const MemoryMap& map, PlatformKind platform) {
  return platform == PlatformKind::kNone ? map.bytes_of(MemoryKind::kUnaccepted) : Bytes{0};
}

}  // namespace accede::guest
