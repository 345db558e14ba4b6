#include "accede/efi/hidden_handshake.hpp"

#include "accede/efi/dxe_services.hpp"

namespace accede::efi {

namespace {

using abi::efi::BootServices;
using abi::efi::Status;

// A UEFI service has no context argument.
decltype(BootServices::locate_protocol) g_locate_protocol = nullptr;

Status ACCEDE_EFIAPI locate_protocol(const abi::efi::Guid* protocol, void* registration,
                                     void** interface) {
  const bool handshake =
      protocol != nullptr && *protocol == abi::efi::kMemoryAcceptanceHandshakeProtocol;
  if (handshake && interface != nullptr) {
    *interface = nullptr;
    return Status::kNotFound;
  }
  return g_locate_protocol(protocol, registration, interface);
}

}  // namespace

void hide_handshake_from_kernels(const Firmware& firmware) {
  BootServices& boot = firmware.boot();
  g_locate_protocol = boot.locate_protocol;
  boot.locate_protocol = locate_protocol;
  sum_up(firmware, boot.header);
}

}  // namespace accede::efi
