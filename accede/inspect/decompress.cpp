#include "accede/inspect/decompress.hpp"

#include "accede/inspect/lzo.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <algorithm>
#include <array>
#include <limits>
#include <memory>

namespace accede::inspect {

using namespace std::string_view_literals;

namespace {

struct Method {
  Compression compression;
  std::string_view magic;
  int filter;  ///< ARCHIVE_FILTER_*
  int (*support)(archive*);
};

/// LZO is ours: the library would start another program for it.
constexpr std::array<Method, 7> kMethods{{
    {Compression::kGzip, "\x1F\x8B"sv, ARCHIVE_FILTER_GZIP, archive_read_support_filter_gzip},
    {Compression::kBzip2, "BZh"sv, ARCHIVE_FILTER_BZIP2, archive_read_support_filter_bzip2},
    {Compression::kLzma, "\x5D\0\0"sv, ARCHIVE_FILTER_LZMA, archive_read_support_filter_lzma},
    {Compression::kXz, "\xFD\x37zXZ\0"sv, ARCHIVE_FILTER_XZ, archive_read_support_filter_xz},
    {Compression::kLzo, "\x89LZO"sv, ARCHIVE_FILTER_LZOP, nullptr},
    {Compression::kLz4, "\x02\x21\x4C\x18"sv, ARCHIVE_FILTER_LZ4, archive_read_support_filter_lz4},
    {Compression::kZstd, "\x28\xB5\x2F\xFD"sv, ARCHIVE_FILTER_ZSTD,
     archive_read_support_filter_zstd},
}};

const Method* find_method(std::span<const std::byte> bytes) {
  const std::string_view text{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  const auto* const found =
      std::ranges::find_if(kMethods, [&](const Method& m) { return text.starts_with(m.magic); });
  return found == kMethods.end() ? nullptr : found;
}

struct ArchiveDeleter {
  void operator()(archive* open) const { archive_read_free(open); }
};
using Archive = std::unique_ptr<archive, ArchiveDeleter>;

/// `packed`, open at its first byte; nothing when the library takes it for something else.
Archive open_raw(std::span<const std::byte> packed, const Method& method) {
  Archive open{archive_read_new()};
  archive_entry* entry = nullptr;
  if (open == nullptr || method.support(open.get()) < ARCHIVE_WARN ||
      archive_read_support_format_raw(open.get()) != ARCHIVE_OK ||
      archive_read_open_memory(open.get(), packed.data(), packed.size()) != ARCHIVE_OK ||
      archive_read_next_header(open.get(), &entry) < ARCHIVE_WARN ||
      archive_filter_code(open.get(), 0) != method.filter) {
    return nullptr;
  }
  return open;
}

}  // namespace

std::string_view to_string(Compression method) {
  switch (method) {
    case Compression::kGzip:
      return "gzip"sv;
    case Compression::kBzip2:
      return "bzip2"sv;
    case Compression::kLzma:
      return "lzma"sv;
    case Compression::kXz:
      return "xz"sv;
    case Compression::kLzo:
      return "lzo"sv;
    case Compression::kLz4:
      return "lz4"sv;
    case Compression::kZstd:
      return "zstd"sv;
  }
  return "unknown"sv;
}

std::string_view to_string(DecompressErrorKind kind) {
  switch (kind) {
    case DecompressErrorKind::kUnknownMethod:
      return "compressed by an unknown method"sv;
    case DecompressErrorKind::kCorrupt:
      return "compressed data is corrupt or cut off"sv;
    case DecompressErrorKind::kTooLarge:
      return "decompresses to more than an image can be"sv;
  }
  return "unknown error"sv;
}

std::optional<Compression> recognise_compression(std::span<const std::byte> bytes) {
  const Method* const method = find_method(bytes);
  return method == nullptr ? std::nullopt : std::optional{method->compression};
}

void Unpacker::Close::operator()(void* reader) const {
  archive_read_free(static_cast<archive*>(reader));
}

std::expected<Unpacker, DecompressErrorKind> Unpacker::open(std::span<const std::byte> packed,
                                                            std::size_t most) {
  const Method* const method = find_method(packed);
  if (method == nullptr) {
    return std::unexpected{DecompressErrorKind::kUnknownMethod};
  }
  if (method->compression == Compression::kLzo) {
    auto all = decompress_lzop(packed, most);
    if (!all) {
      return std::unexpected{all.error()};
    }
    Unpacker done{nullptr, most};
    done.unpacked_ = *std::move(all);
    done.at_end_ = true;
    return done;
  }
  Archive archive = open_raw(packed, *method);
  if (archive == nullptr) {
    return std::unexpected{DecompressErrorKind::kCorrupt};
  }
  Unpacker unpacker{Reader{archive.release()}, most};
  // Address space, not memory: what is not written to costs nothing.
  constexpr std::size_t kMostUsualRatio = 16;
  unpacker.unpacked_.reserve(std::min(most, packed.size() * kMostUsualRatio));
  return unpacker;
}

std::expected<void, DecompressErrorKind> Unpacker::unpack_to(std::size_t size) {
  auto* const reader = static_cast<archive*>(reader_.get());
  while (!at_end_ && unpacked_.size() < size) {
    const void* block = nullptr;
    std::size_t block_size = 0;
    la_int64_t offset = 0;
    const int result = archive_read_data_block(reader, &block, &block_size, &offset);
    if (result == ARCHIVE_EOF) {
      at_end_ = true;
      return {};
    }
    if (result < ARCHIVE_WARN) {
      return std::unexpected{DecompressErrorKind::kCorrupt};
    }
    if (block_size > most_ - unpacked_.size()) {
      return std::unexpected{DecompressErrorKind::kTooLarge};
    }
    const auto* const bytes = static_cast<const std::byte*>(block);
    unpacked_.insert(unpacked_.end(), bytes, bytes + block_size);
  }
  return {};
}

std::expected<std::vector<std::byte>, DecompressErrorKind> decompress(
    std::span<const std::byte> packed, std::size_t most) {
  auto unpacker = Unpacker::open(packed, most);
  if (!unpacker) {
    return std::unexpected{unpacker.error()};
  }
  if (const auto done = unpacker->unpack_to(std::numeric_limits<std::size_t>::max()); !done) {
    return std::unexpected{done.error()};
  }
  return std::move(*unpacker).take();
}

}  // namespace accede::inspect
