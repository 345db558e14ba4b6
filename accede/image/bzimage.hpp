// A Linux bzImage in memory, as a loader that enters kernels by the 64-bit boot protocol sees it.
//
// Source: Linux Documentation/arch/x86/boot.rst (reference: boot flow 5.1).
#pragma once

#include "accede/abi/linux_boot.hpp"
#include "accede/base/units.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

namespace accede::image {

enum class BzImageErrorKind : std::uint8_t {
  kTooShort,        ///< ends before its setup header does
  kNotLinux,        ///< no setup header: some other kind of file
  kOldProtocol,     ///< boot protocol below 2.12, which has no xloadflags
  kBadHeaderEnd,    ///< header shorter than 2.12's, or longer than its place in the zero page
  kNotLoadedHigh,   ///< a zImage, which lies below 1 MiB
  kNoEntry64,       ///< no 64-bit entry point: xloadflags bit 0 is clear
  kNoCode,          ///< protected-mode code too small to hold the 64-bit entry point
  kTruncated,       ///< protected-mode code that the header declares is not all there
  kBadInitSize,     ///< init_size smaller than the code, or beyond the address space
  kBadAlignment,    ///< alignments that contradict each other, or not a power of two
  kBadPayload,      ///< payload not inside the protected-mode code
  kBadVersionText,  ///< version text outside the setup code, endless or with control characters
};

[[nodiscard]] std::string_view to_string(BzImageErrorKind kind);

struct BzImageError {
  BzImageErrorKind kind;
  /// In the file: of the wrong field; for kTooShort and kTruncated where the file ends.
  std::size_t offset = 0;

  friend bool operator==(const BzImageError&, const BzImageError&) = default;
};

/// A view of a bzImage whose header is sound: all that it declares lies inside the file, and a
/// loader may copy setup_header_bytes() and protected_mode() without another look at any bound.
/// What lies behind the declared code (padding, a signature) is ignored. Thread-compatible; holds
/// no ownership: the file outlives it.
class BzImage {
 public:
  /// Any bytes. Needs no MZ or PE header, so that an image that lost them is one still.
  /// Errors: every BzImageErrorKind.
  [[nodiscard]] static std::expected<BzImage, BzImageError> parse(std::span<const std::byte> file);

  /// Fields behind the end that the header declares are 0.
  [[nodiscard]] const abi::linux_boot::SetupHeader& header() const { return header_; }
  /// What a loader copies to the zero page at kSetupHeaderOffset: to the end that the header
  /// declares, which is at least that of protocol 2.12 and not beyond kSetupHeaderLimit.
  [[nodiscard]] std::span<const std::byte> setup_header_bytes() const { return setup_header_; }
  /// What goes to the load address; its entry point is at kEntry64Offset.
  [[nodiscard]] std::span<const std::byte> protected_mode() const { return protected_mode_; }
  /// The compressed kernel with its size trailer, inside protected_mode(); empty when the header
  /// does not tell.
  [[nodiscard]] std::span<const std::byte> payload() const { return payload_; }
  /// "6.12.1 (user@host) #1 SMP ..."; empty when there is none. No control characters.
  [[nodiscard]] std::string_view version_text() const { return version_text_; }

  /// Memory that the kernel needs from its load address on before it reads a memory map; at least
  /// the size of protected_mode().
  [[nodiscard]] Bytes init_size() const { return Bytes{header_.init_size}; }
  /// Where the kernel likes to lie; where it has to when it is not relocatable.
  /// The init_size() bytes there do not wrap.
  [[nodiscard]] PhysAddr preferred_address() const { return PhysAddr{header_.pref_address}; }
  [[nodiscard]] bool relocatable() const { return header_.relocatable_kernel != 0; }
  /// Of the load address of a relocatable kernel: a power of two. 1 byte for any other.
  [[nodiscard]] Bytes alignment() const;
  /// Kernel, zero page, command line and initrd may lie above 4 GiB.
  [[nodiscard]] bool loadable_above_4g() const {
    return (header_.xloadflags & abi::linux_boot::kXlfAbove4G) != 0;
  }

  /// Where the setup header's place in the zero page ends (zero-page.rst: edd_mbr_sig_buffer).
  static constexpr std::size_t kSetupHeaderLimit = abi::linux_boot::kSetupHeaderLimit;

 private:
  BzImage() = default;

  abi::linux_boot::SetupHeader header_{};
  std::span<const std::byte> setup_header_;
  std::span<const std::byte> protected_mode_;
  std::span<const std::byte> payload_;
  std::string_view version_text_;
};

}  // namespace accede::image
