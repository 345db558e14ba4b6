// Switching the machine off.
#pragma once

#include "accede/base/units.hpp"

#include <cstdint>

namespace accede::efi::kernel {

/// Powers off by the firmware's ResetSystem, called in physical mode. That works after
/// ExitBootServices and after a kexec as long as the memory of the EFI runtime services stays as it
/// is, is mapped at its physical address, and its code is executable. A value type.
class Power {
 public:
  /// No firmware: power_off() does nothing.
  constexpr Power() = default;
  /// `system_table`: the address of the EFI system table; 0: none. An address without the table's
  /// signature, or with runtime services without theirs, counts as none.
  explicit Power(PhysAddr system_table);

  [[nodiscard]] bool available() const { return reset_system_ != 0; }

  /// Returns only when the machine is still on. Interrupts are off from here on.
  void power_off() const;

 private:
  std::uint64_t reset_system_ = 0;
};

}  // namespace accede::efi::kernel
