// QEMU's firmware configuration device: named files from the host to the firmware (QEMU:
// docs/specs/fw_cfg.rst). Numbers in the directory are big-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace accede::abi::fw_cfg {

inline constexpr std::uint16_t kSelectorPort = 0x510;  ///< write 16 bits: the item, from its begin
inline constexpr std::uint16_t kDataPort = 0x511;      ///< read 8 bits: the item's next byte

inline constexpr std::uint16_t kSignatureItem = 0x0000;
inline constexpr std::array<char, 4> kSignature{'Q', 'E', 'M', 'U'};
/// A 32-bit count, then so many DirectoryEntry.
inline constexpr std::uint16_t kDirectoryItem = 0x0019;
/// Files have selectors from 0x20 to 0x3FFF.
inline constexpr std::uint32_t kMostFiles = 0x3FE0;

struct DirectoryEntry {
  std::array<std::uint8_t, 4> size;
  std::array<std::uint8_t, 2> selector;
  std::array<std::uint8_t, 2> reserved;
  std::array<char, 56> name;  ///< ends with a zero byte
};
static_assert(sizeof(DirectoryEntry) == 64 && offsetof(DirectoryEntry, selector) == 4 &&
              offsetof(DirectoryEntry, name) == 8);

/// Our file: the host wants the firmware to accept everything, whatever is in it. What a user of
/// QEMU names must begin with "opt/".
inline constexpr std::string_view kForceAcceptFile = "opt/org.accede/force-accept";

}  // namespace accede::abi::fw_cfg
