// LZO1X in the container of the lzop program, as Linux packs kernels with it.
//
// Our own: the only library is under a licence that the command cannot take over. Source: Linux
// Documentation/staging/lzo.rst; the container: the file format that lzop documents.
#pragma once

#include "accede/inspect/decompress.hpp"

#include <cstddef>
#include <expected>
#include <span>
#include <vector>

namespace accede::inspect {

/// Unpacks one LZO1X stream, any bytes, to exactly `size` bytes.
/// Errors: kCorrupt.
[[nodiscard]] std::expected<std::vector<std::byte>, DecompressErrorKind> decompress_lzo1x(
    std::span<const std::byte> packed, std::size_t size);

/// Unpacks an lzop file to at most `most` bytes. Checksums are not verified.
/// Errors: kCorrupt, kTooLarge.
[[nodiscard]] std::expected<std::vector<std::byte>, DecompressErrorKind> decompress_lzop(
    std::span<const std::byte> file, std::size_t most);

}  // namespace accede::inspect
