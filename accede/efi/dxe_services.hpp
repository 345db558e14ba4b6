// Finding the firmware's DXE services, and keeping its tables sound when a service is replaced.
#pragma once

#include "accede/abi/dxe_services.hpp"
#include "accede/efi/firmware.hpp"

namespace accede::efi {

/// Nothing when the firmware has none, or a table of another kind in their place.
[[nodiscard]] abi::efi::DxeServices* find_dxe_services(const Firmware& firmware);

/// Makes the check sum of a table right again after one of its entries was replaced.
void sum_up(const Firmware& firmware, abi::efi::TableHeader& table);

}  // namespace accede::efi
