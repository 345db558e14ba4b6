// How much accepted memory a boot loader takes before its kernel can accept any.
#pragma once

#include "accede/base/units.hpp"

namespace accede::firmware {

/// For a kernel and an initrd whose files have these sizes. At its highest the kernel is there as a
/// file or loaded image, and unpacked where it runs: 3.6 times its file for Debian's 6.1, 4.8 times
/// for 6.12. The initrd is there as the firmware's copy and as the kernel's. What firmware and
/// loader keep besides (page tables, lists) is far below 16 MiB. Precondition: the sizes are those
/// of files that fit in memory.
[[nodiscard]] constexpr Bytes loader_room(Bytes kernel, Bytes initrd) {
  return kernel * 6 + initrd * 2 + 16_MiB;
}

}  // namespace accede::firmware
