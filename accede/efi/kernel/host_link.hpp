// How the kernel reaches the host where a confidential guest must ask it.
#pragma once

#include "accede/efi/ghcb_msr.hpp"
#include "accede/efi/kernel/ghcb.hpp"
#include "accede/guest/platform.hpp"

namespace accede::efi::kernel {

using Ghcb = BasicGhcb<GhcbMsr>;

/// TDX: by TDVMCALL. SEV-SNP: through `ghcb`. On a plain machine instructions do it. A value type.
struct HostLink {
  guest::PlatformKind kind = guest::PlatformKind::kNone;
  Ghcb* ghcb = nullptr;  ///< kSnp: lives for ever
};

}  // namespace accede::efi::kernel
