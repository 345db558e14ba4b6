// Whether a Linux x86 kernel image accepts unaccepted memory by itself: by what its uncompressed
// part, decompressor and EFI stub, gives away. No version is compared: kernels have acceptance by
// configuration and by backport.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace accede::image {

/// What an image tells about itself. kUnknown is no answer and never stands for kNo.
enum class Knows : std::uint8_t { kUnknown, kYes, kNo };

[[nodiscard]] std::string_view to_string(Knows knows);

/// What was found in an image. Offsets: where a signal occurs first in the image; nothing: nowhere
/// that was looked at.
///
/// Three signals come from the one file of the decompressor that makes it accept (Linux
/// arch/x86/boot/compressed/mem.c, 6.5 and later), so that a kernel has all or none of them:
/// table_reader, acceptor, table_guid. The handshake has two. The first row that fits decides:
///
/// | of the three | of the handshake | any other signal | image       | accepts  | handshake |
/// |--------------|------------------|------------------|-------------|----------|-----------|
/// | -            | -                | -                | two kernels | kUnknown | kUnknown  |
/// | none         | none             | none (1)         | whole       | kNo      | kNo       |
/// | all          | both             | -                | one kernel  | kYes     | kYes      |
/// | all          | none             | -                | whole       | kYes     | kNo       |
/// | all          | -                | -                | one kernel  | kYes     | kUnknown  |
/// | -            | -                | -                | -           | kUnknown | kUnknown  |
///
/// Half a GUID alone is more than none. (1) sev_snp does not count: kernels knew SEV-SNP before
/// they accepted.
///
/// Landmarks are texts of several files of the decompressor and the stub that kernels with and
/// without acceptance have, before and behind the signals in the image. Where all are found, the
/// search works on this image, and nothing between them is cut off.
/// - two kernels: a landmark occurs twice, as in a unified image with another kernel in its initrd.
/// - one kernel: a sound setup header (BzImage::parse) or every landmark.
/// - whole: every landmark, and a sound setup header or none at all. That of an image which was cut
///   off is not sound.
///
/// So a kernel without EFI stub never gets kNo, nor one whose texts were reworded.
struct UnacceptedSupport {
  /// Entered by the 64-bit boot protocol, the kernel finds the table among the EFI configuration
  /// tables and accepts what it uses, on at least one platform. Ask accepts_on_*() for a platform.
  Knows accepts = Knows::kUnknown;
  /// The EFI stub calls AllowUnacceptedMemory before it leaves boot services.
  Knows handshake = Knows::kUnknown;

  std::optional<std::size_t> table_reader;    ///< text: complains about the table's version
  std::optional<std::size_t> acceptor;        ///< text: complains about an unknown platform
  std::optional<std::size_t> table_guid;      ///< GUID of the table
  std::optional<std::size_t> handshake_text;  ///< text: complains about the handshake
  std::optional<std::size_t> handshake_guid;  ///< GUID of the handshake protocol
  std::optional<std::size_t> tdx_accept;      ///< text: complains about acceptance on TDX
  std::optional<std::size_t> table_builder;   ///< text: the stub makes a table itself
  std::optional<std::size_t> sev_snp;         ///< text: knows SEV-SNP, whether or not it accepts

  /// `accepts` for a TDX guest: kYes becomes kUnknown where nothing speaks of TDX, because a
  /// kernel may be configured for acceptance on SEV-SNP alone.
  [[nodiscard]] Knows accepts_on_tdx() const;
  /// The same for an SEV-SNP guest.
  [[nodiscard]] Knows accepts_on_snp() const;
};

/// Looks through `image`: a bzImage file, a PE image as LoadImage placed it, or one of them without
/// its first headers. Any bytes; reads each once or twice, and none of a compressed payload whose
/// place the header tells, nor what lies behind the code that the header declares.
///
/// A GUID counts when its 16 bytes lie together, or when its two halves do as operands of
/// instructions: in either order, beginning at most kMostHalvesApart bytes from each other. Its
/// offset is that of the half that comes first.
[[nodiscard]] UnacceptedSupport find_unaccepted_support(std::span<const std::byte> image);

inline constexpr std::size_t kMostHalvesApart = 32;

}  // namespace accede::image
