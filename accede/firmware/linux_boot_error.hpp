// What can be wrong when a kernel is started by the Linux boot protocol.
#pragma once

#include <cstdint>
#include <string_view>

namespace accede::firmware {

enum class LinuxBootErrorKind : std::uint8_t {
  // The image's setup header.
  kHeaderTruncated,  ///< bytes of the header that are there, bytes that it declares
  kNotLinux,         ///< neither boot flag nor "HdrS"
  kProtocolTooOld,   ///< version of the boot protocol, oldest with a 64-bit entry
  kHeaderTooLong,    ///< bytes that it declares, room in the zero page
  kNo64BitEntry,
  kBadAlignment,      ///< kernel_alignment: no power of two, or less than a page
  kInitSizeTooSmall,  ///< init_size, bytes of code
  // What goes with the kernel.
  kCommandLineTooLong,  ///< bytes, most that the kernel takes
  kCommandLineHasNul,   ///< offset
  kInitrdTooHigh,       ///< address of the last byte, highest that the kernel takes
  kAbove4G,             ///< address of something that a kernel without XLF_ABOVE_4G cannot reach
  kKernelMisplaced,     ///< load address, preferred address
  // The E820 map.
  kBadStride,         ///< bytes between descriptors, bytes of a descriptor
  kBadDescriptor,     ///< index of one that wraps or is not page aligned
  kOverlap,           ///< address that two descriptors claim as different things
  kE820Storage,       ///< entries, most that the storage holds
  kExtensionStorage,  ///< bytes of the SETUP_E820_EXT node, bytes of its storage
  kNoMemory,          ///< no usable memory
};
/// One phrase, without the figures.
[[nodiscard]] std::string_view to_string(LinuxBootErrorKind kind);

/// `value` and `limit` are what the comment of the kind names, in that order.
struct LinuxBootError {
  LinuxBootErrorKind kind;
  std::uint64_t value = 0;
  std::uint64_t limit = 0;

  friend bool operator==(const LinuxBootError&, const LinuxBootError&) = default;
};

}  // namespace accede::firmware
