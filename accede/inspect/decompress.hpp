// Decompression of what kernels and firmware are packed with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
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

/// Unpacks from the begin, as far as it is told to. At most `most` bytes come out, and memory grows
/// with what comes out, never with what a header promises. Checksums of bzip2, xz and zstd are
/// verified as far as they were reached; damage of the others can go unseen. Runs no other program.
/// Thread-compatible; `packed` outlives it.
class Unpacker {
 public:
  /// `packed`: any bytes. Error: kUnknownMethod, or kCorrupt in the first bytes.
  [[nodiscard]] static std::expected<Unpacker, DecompressErrorKind> open(
      std::span<const std::byte> packed, std::size_t most);

  /// Goes on until there are `size` bytes or a little more, or all that there are. After an error
  /// there is nothing more to unpack.
  [[nodiscard]] std::expected<void, DecompressErrorKind> unpack_to(std::size_t size);

  /// What came out so far.
  [[nodiscard]] const std::vector<std::byte>& bytes() const { return unpacked_; }
  /// Nothing more will come, and every checksum was right.
  [[nodiscard]] bool at_end() const { return at_end_; }
  /// bytes(), for good.
  [[nodiscard]] std::vector<std::byte> take() && { return std::move(unpacked_); }

 private:
  struct Close {
    void operator()(void* reader) const;
  };
  using Reader = std::unique_ptr<void, Close>;

  Unpacker(Reader reader, std::size_t most) : reader_{std::move(reader)}, most_{most} {}

  Reader reader_;  ///< of the library
  std::vector<std::byte> unpacked_;
  std::size_t most_ = 0;
  bool at_end_ = false;
};

/// Unpacks all of `packed`, any bytes, as Unpacker does.
[[nodiscard]] std::expected<std::vector<std::byte>, DecompressErrorKind> decompress(
    std::span<const std::byte> packed, std::size_t most);

}  // namespace accede::inspect
