// bzImages and EFI programs that hold nothing but what the image library looks at.
#pragma once

#include "accede/abi/linux_boot.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string_view>
#include <vector>

namespace accede::image::test {

/// Bytes that look compressed: no text, no GUID, always the same.
inline std::vector<std::byte> noise(std::size_t size) {
  std::mt19937 random{42};
  std::vector<std::byte> bytes(size);
  std::ranges::generate(bytes, [&] { return static_cast<std::byte>(random()); });
  return bytes;
}

/// A sound bzImage: setup code to kCode, in which the version text lies at kVersion, then code to
/// kEnd with a payload in its middle. Tests break one thing of it.
struct MadeUpImage {
  static constexpr std::size_t kVersion = 0x300;
  static constexpr std::size_t kCode = 0x600;  // two setup sectors
  static constexpr std::size_t kPayload = 0xA00;
  static constexpr std::size_t kPayloadEnd = 0x1200;
  static constexpr std::size_t kEnd = 0x4600;
  static constexpr std::string_view kVersionText = "6.12.1-made-up (builder@host) #1 SMP";

  abi::linux_boot::SetupHeader header{};
  std::vector<std::byte> bytes = noise(kEnd);

  MadeUpImage() {
    header.setup_sects = 2;
    header.syssize = (kEnd - kCode) / 16;
    header.boot_flag = abi::linux_boot::kBootFlag;
    header.jump = 0x6AEB;  // to 0x26C
    header.header = abi::linux_boot::kHeaderMagic;
    header.version = 0x020F;
    header.kernel_version = kVersion - 0x200;
    header.loadflags = abi::linux_boot::kLoadedHigh;
    header.kernel_alignment = 0x200000;
    header.relocatable_kernel = 1;
    header.min_alignment = 21;
    header.xloadflags = abi::linux_boot::kXlfKernel64 | abi::linux_boot::kXlfAbove4G;
    header.payload_offset = kPayload - kCode;
    header.payload_length = kPayloadEnd - kPayload;
    header.pref_address = 0x1000000;
    header.init_size = 0x8000;
    header.kernel_info_offset = 0x1234;
    put(kVersion, kVersionText);
    bytes[kVersion + kVersionText.size()] = std::byte{0};
  }

  void put(std::size_t offset, std::string_view text) {
    place(std::as_bytes(std::span{text}), offset, bytes);
  }
  void put(std::size_t offset, std::span<const std::uint8_t> raw) {
    place(std::as_bytes(raw), offset, bytes);
  }

  /// The file, with the header as it is now.
  [[nodiscard]] std::vector<std::byte> file() const {
    std::vector<std::byte> file = bytes;
    const auto raw = std::bit_cast<std::array<std::byte, sizeof(header)>>(header);
    place(raw, abi::linux_boot::kSetupHeaderOffset, file);
    return file;
  }

 private:
  static void place(std::span<const std::byte> what, std::size_t offset,
                    std::vector<std::byte>& where) {
    for (std::size_t i = 0; i < what.size(); ++i) {
      where.at(offset + i) = what[i];
    }
  }
};

}  // namespace accede::image::test
