// Made-up kernels with and without acceptance: the texts and GUIDs that tell them apart.
#pragma once

#include "accede/image/unaccepted_support.hpp"
#include "tests/image/made_up_image.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace accede::image::test {

using GuidBytes = std::array<std::uint8_t, 16>;

// As Linux has them.
inline constexpr GuidBytes kTableGuid{0x3C, 0xDE, 0xD1, 0xD5, 0x5C, 0x10, 0xF9, 0x44,
                                      0x9E, 0xA9, 0xBC, 0xEF, 0x98, 0x12, 0x00, 0x31};
inline constexpr GuidBytes kHandshakeGuid{0xFE, 0x10, 0xA0, 0xC5, 0xA7, 0x38, 0x31, 0x45,
                                          0x8A, 0x4A, 0x05, 0x00, 0xD2, 0xFD, 0x16, 0x49};
inline constexpr std::string_view kReader = "Unknown version of unaccepted memory table\n";
inline constexpr std::string_view kAcceptor = "Cannot accept memory: unknown platform\n";
inline constexpr std::string_view kTdx = "TDX: Failed to accept memory\n";
inline constexpr std::string_view kBuilder =
    "3ERROR: Failed to allocate unaccepted memory config table\n";
inline constexpr std::string_view kHandshake = "3ERROR: Memory acceptance protocol failed\n";
inline constexpr std::string_view kSnp = "3ERROR: Unsupported SEV-SNP features detected: 0x%llx\n";
inline constexpr std::array<std::string_view, 5> kLandmarks{
    "Kernel is not a valid ELF file", "\n\n -- System halted",
    "6Loaded initrd from command line option\n", "3ERROR: exit_boot() failed!\n",
    "3ERROR: Could not determine UEFI Secure Boot status.\n"};

// Where the made-up kernels have their parts: GUIDs in the code, then texts, as Linux.
inline constexpr std::size_t kTableGuidAt = 0x1400;
inline constexpr std::size_t kHandshakeGuidAt = 0x1480;
inline constexpr std::size_t kTextsAt = 0x2000;
inline constexpr std::size_t kTextsApart = 0x80;
inline constexpr std::size_t kFree = 0x3000;  // nothing until the end

/// Decompressor and stub of a kernel that accepts nothing.
inline MadeUpImage old_kernel() {
  MadeUpImage image;
  image.put(kTextsAt, kLandmarks[0]);
  image.put(kTextsAt + kTextsApart, kLandmarks[1]);
  image.put(kTextsAt + 8 * kTextsApart, kLandmarks[2]);
  image.put(kTextsAt + 9 * kTextsApart, kLandmarks[3]);
  image.put(kTextsAt + 10 * kTextsApart, kLandmarks[4]);
  image.put(kTextsAt + 11 * kTextsApart, kSnp);
  return image;
}

inline void add_acceptance(MadeUpImage& image) {
  image.put(kTableGuidAt, kTableGuid);
  image.put(kTextsAt + 2 * kTextsApart, kReader);
  image.put(kTextsAt + 3 * kTextsApart, kAcceptor);
  image.put(kTextsAt + 4 * kTextsApart, kTdx);
  image.put(kTextsAt + 5 * kTextsApart, kBuilder);
}

inline void add_handshake(MadeUpImage& image) {
  image.put(kHandshakeGuidAt, kHandshakeGuid);
  image.put(kTextsAt + 6 * kTextsApart, kHandshake);
}

inline MadeUpImage new_kernel() {
  MadeUpImage image = old_kernel();
  add_acceptance(image);
  add_handshake(image);
  return image;
}

/// Makes `size` bytes at `offset` unrecognisable.
inline void blot(MadeUpImage& image, std::size_t offset, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) {
    image.bytes[offset + i] ^= std::byte{0x80};
  }
}

inline std::vector<std::byte> without_first(std::vector<std::byte> file, std::size_t size) {
  file.erase(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
  return file;
}

inline void expect_verdict(std::span<const std::byte> image, Knows accepts, Knows handshake) {
  const UnacceptedSupport support = find_unaccepted_support(image);
  EXPECT_EQ(to_string(support.accepts), to_string(accepts));
  EXPECT_EQ(to_string(support.handshake), to_string(handshake));
}

}  // namespace accede::image::test
