// How much host memory backs the guest's RAM.
#pragma once

#include "accede/base/units.hpp"

#include <sys/types.h>
#include <optional>
#include <string_view>

namespace accede::cli {

/// The resident bytes of the mapping that is the guest's RAM, from the text of /proc/PID/smaps:
/// the anonymous mapping of exactly `guest_ram` bytes; when there is none (the kernel merged it
/// with a neighbour), the smallest that is at most 64 MiB larger. Nothing when there is neither.
[[nodiscard]] std::optional<Bytes> find_guest_ram(std::string_view smaps, Bytes guest_ram);

/// The same for a running process.
[[nodiscard]] std::optional<Bytes> backed_guest_ram(pid_t process, Bytes guest_ram);

}  // namespace accede::cli
