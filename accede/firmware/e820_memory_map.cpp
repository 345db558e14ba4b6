#include "accede/firmware/e820_memory_map.hpp"

#include "accede/abi/e820.hpp"
#include "accede/base/assert.hpp"

#include <expected>
#include <limits>
#include <optional>

namespace accede::firmware {
namespace {

using abi::e820::Entry;
using abi::e820::Type;
using guest::MapError;
using guest::MapErrorKind;
using guest::MemoryKind;
using guest::MemoryMap;
using guest::MemoryRegion;

constexpr Bytes kPage = 4_KiB;
/// ACPI's AddressRangeUnaccepted.
constexpr std::uint32_t kUnacceptedType = 8;

/// Pending RAM is called usable until its edges have been rounded.
MemoryKind kind_of(std::uint32_t type, E820Dialect dialect) {
  if (type == kUnacceptedType) {
    return dialect == E820Dialect::kRamIsPending ? MemoryKind::kUsable : MemoryKind::kUnaccepted;
  }
  switch (static_cast<Type>(type)) {
    case Type::kRam:
      return MemoryKind::kUsable;
    case Type::kAcpiReclaim:
      return MemoryKind::kAcpiReclaim;
    case Type::kAcpiNvs:
      return MemoryKind::kAcpiNvs;
    case Type::kUnusable:
      return MemoryKind::kUnusable;
    case Type::kPersistent:
      return MemoryKind::kPersistent;
    case Type::kReserved:
      break;
  }
  return MemoryKind::kReserved;
}

std::unexpected<MapError> fail(MapErrorKind kind, std::size_t entry) {
  return std::unexpected{MapError{kind, entry * sizeof(Entry)}};
}

Entry entry_at(std::span<const std::byte> entries, std::size_t index) {
  return *ByteReader{entries}.read_struct<Entry>(index * sizeof(Entry));
}

/// Every entry that is not empty as a region, in the order of the input.
std::expected<std::size_t, MapError> collect(std::span<const std::byte> entries,
                                             E820Dialect dialect, std::span<MemoryRegion> storage) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < entries.size() / sizeof(Entry); ++i) {
    const Entry entry = entry_at(entries, i);
    const auto range = PhysRange::make(PhysAddr{entry.address}, Bytes{entry.bytes});
    if (!range) {
      return fail(MapErrorKind::kEntryWraps, i);
    }
    if (range->empty()) {
      continue;
    }
    if (count == storage.size()) {
      return fail(MapErrorKind::kTooManyEntries, i);
    }
    storage[count++] = {*range, kind_of(entry.type, dialect)};
  }
  return count;
}

/// The entry that became region `index` in collect().
std::size_t entry_of(std::span<const std::byte> entries, std::size_t index) {
  std::size_t entry = 0;
  for (std::size_t passed = 0;; ++entry) {
    if (entry_at(entries, entry).bytes != 0 && passed++ == index) {
      return entry;
    }
  }
}

/// The whole pages inside.
PhysRange shrink(PhysRange range) {
  const PhysAddr end = range.end().align_down(kPage);
  if (end <= range.begin()) {
    return PhysRange{};
  }
  return PhysRange::make(range.begin().align_up(kPage), end).value_or(PhysRange{});
}

/// The pages that `range` touches, or nothing when the last of them ends at 2^64.
std::optional<PhysRange> grow(PhysRange range) {
  if (range.end().value() > std::numeric_limits<std::uint64_t>::max() - (kPage.value() - 1)) {
    return std::nullopt;
  }
  return PhysRange::make(range.begin().align_down(kPage), range.end().align_up(kPage));
}

/// A region that cannot be rounded.
struct RoundingError {
  MapErrorKind kind;
  std::size_t region;  ///< its index in collect()
};

/// Makes sorted regions consist of whole pages; returns how many are left.
std::expected<std::size_t, RoundingError> round_to_pages(std::span<MemoryRegion> regions) {
  std::size_t kept = 0;
  for (MemoryRegion region : regions) {
    if (region.kind == MemoryKind::kUsable) {
      region.range = shrink(region.range);
      if (!region.range.empty()) {
        regions[kept++] = region;
      }
      continue;
    }
    const auto grown = grow(region.range);
    if (!grown) {
      return std::unexpected{RoundingError{MapErrorKind::kEntryWraps, region.entry}};
    }
    region.range = *grown;
    if (kept != 0 && region.range.begin() < regions[kept - 1].range.end() &&
        regions[kept - 1].kind != region.kind) {
      return std::unexpected{RoundingError{MapErrorKind::kOverlap, region.entry}};
    }
    regions[kept++] = region;
  }
  return kept;
}

}  // namespace

MemoryMap::Result map_from_e820(std::span<const std::byte> entries, E820Dialect dialect,
                                std::span<MemoryRegion> storage) {
  const auto collected = collect(entries, dialect, storage);
  if (!collected) {
    return std::unexpected{collected.error()};
  }
  const MemoryMap::Result exact = MemoryMap::from_regions(storage.first(*collected));
  if (!exact) {
    return fail(exact.error().kind, entry_of(entries, exact.error().offset / sizeof(MemoryRegion)));
  }
  const auto rounded = round_to_pages(storage.first(exact->regions().size()));
  if (!rounded) {
    return fail(rounded.error().kind, entry_of(entries, rounded.error().region));
  }
  const std::span regions = storage.first(*rounded);
  if (dialect == E820Dialect::kRamIsPending) {
    for (MemoryRegion& region : regions) {
      region.kind = region.kind == MemoryKind::kUsable ? MemoryKind::kUnaccepted : region.kind;
    }
  }
  const MemoryMap::Result map = MemoryMap::from_regions(regions);
  ACCEDE_ASSERT(map);
  return map;
}

}  // namespace accede::firmware
