#include "accede/firmware/linux_e820.hpp"

#include "accede/abi/efi.hpp"

#include <algorithm>
#include <optional>

namespace accede::firmware {
namespace {

using abi::e820::Entry;
using abi::e820::Type;
using enum LinuxBootErrorKind;

/// EFI_MEMORY_SP.
constexpr std::uint64_t kSpecialPurpose = 1ULL << 18;
/// ACPI's AddressRangeUnaccepted, which Linux does not read: only while the map is made.
constexpr std::uint32_t kUnacceptedMark = 8;

constexpr std::uint32_t number(Type type) {
  return static_cast<std::uint32_t>(type);
}

std::unexpected<LinuxBootError> fail(LinuxBootErrorKind kind, std::uint64_t value = 0,
                                     std::uint64_t limit = 0) {
  return std::unexpected{LinuxBootError{kind, value, limit}};
}

std::uint32_t type_of(const abi::efi::MemoryDescriptor& descriptor, bool soft_reserve) {
  using enum abi::efi::MemoryType;
  switch (static_cast<abi::efi::MemoryType>(descriptor.type)) {
    case kLoaderCode:
    case kLoaderData:
    case kBootServicesCode:
    case kBootServicesData:
    case kConventional:
      return soft_reserve && (descriptor.attribute & kSpecialPurpose) != 0 ? kE820SoftReserved
                                                                           : number(Type::kRam);
    case kUnusable:
      return number(Type::kUnusable);
    case kAcpiReclaim:
      return number(Type::kAcpiReclaim);
    case kAcpiNvs:
      return number(Type::kAcpiNvs);
    case kPersistent:
      return number(Type::kPersistent);
    case kUnaccepted:
      return kUnacceptedMark;
    default:
      return number(Type::kReserved);
  }
}

std::uint64_t end_of(const Entry& entry) {
  return entry.address + entry.bytes;
}

/// Merges sorted entries of one type that touch or overlap; returns how many are left, or the
/// address where entries of two types overlap.
std::expected<std::size_t, std::uint64_t> merge(std::span<Entry> entries) {
  std::size_t kept = 0;
  for (const Entry next : entries) {
    if (kept != 0 && next.address <= end_of(entries[kept - 1])) {
      Entry& last = entries[kept - 1];
      if (last.type == next.type) {
        last.bytes = std::max(end_of(last), end_of(next)) - last.address;
        continue;
      }
      if (next.address < end_of(last)) {
        return std::unexpected{std::uint64_t{next.address}};
      }
    }
    entries[kept++] = next;
  }
  return kept;
}

/// Every descriptor as an entry, in the order of the map.
std::expected<std::size_t, LinuxBootError> translate(const abi::efi::MemoryMapView& map,
                                                     bool soft_reserve, std::span<Entry> storage) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < map.size(); ++i) {
    const auto range = map.range(i);
    if (!range) {
      return fail(kBadDescriptor, i);
    }
    if (range->empty()) {
      continue;
    }
    if (count == storage.size()) {
      return fail(kE820Storage, map.size(), storage.size());
    }
    storage[count++] = {.address = range->begin().value(),
                        .bytes = range->size().value(),
                        .type = type_of(map[i], soft_reserve)};
  }
  return count;
}

/// Says "RAM" for unaccepted memory or nothing at all; returns how many entries are left.
std::size_t settle_unaccepted(std::span<Entry> entries, UnacceptedMemory unaccepted) {
  if (unaccepted == UnacceptedMemory::kUntold) {
    const auto rest = std::ranges::remove(entries, kUnacceptedMark,
                                          [](const Entry& entry) { return entry.type; });
    return entries.size() - rest.size();
  }
  for (Entry& entry : entries) {
    if (entry.type == kUnacceptedMark) {
      entry.type = number(Type::kRam);
    }
  }
  return entries.size();
}

}  // namespace

std::expected<std::span<Entry>, LinuxBootError> build_e820(std::span<const std::byte> efi_map,
                                                           std::size_t stride, E820Rules rules,
                                                           std::span<Entry> storage) {
  const auto map = abi::efi::MemoryMapView::make(efi_map, stride);
  if (!map) {
    return fail(kBadStride, stride, sizeof(abi::efi::MemoryDescriptor));
  }
  const auto translated = translate(*map, rules.soft_reserve, storage);
  if (!translated) {
    return std::unexpected{translated.error()};
  }
  std::span<Entry> entries = storage.first(*translated);
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.address < b.address; });
  // Overlaps are looked for while unaccepted memory still has a type of its own: what is called
  // RAM and unaccepted at once must not become RAM.
  const auto distinct = merge(entries);
  if (!distinct) {
    return fail(kOverlap, distinct.error());
  }
  entries = entries.first(*distinct);
  entries = entries.first(settle_unaccepted(entries, rules.unaccepted));
  entries = entries.first(*merge(entries));
  const bool has_ram = std::ranges::any_of(
      entries, [](const Entry& entry) { return entry.type == number(Type::kRam); });
  if (!has_ram) {
    return fail(kNoMemory);
  }
  return entries;
}

}  // namespace accede::firmware
