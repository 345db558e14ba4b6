// The memory map of the machine in one form, whoever reported it.
#pragma once

#include "accede/base/phys_range.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

namespace accede::guest {

using namespace std::string_view_literals;

enum class MemoryKind : std::uint8_t {
  kUsable,       ///< RAM that may be used and is accepted
  kUnaccepted,   ///< RAM that must be accepted first (EFI type 15)
  kReserved,     ///< not ours, or not memory
  kAcpiReclaim,  ///< RAM with tables that the operating system may give up; survives kexec
  kAcpiNvs,      ///< RAM that belongs to the firmware
  kUnusable,     ///< RAM with errors
  kPersistent,   ///< persistent memory
};
[[nodiscard]] std::string_view to_string(MemoryKind kind);

struct MemoryRegion {
  PhysRange range;
  MemoryKind kind = MemoryKind::kReserved;
  std::uint32_t entry = 0;  ///< index of the input entry it came from (the first, when merged)

  friend bool operator==(const MemoryRegion&, const MemoryRegion&) = default;
};

enum class MapErrorKind : std::uint8_t {
  kBadStride,       ///< descriptors closer together than a descriptor is long
  kUnalignedEntry,  ///< an EFI descriptor or an unaccepted range that is not page aligned
  kEntryWraps,      ///< an entry that ends beyond the 64-bit address space
  kOverlap,         ///< two entries of different kinds claim the same memory
  kTooManyEntries,  ///< more entries than the storage holds
};
[[nodiscard]] std::string_view to_string(MapErrorKind kind);

struct MapError {
  MapErrorKind kind;
  std::size_t offset;  ///< of the entry that is wrong, in bytes from the start of the input

  friend bool operator==(const MapError&, const MapError&) = default;
};

/// A memory map, sorted. Invariants: regions ascend, do not overlap, are not empty, and neighbours
/// of one kind that touch are one region. Does not own its regions: they lie in the storage that
/// the factory was given. Thread-compatible.
///
/// The input comes from firmware and host and is not trusted: any order is fine, empty entries are
/// ignored, entries of one kind may overlap (they merge). Entries of different kinds that overlap
/// are an error: no reading of them is safe when one says "unaccepted".
class MemoryMap {
 public:
  using Result = std::expected<MemoryMap, MapError>;

  /// An empty map.
  MemoryMap() = default;

  /// From the descriptors of GetMemoryMap, `stride` bytes apart (UEFI: DescriptorSize). Loader and
  /// boot services memory counts as usable, as after ExitBootServices. A descriptor that does not
  /// fit wholly is not there.
  [[nodiscard, gnu::cold]] static Result from_efi(std::span<const std::byte> map,
                                                  std::size_t stride,
                                                  std::span<MemoryRegion> storage);
  /// From E820 entries, 20 bytes apart. E820 cannot say "unaccepted": combine with a table.
  [[nodiscard, gnu::cold]] static Result from_e820(std::span<const std::byte> entries,
                                                   std::span<MemoryRegion> storage);
  /// From regions in any order (HOBs, a loader's own list), which are sorted in place. `entry` of
  /// the input is ignored; errors give index * sizeof(MemoryRegion) as the offset.
  [[nodiscard, gnu::cold]] static Result from_regions(std::span<MemoryRegion> regions);

  [[nodiscard]] std::span<const MemoryRegion> regions() const { return regions_; }
  /// Bytes of all regions of a kind.
  [[nodiscard, gnu::cold]] Bytes bytes_of(MemoryKind kind) const;
  /// True when the whole of `range` lies in one region of that kind.
  [[nodiscard, gnu::cold]] bool covers(PhysRange range, MemoryKind kind) const;

 private:
  explicit MemoryMap(std::span<const MemoryRegion> regions) : regions_{regions} {}
  [[nodiscard, gnu::cold]] static Result normalise(std::span<MemoryRegion> regions,
                                                   std::size_t stride);

  std::span<const MemoryRegion> regions_;
};

}  // namespace accede::guest
