#include "accede/efi/dxe_services.hpp"

#include <algorithm>
#include <span>

namespace accede::efi {

abi::efi::DxeServices* find_dxe_services(const Firmware& firmware) {
  const abi::efi::SystemTable& system = firmware.system();
  const std::span tables{system.configuration_table, system.number_of_table_entries};
  const auto found =
      std::ranges::find(tables, abi::efi::kDxeServicesTable, &abi::efi::ConfigurationTable::guid);
  if (found == tables.end() || found->table == nullptr) {
    return nullptr;
  }
  auto* const services = static_cast<abi::efi::DxeServices*>(found->table);
  const bool sound = services->header.signature == abi::efi::kDxeServicesSignature &&
                     services->header.header_size >= sizeof(abi::efi::DxeServices);
  return sound ? services : nullptr;
}

void sum_up(const Firmware& firmware, abi::efi::TableHeader& table) {
  table.crc32 = 0;
  std::uint32_t crc = 0;
  firmware.boot().calculate_crc32(&table, table.header_size, &crc);
  table.crc32 = crc;
}

}  // namespace accede::efi
