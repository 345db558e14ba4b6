// A handshake that a kernel cannot find: as if it had dropped the call.
#pragma once

#include "accede/efi/firmware.hpp"

namespace accede::efi {

/// From now on LocateProtocol, by which a Linux looks for the handshake, does not find it. Whoever
/// asks for the handles that have it, as the shim does, still does: it speaks for such a kernel.
/// Once per program.
void hide_handshake_from_kernels(const Firmware& firmware);

}  // namespace accede::efi
