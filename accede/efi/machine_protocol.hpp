// What the launcher offers to the loader that it starts: telling the emulator who runs. Only our
// machine has it; a loader that does not find it is on another machine and tells nobody.
#pragma once

#include "accede/abi/efi.hpp"

#include <cstdint>

namespace accede::efi {

/// A private protocol. A loader that leaves boot services itself works on after that, so the
/// launcher cannot know when the kernel begins.
struct MachineProtocol {
  static constexpr abi::efi::Guid kGuid{
      0x0C9A41B2, 0x7A1D, 0x4D0E, {0x9B, 0x5C, 0xE1, 0x6F, 0x2A, 0x83, 0x47, 0xD5}};
  static constexpr std::uint64_t kRevision = 1;

  std::uint64_t revision;
  /// From now on the loader says when the kernel begins. Before ExitBootServices.
  void(ACCEDE_EFIAPI* loader_exits_boot_services)(MachineProtocol*);
  /// The kernel begins. After ExitBootServices too, as long as the launcher's memory is untouched.
  void(ACCEDE_EFIAPI* kernel_begins)(MachineProtocol*);
};

}  // namespace accede::efi
