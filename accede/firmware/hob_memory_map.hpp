// The memory map that a HOB list describes.
#pragma once

#include "accede/firmware/hob_error.hpp"
#include "accede/firmware/hob_list.hpp"
#include "accede/guest/memory_map.hpp"

#include <cstdint>
#include <expected>
#include <span>

namespace accede::firmware {

/// How a list says that memory must be accepted first. Resource type 7 means so in PI 1.8, and did
/// in edk2 under another name; VMMs that are older, or never followed, press an older type into
/// service. The list does not tell: when type 7 is in it the dialect is kStandard
/// (HobList::names_unaccepted); when it is not, either everything was accepted or the VMM is of
/// another kind, and only the one who knows it can say which.
enum class HobDialect : std::uint8_t {
  kStandard,  ///< type 7 is pending; system memory was added by the VMM; reserved is reserved
  kSystemIsPending,    ///< system memory is pending; reserved was added by the VMM; 7 is an error
  kReservedIsPending,  ///< reserved is pending; system memory was added by the VMM; 7 is an error
};

/// The regions lie in `storage`, which needs one for each resource that is memory.
///
/// System memory that is not present, initialised and tested is reserved, persistent memory is
/// persistent, whatever the dialect. Devices in the memory space are in no region, but memory that
/// lies where a device is said to be is an error. I/O ports and HOBs that are no resources are
/// ignored: what a phase allocated is its own business.
///
/// The list is not trusted: any order gives the same map; empty resources are ignored; resources of
/// one kind may overlap (they merge).
/// Errors: those of resources; the offset is the later HOB's where two contradict each other.
[[nodiscard, gnu::cold]] std::expected<guest::MemoryMap, HobError> map_from_hobs(
    const HobList& list, HobDialect dialect, std::span<guest::MemoryRegion> storage);

}  // namespace accede::firmware
