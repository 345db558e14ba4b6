// Internal to accede/host. What a SEAMCALL holds while it runs.
#pragma once

#include "accede/base/units.hpp"
#include "accede/host/pamt.hpp"
#include "accede/host/seam_module.hpp"

namespace accede::host {

/// A TD whose TDR is locked.
struct SeamModule::LockedTd {
  PamtPage page;  ///< the TDR's
  PhysAddr tdr;
  TdRecord& td;
};

/// The entry of a secure EPT that RCX names.
struct SeamModule::Target {
  PhysAddr gpa;
  SeptLevel level;
};

}  // namespace accede::host
