// Accepting in a kernel's place what the firmware left unaccepted, and telling the firmware so.
#pragma once

#include "accede/abi/dxe_services.hpp"
#include "accede/efi/firmware.hpp"

#include <string_view>

namespace accede::efi::shim {

struct Accepted {
  Bytes now{};    ///< accepted by this call, and conventional in the memory map since
  Bytes lost{};   ///< not there any more: accepting it failed, or the firmware did not take it back
  Bytes left{};   ///< still unaccepted
  Failure why{};  ///< about `lost` and `left`, of what went wrong first
};

/// The unaccepted memory of this machine and the two services that end it. Thread-compatible.
/// Before ExitBootServices.
class UnacceptedMemory {
 public:
  /// Reserves what accept_all() needs, so that it allocates nothing where it can help it.
  [[nodiscard]] static Result<UnacceptedMemory> find(const Firmware& firmware);

  /// What the memory map shows as unaccepted now.
  [[nodiscard]] Bytes total();
  /// Each range is removed from the firmware's memory space, accepted
  /// (EDKII_MEMORY_ACCEPT_PROTOCOL) and added as system memory: the calls that OVMF's own AmdSevDxe
  /// makes. Whatever fails, nobody is shown memory as unaccepted that is accepted in part, which a
  /// kernel would accept again.
  [[nodiscard]] Accepted accept_all();

  /// Gives the reserve back.
  void release();

 private:
  explicit UnacceptedMemory(const Firmware& firmware) : firmware_{&firmware} {}

  [[nodiscard]] Result<abi::efi::MemoryMapView> read_map();
  void accept_range(PhysRange range, Accepted& result);
  void accept_part(const abi::efi::MemorySpaceDescriptor& space, PhysRange part, Accepted& result);

  const Firmware* firmware_;
  Firmware::MemoryMap map_{};
  abi::efi::MemoryAccept* acceptor_ = nullptr;
  abi::efi::DxeServices* services_ = nullptr;
};

}  // namespace accede::efi::shim
