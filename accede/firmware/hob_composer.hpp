// Making a HOB list: what a VMM puts into a confidential VM for its firmware.
#pragma once

#include "accede/abi/hob.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/firmware/hob_memory_map.hpp"
#include "accede/guest/memory_map.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

namespace accede::firmware {

enum class ComposeErrorKind : std::uint8_t {
  kNoRoom,      ///< bytes that the list needs, as far as it got
  kNotSayable,  ///< number of the resource: a kind of memory that the dialect has no word for
  kUnaligned,   ///< number of the resource: memory that does not consist of whole pages
};
[[nodiscard]] std::string_view to_string(ComposeErrorKind kind);

struct ComposeError {
  ComposeErrorKind kind;
  std::size_t value;  ///< what the comment of the kind names

  friend bool operator==(const ComposeError&, const ComposeError&) = default;
};

/// Writes a HOB list into memory of the caller, as QEMU does: the handoff HOB, resources with
/// attributes 7 and no owner, the end marker; the handoff HOB names the address behind the end
/// marker as the end. What it writes, HobList::parse takes, and map_from_hobs with the same dialect
/// gives back the memory that was added. Thread-compatible.
class HobComposer {
 public:
  /// Bytes of a list with so many resources.
  [[nodiscard]] static constexpr Bytes size_of(std::size_t resources) {
    return Bytes{sizeof(abi::hob::Handoff) + sizeof(abi::hob::Header) +
                 resources * sizeof(abi::hob::ResourceDescriptor)};
  }

  /// `where`: the list's physical address in the VM, a multiple of 8.
  HobComposer(std::span<std::byte> memory, PhysAddr where, HobDialect dialect);

  /// Adds memory, in any order; an empty region adds nothing. Overlaps are the caller's business:
  /// a tester wants them. Errors: all; a region that is refused leaves the list as it was.
  [[nodiscard]] std::expected<void, ComposeError> add(const guest::MemoryRegion& region);
  /// Adds a resource as it is. Errors: kNoRoom.
  [[nodiscard]] std::expected<void, ComposeError> add(abi::hob::Resource resource,
                                                      std::uint32_t attributes, PhysRange range);

  /// Ends the list, and gives all of it. Nothing may be added afterwards. Errors: kNoRoom.
  [[nodiscard]] std::expected<std::span<const std::byte>, ComposeError> finish();

 private:
  std::span<std::byte> memory_;
  PhysAddr where_;
  HobDialect dialect_;
  std::size_t resources_ = 0;
};

/// All regions of a map. Errors: HobComposer's.
[[nodiscard]] std::expected<std::span<const std::byte>, ComposeError> compose_hobs(
    const guest::MemoryMap& map, HobDialect dialect, PhysAddr where, std::span<std::byte> memory);

}  // namespace accede::firmware
