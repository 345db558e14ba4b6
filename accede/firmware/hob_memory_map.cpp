#include "accede/firmware/hob_memory_map.hpp"

#include <algorithm>
#include <optional>

namespace accede::firmware {
namespace {

using abi::hob::Resource;
using abi::hob::ResourceDescriptor;
using guest::MemoryKind;
using guest::MemoryMap;
using guest::MemoryRegion;
using enum HobErrorKind;

constexpr Bytes kPage = 4_KiB;

/// What a resource is to the memory map.
enum class Role : std::uint8_t { kMemory, kDevice, kPorts, kNonsense };

Role role_of(std::uint32_t resource, HobDialect dialect) {
  switch (static_cast<Resource>(resource)) {
    case Resource::kSystemMemory:
    case Resource::kMemoryReserved:
      return Role::kMemory;
    case Resource::kMemoryUnaccepted:
      return dialect == HobDialect::kStandard ? Role::kMemory : Role::kNonsense;
    case Resource::kMemoryMappedIo:
    case Resource::kFirmwareDevice:
    case Resource::kMemoryMappedIoPort:
      return Role::kDevice;
    case Resource::kIo:
    case Resource::kIoReserved:
      return Role::kPorts;
  }
  return Role::kNonsense;
}

/// What memory of this type is when its attributes say nothing else.
MemoryKind kind_of(Resource resource, HobDialect dialect) {
  switch (dialect) {
    case HobDialect::kSystemIsPending:
      return resource == Resource::kSystemMemory ? MemoryKind::kUnaccepted : MemoryKind::kUsable;
    case HobDialect::kReservedIsPending:
      return resource == Resource::kSystemMemory ? MemoryKind::kUsable : MemoryKind::kUnaccepted;
    case HobDialect::kStandard:
      break;
  }
  switch (resource) {
    case Resource::kSystemMemory:
      return MemoryKind::kUsable;
    case Resource::kMemoryUnaccepted:
      return MemoryKind::kUnaccepted;
    default:
      return MemoryKind::kReserved;
  }
}

MemoryKind kind_of(const ResourceDescriptor& descriptor, HobDialect dialect) {
  const MemoryKind kind = kind_of(static_cast<Resource>(descriptor.resource), dialect);
  if (kind == MemoryKind::kReserved) {
    return kind;
  }
  if ((descriptor.attributes & abi::hob::kPersistent) != 0) {
    return MemoryKind::kPersistent;
  }
  // Nobody has tested what nobody has accepted.
  const std::uint32_t needed =
      kind == MemoryKind::kUnaccepted ? abi::hob::kPresent : abi::hob::kTestedMemory;
  return (descriptor.attributes & needed) == needed ? kind : MemoryKind::kReserved;
}

std::unexpected<HobError> fail(HobErrorKind kind, std::size_t offset) {
  return std::unexpected{HobError{kind, offset}};
}

std::expected<PhysRange, HobError> range_of(const HobResource& found, Role role) {
  const auto range =
      PhysRange::make(PhysAddr{found.descriptor.physical_start}, Bytes{found.descriptor.bytes});
  if (!range) {
    return fail(kWraps, found.offset);
  }
  if (role == Role::kMemory &&
      (!range->begin().is_aligned(kPage) || !range->end().is_aligned(kPage))) {
    return fail(kUnaligned, found.offset);
  }
  return *range;
}

/// Every memory resource as a region, in the order of the list; every other one is looked at.
std::expected<std::size_t, HobError> collect(const HobList& list, HobDialect dialect,
                                             std::span<MemoryRegion> storage) {
  std::size_t count = 0;
  for (auto found = list.next_resource(0); found;
       found = list.next_resource(HobList::after(*found))) {
    const Role role = role_of(found->descriptor.resource, dialect);
    if (role == Role::kNonsense) {
      return fail(kUnknownResource, found->offset);
    }
    if ((found->descriptor.attributes & ~abi::hob::kKnownAttributes) != 0) {
      return fail(kUnknownAttribute, found->offset);
    }
    if (role == Role::kPorts) {
      continue;
    }
    const auto range = range_of(*found, role);
    if (!range) {
      return std::unexpected{range.error()};
    }
    if (role == Role::kDevice) {
      continue;
    }
    if (count == storage.size()) {
      return fail(kTooManyResources, found->offset);
    }
    storage[count++] = {*range, kind_of(found->descriptor, dialect)};
  }
  return count;
}

/// The offset of memory resource `index`, counted as collect() counts.
std::size_t offset_of(const HobList& list, HobDialect dialect, std::size_t index) {
  std::size_t count = 0;
  for (auto found = list.next_resource(0); found;
       found = list.next_resource(HobList::after(*found))) {
    if (role_of(found->descriptor.resource, dialect) == Role::kMemory && count++ == index) {
      return found->offset;
    }
  }
  return 0;
}

/// True when a part of `range` is memory that somebody could use.
bool hits_memory(const MemoryMap& map, PhysRange range) {
  const std::span regions = map.regions();
  auto region = std::ranges::upper_bound(regions, range.begin(), {},
                                         [](const MemoryRegion& each) { return each.range.end(); });
  for (; region != regions.end() && region->range.begin() < range.end(); ++region) {
    if (region->kind != MemoryKind::kReserved && region->range.overlaps(range)) {
      return true;
    }
  }
  return false;
}

/// The HOB of the first device that lies in memory.
std::optional<std::size_t> misplaced_device(const HobList& list, HobDialect dialect,
                                            const MemoryMap& map) {
  for (auto found = list.next_resource(0); found;
       found = list.next_resource(HobList::after(*found))) {
    if (role_of(found->descriptor.resource, dialect) == Role::kDevice &&
        hits_memory(map, *range_of(*found, Role::kDevice))) {
      return found->offset;
    }
  }
  return std::nullopt;
}

}  // namespace

std::expected<MemoryMap, HobError> map_from_hobs(const HobList& list, HobDialect dialect,
                                                 std::span<MemoryRegion> storage) {
  const auto count = collect(list, dialect, storage);
  if (!count) {
    return std::unexpected{count.error()};
  }
  const MemoryMap::Result map = MemoryMap::from_regions(storage.first(*count));
  if (!map) {
    // Alignment was checked before, so it is the only thing that can be wrong.
    const std::size_t index = map.error().offset / sizeof(MemoryRegion);
    return fail(kOverlap, offset_of(list, dialect, index));
  }
  if (const auto device = misplaced_device(list, dialect, *map)) {
    return fail(kOverlap, *device);
  }
  return *map;
}

}  // namespace accede::firmware
