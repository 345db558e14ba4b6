// Private memory on memfd: works on every Linux, without KVM.
#pragma once

#include "accede/base/units.hpp"
#include "accede/host/linux_memory_file.hpp"
#include "accede/host/private_memory_types.hpp"

#include <expected>
#include <string>

namespace accede::host {

/// As many memfds of `size` bytes as the VM type has memory objects. Holes are punched, so memory
/// is given back and content is gone; a private page in place is out of the host mapping's reach.
/// The kernel may move and swap the pages. Fails with a line of text.
[[nodiscard]] std::expected<LinuxFileBacking, std::string> linux_memfd(VmType type, Bytes size);

}  // namespace accede::host
