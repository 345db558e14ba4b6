#include "accede/firmware/linux_boot_params.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <utility>

namespace accede::firmware {
namespace {

using abi::linux_boot::BootParams;
using enum LinuxBootErrorKind;

constexpr std::uint32_t low(std::uint64_t value) {
  return static_cast<std::uint32_t>(value);
}
constexpr std::uint32_t high(std::uint64_t value) {
  return static_cast<std::uint32_t>(value >> 32);
}

std::expected<void, LinuxBootError> check(const LinuxSetup& setup, const LinuxHandOver& given) {
  if (const auto kernel = setup.check_kernel(given.kernel); !kernel) {
    return kernel;
  }
  if (const auto initrd = setup.check_initrd(given.initrd); !initrd) {
    return initrd;
  }
  const auto extension =
      PhysRange::make(given.extension.where, Bytes{given.extension.memory.size()});
  if (!extension) {
    return std::unexpected{LinuxBootError{kAbove4G, given.extension.where.value()}};
  }
  for (const PhysRange data : {given.command_line, *extension}) {
    if (const auto reach = setup.check_reach(data); !reach) {
      return reach;
    }
  }
  const Bytes needed = E820Extension::bytes_for(given.e820.size());
  if (given.extension.memory.size() < needed.value()) {
    return std::unexpected{
        LinuxBootError{kExtensionStorage, needed.value(), given.extension.memory.size()}};
  }
  constexpr std::uint64_t kMostMapBytes = std::numeric_limits<std::uint32_t>::max();
  if (given.efi.memory_map.size().value() > kMostMapBytes) {
    return std::unexpected{
        LinuxBootError{kE820Storage, given.efi.memory_map.size().value(), kMostMapBytes}};
  }
  return {};
}

abi::linux_boot::EfiInfo efi_info(const EfiHandOver& efi) {
  const std::uint64_t map = efi.memory_map.begin().value();
  return {.signature = abi::linux_boot::kEfiLoader64,
          .systab = low(efi.system_table.value()),
          .memdesc_size = static_cast<std::uint32_t>(efi.stride),
          .memdesc_version = efi.descriptor_version,
          .memmap = low(map),
          .memmap_size = low(efi.memory_map.size().value()),
          .systab_hi = high(efi.system_table.value()),
          .memmap_hi = high(map)};
}

/// Precondition: the extension has room for what the page does not hold.
void describe_memory(BootParams& params, std::span<const abi::e820::Entry> map,
                     const E820Extension& extension) {
  const std::size_t here = std::min(map.size(), params.e820_table.size());
  std::ranges::copy(map.first(here), params.e820_table.begin());
  params.e820_entries = static_cast<std::uint8_t>(here);
  const std::span rest = std::as_bytes(map.subspan(here));
  if (rest.empty()) {
    return;
  }
  const abi::linux_boot::SetupData head{.next = 0,
                                        .type = abi::linux_boot::kSetupE820Ext,
                                        .length = static_cast<std::uint32_t>(rest.size())};
  const auto raw = std::bit_cast<std::array<std::byte, sizeof(head)>>(head);
  std::ranges::copy(rest, std::ranges::copy(raw, extension.memory.begin()).out);
  params.hdr.setup_data = extension.where.value();
}

}  // namespace

std::expected<void, LinuxBootError> fill_boot_params(BootParams& params, const LinuxSetup& setup,
                                                     const LinuxHandOver& given) {
  if (const auto good = check(setup, given); !good) {
    return good;
  }
  const auto page = std::as_writable_bytes(std::span{&params, 1});
  std::ranges::fill(page, std::byte{});
  std::ranges::copy(setup.bytes(), page.begin() + abi::linux_boot::kSetupHeaderOffset);

  auto& header = params.hdr;
  header.type_of_loader = abi::linux_boot::kUndefinedLoader;
  header.setup_data = 0;
  if (high(given.kernel.begin().value()) == 0) {
    header.code32_start = low(given.kernel.begin().value());
  }
  const std::uint64_t command_line = given.command_line.begin().value();
  header.cmd_line_ptr = low(command_line);
  params.ext_cmd_line_ptr = high(command_line);
  const bool has_initrd = !given.initrd.empty();
  const std::uint64_t initrd = has_initrd ? given.initrd.begin().value() : 0;
  const std::uint64_t initrd_bytes = given.initrd.size().value();
  header.ramdisk_image = low(initrd);
  params.ext_ramdisk_image = high(initrd);
  header.ramdisk_size = low(initrd_bytes);
  params.ext_ramdisk_size = high(initrd_bytes);

  params.acpi_rsdp_addr = given.acpi_rsdp.value();
  params.efi_info = efi_info(given.efi);
  describe_memory(params, given.e820, given.extension);
  return {};
}

}  // namespace accede::firmware
