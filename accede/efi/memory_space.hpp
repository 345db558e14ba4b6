// Claimed memory as the firmware's DXE services show it: what an SEV-SNP or TDX firmware leaves
// unaccepted is unaccepted memory to its drivers too, and becomes system memory by their services.
#pragma once

#include "accede/efi/firmware.hpp"
#include "accede/efi/memory_plan.hpp"

namespace accede::efi {

/// From now on GetMemorySpaceDescriptor shows what `plan` leaves, which was claimed, as
/// unaccepted. RemoveMemorySpace takes a part of it away, AddMemorySpace gives that back as system
/// memory: free, and conventional in the memory map. The caller accepts it before that, as with any
/// firmware. `plan` outlives boot services. Once per program. Without DXE services: nothing.
/// GetMemorySpaceMap is the firmware's own, to which claimed memory is system memory.
void show_in_memory_space(const Firmware& firmware, const MemoryPlan& plan);

}  // namespace accede::efi
