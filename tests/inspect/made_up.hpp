// Kernels and firmware that hold nothing but what an inspection looks at.
#pragma once

#include "accede/abi/efi.hpp"
#include "accede/inspect/decompress.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace accede::inspect::test {

using ByteVector = std::vector<std::byte>;

[[nodiscard]] ByteVector bytes_of(std::string_view text);
void append(ByteVector& bytes, std::span<const std::byte> more);
void append_number(ByteVector& bytes, std::uint64_t value, std::size_t size);

/// Packed as Linux packs kernels, without the size behind it. LZO and LZ4 are stored, not packed.
[[nodiscard]] ByteVector pack(std::span<const std::byte> bytes, Compression method);

/// What a kernel is made of.
struct Features {
  bool sev = true;
  bool snp = true;
  bool tdx = true;
  bool unaccepted = true;
  std::string release = "6.12.1-made-up";
  /// "CONFIG_A=y\nCONFIG_B=m\n"; empty: no embedded configuration.
  std::string config = {};
  /// Zeros in a segment of their own, before or behind the one with the texts.
  std::size_t zeros_before = 0;
  std::size_t zeros_behind = 0;
};

/// Of 6.1: knows SEV-SNP, nothing of TDX and of acceptance.
[[nodiscard]] inline Features old_features() {
  return {.tdx = false, .unaccepted = false, .release = "6.1.1-made-up"};
}

/// The texts of a kernel.
[[nodiscard]] ByteVector kernel_texts(const Features& features);

/// An ELF file with the texts in a segment, and zeros in others.
[[nodiscard]] ByteVector vmlinux(const Features& features);

/// A bzImage with EFI stub, decompressor and a packed vmlinux.
[[nodiscard]] ByteVector bzimage(const Features& features, Compression method = Compression::kGzip);

/// Flat kernel of another architecture, as an EFI program.
[[nodiscard]] ByteVector flat_image(const Features& features, std::uint16_t machine = 0xAA64);

/// The same, packed behind an EFI stub.
[[nodiscard]] ByteVector zboot(const Features& features, std::uint16_t machine = 0xAA64);

/// A unified kernel image around `linux`.
[[nodiscard]] ByteVector uki(const ByteVector& linux, std::string_view command_line = "quiet");

// Firmware.

inline constexpr abi::efi::Guid kAmdSevDxe{
    0x2EC9DA37, 0xEE35, 0x4DE9, {0x86, 0xC5, 0x6D, 0x9A, 0x81, 0xDC, 0x38, 0xA7}};
inline constexpr abi::efi::Guid kTdxDxe{
    0xE750224E, 0x7BCE, 0x40AF, {0xB5, 0xBB, 0x47, 0xE3, 0x61, 0x1E, 0xB5, 0xC2}};
inline constexpr abi::efi::Guid kOtherDxe{
    0x12345678, 0x1234, 0x5678, {0x86, 0xC5, 0x6D, 0x9A, 0x81, 0xDC, 0x38, 0xA7}};

[[nodiscard]] ByteVector section(std::uint8_t type, const ByteVector& content);
[[nodiscard]] ByteVector guided_section(const abi::efi::Guid& guid, std::uint16_t attributes,
                                        const ByteVector& content);
/// An LZMA section, as OVMF has.
[[nodiscard]] ByteVector packed_section(const ByteVector& sections);
[[nodiscard]] ByteVector firmware_file(const abi::efi::Guid& name, std::uint8_t type,
                                       const ByteVector& content);
/// A driver for x86-64, whose code holds `guids`.
[[nodiscard]] ByteVector driver(const abi::efi::Guid& name,
                                const std::vector<abi::efi::Guid>& guids);
/// A volume of FFS2 files; it grows to a multiple of 4 KiB.
[[nodiscard]] ByteVector volume(const std::vector<ByteVector>& files);
/// A volume of variables.
[[nodiscard]] ByteVector variable_store();

struct MetadataTypes {
  std::vector<std::uint32_t> sev = {1, 2, 3};
  std::vector<std::uint32_t> tdx = {0, 1, 3, 2};
};
/// 4 KiB with the table of GUIDs at their end, and the metadata. No types: no metadata.
[[nodiscard]] ByteVector flash_end(const MetadataTypes& types);

/// A flash image: variables, a packed volume with `drivers`, the table at the end.
[[nodiscard]] ByteVector flash(const std::vector<ByteVector>& drivers,
                               const MetadataTypes& types = {});

}  // namespace accede::inspect::test
