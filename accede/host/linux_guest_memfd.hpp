// Private memory on guest_memfd: files of KVM that no process can touch.
#pragma once

#include "accede/base/units.hpp"
#include "accede/host/linux_memory_file.hpp"
#include "accede/host/private_memory_types.hpp"

#include <cstdint>
#include <expected>
#include <string>

namespace accede::host {

/// What the kernel offers, asked of a VM of the default type.
struct GuestMemfdSupport {
  bool guest_memfd = false;        ///< KVM_CAP_GUEST_MEMFD
  bool memory_attributes = false;  ///< KVM_CAP_MEMORY_ATTRIBUTES knows PRIVATE
  bool host_mapping = false;       ///< KVM_CAP_GUEST_MEMFD_FLAGS: MMAP and INIT_SHARED
};
/// Fails with a line of text that says why there is none: no /dev/kvm, no permission, ...
[[nodiscard]] std::expected<GuestMemfdSupport, std::string> guest_memfd_support();

enum class GuestMemfdAccess : std::uint8_t {
  kNone,  ///< no process can map or write it: initial content comes by the platform's launch calls
  kMapped,  ///< mapped and shared from the start (GUEST_MEMFD_FLAG_MMAP, _INIT_SHARED): in place
};

/// A guest_memfd of `size` bytes, for both sides with kMapped, else for the private one beside a
/// memfd. Its pages do not move and are not swapped. The KVM VM that it belongs to has no vCPU and
/// no slot: attributes are PrivateMemory's; to hand the file to a VM that runs, bind fd().
/// Fails with a line of text. Precondition: the VM type has as many memory objects.
[[nodiscard]] std::expected<LinuxFileBacking, std::string> linux_guest_memfd(
    VmType type, Bytes size, GuestMemfdAccess access);

}  // namespace accede::host
