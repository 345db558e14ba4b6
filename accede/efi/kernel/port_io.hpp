// Port I/O, on a plain machine and in a TD.
#pragma once

#include <cstdint>

namespace accede::efi::kernel {

/// Reads and writes I/O ports. In a TD every access is a TDVMCALL<Instruction.IO>: a TD must not
/// rely on its host letting IN and OUT through. A read that the host refuses is all ones, a write
/// that it refuses is lost, as on a bus where nobody answers. A value type; stateless.
class PortIo {
 public:
  constexpr explicit PortIo(bool tdx) : tdx_{tdx} {}

  [[nodiscard]] std::uint8_t in8(std::uint16_t port) const;
  void out8(std::uint16_t port, std::uint8_t value) const;

 private:
  bool tdx_;
};

}  // namespace accede::efi::kernel
