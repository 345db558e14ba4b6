#include "accede/guest/memory_map.hpp"

#include "accede/abi/e820.hpp"
#include "accede/abi/efi.hpp"

#include <algorithm>

namespace accede::guest {

namespace {

constexpr Bytes kPage{4096};

MemoryKind kind_of(abi::efi::MemoryType type) {
  using enum abi::efi::MemoryType;
  switch (type) {
    case kLoaderCode:
    case kLoaderData:
    case kBootServicesCode:
    case kBootServicesData:
    case kConventional:
      return MemoryKind::kUsable;
    case kUnusable:
      return MemoryKind::kUnusable;
    case kAcpiReclaim:
      return MemoryKind::kAcpiReclaim;
    case kAcpiNvs:
      return MemoryKind::kAcpiNvs;
    case kPersistent:
      return MemoryKind::kPersistent;
    case kUnaccepted:
      return MemoryKind::kUnaccepted;
    default:
      return MemoryKind::kReserved;
  }
}

MemoryKind kind_of(abi::e820::Type type) {
  using enum abi::e820::Type;
  switch (type) {
    case kRam:
      return MemoryKind::kUsable;
    case kAcpiReclaim:
      return MemoryKind::kAcpiReclaim;
    case kAcpiNvs:
      return MemoryKind::kAcpiNvs;
    case kUnusable:
      return MemoryKind::kUnusable;
    case kPersistent:
      return MemoryKind::kPersistent;
    case kReserved:
      return MemoryKind::kReserved;
  }
  return MemoryKind::kReserved;
}

bool before(const MemoryRegion& a, const MemoryRegion& b) {
  return a.range.begin() < b.range.begin();
}

std::unexpected<MapError> fail(MapErrorKind kind, std::size_t offset) {
  return std::unexpected{MapError{kind, offset}};
}

}  // namespace

std::string_view to_string(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::kUsable:
      return "usable"sv;
    case MemoryKind::kUnaccepted:
      return "unaccepted"sv;
    case MemoryKind::kReserved:
      return "reserved"sv;
    case MemoryKind::kAcpiReclaim:
      return "ACPI reclaim"sv;
    case MemoryKind::kAcpiNvs:
      return "ACPI NVS"sv;
    case MemoryKind::kUnusable:
      return "unusable"sv;
    case MemoryKind::kPersistent:
      return "persistent"sv;
  }
  return "unknown"sv;
}

std::string_view to_string(MapErrorKind kind) {
  switch (kind) {
    case MapErrorKind::kBadStride:
      return "the descriptors of the memory map are smaller than a descriptor"sv;
    case MapErrorKind::kUnalignedEntry:
      return "an entry of the memory map is not page aligned"sv;
    case MapErrorKind::kEntryWraps:
      return "an entry of the memory map ends beyond the address space"sv;
    case MapErrorKind::kOverlap:
      return "two entries of the memory map claim the same memory as different things"sv;
    case MapErrorKind::kTooManyEntries:
      return "the memory map has more entries than there is room for"sv;
  }
  return "unknown error of the memory map"sv;
}

MemoryMap::Result MemoryMap::from_efi(std::span<const std::byte> map, std::size_t stride,
                                      std::span<MemoryRegion> storage) {
  const auto view = abi::efi::MemoryMapView::make(map, stride);
  if (!view) {
    return fail(MapErrorKind::kBadStride, 0);
  }
  std::size_t count = 0;
  for (std::size_t i = 0; i < view->size(); ++i) {
    const abi::efi::MemoryDescriptor descriptor = (*view)[i];
    const auto range = view->range(i);
    if (!range) {
      const bool aligned = descriptor.physical_start % kPage.value() == 0;
      return fail(aligned ? MapErrorKind::kEntryWraps : MapErrorKind::kUnalignedEntry, i * stride);
    }
    if (range->empty()) {
      continue;
    }
    if (count == storage.size()) {
      return fail(MapErrorKind::kTooManyEntries, i * stride);
    }
    storage[count++] = {*range, kind_of(static_cast<abi::efi::MemoryType>(descriptor.type)),
                        static_cast<std::uint32_t>(i)};
  }
  return normalise(storage.first(count), stride);
}

MemoryMap::Result MemoryMap::from_e820(std::span<const std::byte> entries,
                                       std::span<MemoryRegion> storage) {
  constexpr std::size_t kStride = sizeof(abi::e820::Entry);
  const ByteReader reader{entries};
  std::size_t count = 0;
  for (std::size_t i = 0; i < entries.size() / kStride; ++i) {
    const auto entry = *reader.read_struct<abi::e820::Entry>(i * kStride);
    const auto range = PhysRange::make(PhysAddr{entry.address}, Bytes{entry.bytes});
    if (!range) {
      return fail(MapErrorKind::kEntryWraps, i * kStride);
    }
    if (range->empty()) {
      continue;
    }
    if (count == storage.size()) {
      return fail(MapErrorKind::kTooManyEntries, i * kStride);
    }
    storage[count++] = {*range, kind_of(static_cast<abi::e820::Type>(entry.type)),
                        static_cast<std::uint32_t>(i)};
  }
  return normalise(storage.first(count), kStride);
}

MemoryMap::Result MemoryMap::from_regions(std::span<MemoryRegion> regions) {
  for (std::size_t i = 0; i < regions.size(); ++i) {
    regions[i].entry = static_cast<std::uint32_t>(i);
    const PhysRange range = regions[i].range;
    if (regions[i].kind == MemoryKind::kUnaccepted &&
        (!range.begin().is_aligned(kPage) || !range.end().is_aligned(kPage))) {
      return fail(MapErrorKind::kUnalignedEntry, i * sizeof(MemoryRegion));
    }
  }
  return normalise(regions, sizeof(MemoryRegion));
}

MemoryMap::Result MemoryMap::normalise(std::span<MemoryRegion> regions, std::size_t stride) {
  if (!std::is_sorted(regions.begin(), regions.end(), before)) {
    std::sort(regions.begin(), regions.end(), before);
  }
  std::size_t kept = 0;
  for (const MemoryRegion& next : regions) {
    if (next.range.empty()) {
      continue;
    }
    if (kept == 0 || regions[kept - 1].range.end() < next.range.begin()) {
      regions[kept++] = next;
      continue;
    }
    MemoryRegion& last = regions[kept - 1];
    if (last.kind == next.kind) {
      const PhysAddr end = std::max(last.range.end(), next.range.end());
      last.range = *PhysRange::make(last.range.begin(), end);
      last.entry = std::min(last.entry, next.entry);
    } else if (last.range.end() == next.range.begin()) {
      regions[kept++] = next;
    } else {
      return fail(MapErrorKind::kOverlap, std::max(last.entry, next.entry) * stride);
    }
  }
  return MemoryMap{regions.first(kept)};
}

Bytes MemoryMap::bytes_of(MemoryKind kind) const {
  Bytes sum;
  for (const MemoryRegion& region : regions_) {
    if (region.kind == kind) {
      sum += region.range.size();
    }
  }
  return sum;
}

bool MemoryMap::covers(PhysRange range, MemoryKind kind) const {
  const auto after = std::upper_bound(
      regions_.begin(), regions_.end(), range.begin(),
      [](PhysAddr at, const MemoryRegion& region) { return at < region.range.begin(); });
  if (after == regions_.begin()) {
    return false;
  }
  const MemoryRegion& region = *(after - 1);
  return region.kind == kind && region.range.contains(range);
}

}  // namespace accede::guest
