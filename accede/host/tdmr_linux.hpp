// How Linux builds its TDMRs, to compare a plan with: one TDMR for each region of RAM.
// Source: reference: TDX fact sheet, section 6 (how Linux builds the list).
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/tdmr_check.hpp"
#include "accede/host/tdmr_memory.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace accede::host {

enum class LinuxTdmrOutcome : std::uint8_t {
  kInitializes,
  kTooManyTdmrs,   ///< -ENOSPC
  kTooManyAreas,   ///< -ENOSPC: "TDMR reserved areas exhausted"
  kNoRoomForPamt,  ///< -ENOMEM
  kNoRam,          ///< no region of RAM to make a TDMR of
  kOutsideCmrs,    ///< TDH.SYS.CONFIG refuses a TDMR: RAM that is in no CMR
};

struct LinuxTdmrs {
  LinuxTdmrOutcome outcome{};
  std::size_t tdmrs = 0;        ///< it needs; may be more than the module has
  std::size_t areas = 0;        ///< of all TDMRs, as many as they need
  std::size_t worst_areas = 0;  ///< of the TDMR that needs most
  PhysRange worst;              ///< that TDMR; kNoRoomForPamt: the one without room;
                                ///< kOutsideCmrs: the RAM that is in no CMR
  Bytes pamt;
};

/// What Linux does with the memory map: RAM from 1 MiB on of the kinds that the policy includes,
/// regions split by node, one TDMR each. `policy.holes`: kOfMemoryMap is Linux as released,
/// kOfCmrs is Linux with the patch that looks for holes in the CMRs. Metadata is placed at the top
/// of its node's largest region, else of the first of any node that has room, without regard to
/// holes. Precondition: check_input() takes the input.
[[nodiscard]] LinuxTdmrs plan_as_linux(const TdmrMachine& machine,
                                       std::span<const MemoryRange> memory,
                                       const TdmrPolicy& policy);

}  // namespace accede::host
