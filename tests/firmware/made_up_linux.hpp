// Setup headers and memory maps for tests.
#pragma once

#include "accede/abi/efi.hpp"
#include "accede/abi/linux_boot.hpp"
#include "accede/firmware/linux_setup.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace accede::firmware::test {

using abi::linux_boot::SetupHeader;

inline constexpr Bytes kCode{10 << 20};

/// As Debian's 6.12 has it.
inline SetupHeader debian_header() {
  return {.setup_sects = 39,
          .root_flags = 1,
          .syssize = 0xA0000,
          .ram_size = 0,
          .vid_mode = 0xFFFF,
          .root_dev = 0,
          .boot_flag = abi::linux_boot::kBootFlag,
          .jump = 0x6AEB,
          .header = abi::linux_boot::kHeaderMagic,
          .version = 0x020F,
          .realmode_switch = 0,
          .start_sys_segment = 0x1000,
          .kernel_version = 0x4000,
          .type_of_loader = 0,
          .loadflags = abi::linux_boot::kLoadedHigh,
          .setup_move_size = 0x8000,
          .code32_start = 0x100000,
          .ramdisk_image = 0,
          .ramdisk_size = 0,
          .bootsect_kludge = 0,
          .heap_end_ptr = 0x5000,
          .ext_loader_version = 0,
          .ext_loader_type = 0,
          .cmd_line_ptr = 0,
          .initrd_addr_max = 0x7FFF'FFFF,
          .kernel_alignment = 0x200000,
          .relocatable_kernel = 1,
          .min_alignment = 21,
          .xloadflags = 0x7F,
          .cmdline_size = 2047,
          .hardware_subarch = 0,
          .hardware_subarch_data = 0,
          .payload_offset = 0x300,
          .payload_length = 0x900000,
          .setup_data = 0,
          .pref_address = 0x1000000,
          .init_size = 0x3000000,
          .handover_offset = 0x200,
          .kernel_info_offset = 0x9F0000};
}

/// The header as a file has it, with `behind` bytes of 0xCC after it.
inline std::vector<std::byte> bytes_of(const SetupHeader& header, std::size_t behind = 64) {
  const auto raw = std::bit_cast<std::array<std::byte, sizeof(SetupHeader)>>(header);
  std::vector<std::byte> bytes(raw.size() + behind, std::byte{0xCC});
  std::ranges::copy(raw, bytes.begin());
  return bytes;
}

inline LinuxSetup setup_of(const SetupHeader& header) {
  return LinuxSetup::parse(bytes_of(header), kCode).value();
}

inline PhysRange range(std::uint64_t begin, std::uint64_t end) {
  return PhysRange::make(PhysAddr{begin}, PhysAddr{end}).value();
}

/// A GetMemoryMap result under construction.
class EfiMap {
 public:
  static constexpr std::size_t kStride = 48;

  EfiMap& add(abi::efi::MemoryType type, std::uint64_t begin, std::uint64_t end,
              std::uint64_t attribute = 0xF) {
    return add_raw(type, begin, (end - begin) / 4096, attribute);
  }
  EfiMap& add_raw(abi::efi::MemoryType type, std::uint64_t begin, std::uint64_t pages,
                  std::uint64_t attribute = 0xF) {
    const abi::efi::MemoryDescriptor descriptor{.type = static_cast<std::uint32_t>(type),
                                                .padding = 0,
                                                .physical_start = begin,
                                                .virtual_start = 0,
                                                .number_of_pages = pages,
                                                .attribute = attribute};
    const auto raw = std::bit_cast<std::array<std::byte, sizeof(descriptor)>>(descriptor);
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
    bytes_.resize(bytes_.size() + kStride - raw.size(), std::byte{0xEE});
    return *this;
  }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  [[nodiscard]] std::size_t size() const { return bytes_.size() / kStride; }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace accede::firmware::test
