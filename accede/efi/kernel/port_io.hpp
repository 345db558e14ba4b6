// Port I/O on every platform.
#pragma once

#include "accede/efi/kernel/host_link.hpp"

#include <cstdint>

namespace accede::efi::kernel {

/// Reads and writes I/O ports. In a TD every access is a TDVMCALL<Instruction.IO>, in an SNP guest
/// a call through the GHCB: neither must rely on its host letting IN and OUT through. A read that
/// the host refuses is all ones, a write that it refuses is lost, as on a bus where nobody answers.
/// A value type; stateless.
class PortIo {
 public:
  constexpr explicit PortIo(HostLink host) : host_{host} {}

  [[nodiscard]] std::uint8_t in8(std::uint16_t port) const;
  void out8(std::uint16_t port, std::uint8_t value) const;

 private:
  HostLink host_;
};

}  // namespace accede::efi::kernel
