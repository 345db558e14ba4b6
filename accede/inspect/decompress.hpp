// Decompression of what kernels and firmware are packed with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace accede::inspect {

/// Every method that Linux packs a kernel with, and firmware its volumes (LZMA).
enum class Compression : std::uint8_t { kGzip, kBzip2, kLzma, kXz, kLzo, kLz4, kZstd };

[[nodiscard]] std::string_view to_string(Compression method);

/// By the first bytes; nothing when they are of no method.
[[nodiscard]] std::optional<Compression> recognise_compression(std::span<const std::byte> bytes);

enum class DecompressErrorKind : std::uint8_t {
  kUnknownMethod,  ///< first bytes of no method
  kCorrupt,        ///< bytes that the method cannot have written, or that end too early
  kTooLarge,       ///< more than the caller allows
};

[[nodiscard]] std::string_view to_string(DecompressErrorKind kind);

/// Unpacks `packed`, any bytes. At most `most` bytes come out, and memory grows with what comes
/// out, never with what a header promises. Checksums of bzip2, xz and zstd are verified; damage of
/// the others can go unseen. Runs no other program.
[[nodiscard]] std::expected<std::vector<std::byte>, DecompressErrorKind> decompress(
    std::span<const std::byte> packed, std::size_t most);

}  // namespace accede::inspect
