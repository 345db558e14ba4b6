// The C-bit in the page tables of a firmware that knows nothing of it.
#pragma once

#include "accede/base/phys_window.hpp"
#include "accede/emulator/machine.hpp"

namespace accede::emulator {

/// Sets the C-bit in every leaf of the four-level tables at `root` (CR3, or the table's address)
/// that maps RAM or the emulator's memory. Devices are left as they are, and so are the entries
/// that refer to tables: the firmware goes on reading and changing its tables with addresses of its
/// own. Precondition: the tables are the firmware's and in RAM; they are trusted.
void set_c_bit(PhysWindow window, PhysAddr root, const MachineMap& machine);

}  // namespace accede::emulator
