#include "accede/inspect/disk_image.hpp"

#include "accede/base/byte_reader.hpp"

#include <algorithm>
#include <bit>

namespace accede::inspect {

using namespace std::string_view_literals;
namespace {

constexpr std::uint64_t kSector = 512;

template <class T>
std::optional<T> read_big(const ByteReader& file, std::size_t offset) {
  const auto value = file.read<T>(offset);
  return value ? std::optional{std::byteswap(*value)} : std::nullopt;
}

bool has_text(const ByteReader& file, std::size_t offset, std::string_view text) {
  const auto bytes = file.slice(offset, text.size());
  return bytes && std::ranges::equal(*bytes, std::as_bytes(std::span{text}));
}

// The qcow2 header (QEMU docs/interop/qcow2.txt).
constexpr std::size_t kVersion = 4;
constexpr std::size_t kBackingFile = 8;
constexpr std::size_t kSize = 24;
constexpr std::size_t kEncryption = 32;
constexpr std::size_t kIncompatible = 72;  // from version 3 on
constexpr std::uint64_t kExternalData = 4;

std::expected<DiskImage, std::string> parse_qcow2(const ByteReader& file) {
  const auto version = read_big<std::uint32_t>(file, kVersion);
  const auto encryption = read_big<std::uint32_t>(file, kEncryption);
  if (!version || !encryption || (*version >= 3 && !file.slice(kIncompatible, 8))) {
    return std::unexpected{"ends inside its qcow2 header"};
  }
  if (*version != 2 && *version != 3) {
    return std::unexpected{"is qcow2 of version " + std::to_string(*version)};
  }
  if (*encryption != 0) {
    return std::unexpected{"is an encrypted qcow2 image"};
  }
  const bool external =
      *version == 3 && (*read_big<std::uint64_t>(file, kIncompatible) & kExternalData) != 0;
  if (external || *read_big<std::uint64_t>(file, kBackingFile) != 0) {
    return std::unexpected{
        "is a qcow2 image that needs another file; make it whole with qemu-img convert"};
  }
  return DiskImage{.format = DiskFormat::kQcow2,
                   .bytes = *read_big<std::uint64_t>(file, kSize),
                   .partitions = {}};
}

/// Programs have the mark of a boot sector, too.
bool is_program(const ByteReader& file) {
  constexpr std::size_t kLinuxMark = 0x202;
  return file.read<std::uint16_t>(0) == 0x5A4D || has_text(file, kLinuxMark, "HdrS"sv) ||
         has_text(file, 0,
                  "\x7F"
                  "ELF"sv);
}

/// Whether the four entries of a boot sector make sense, one of them at least being used.
bool has_partitions(const ByteReader& file, std::uint64_t file_size) {
  constexpr std::size_t kEntries = 446;
  constexpr std::size_t kEntry = 16;
  bool used = false;
  for (std::size_t at = kEntries; at < kEntries + 4 * kEntry; at += kEntry) {
    const auto status = *file.read<std::uint8_t>(at);
    const auto type = *file.read<std::uint8_t>(at + 4);
    const std::uint64_t begin = *file.read<std::uint32_t>(at + 8);
    if (status != 0 && status != 0x80) {
      return false;
    }
    used = used || (type != 0 && begin != 0 && begin < file_size / kSector);
  }
  return used;
}

}  // namespace

std::string_view to_string(DiskFormat format) {
  return format == DiskFormat::kQcow2 ? "qcow2"sv : "raw"sv;
}

std::expected<std::optional<DiskImage>, std::string> recognise_disk(std::span<const std::byte> head,
                                                                    std::uint64_t file_size) {
  const ByteReader file{head};
  if (has_text(file, 0, "QFI\xFB"sv)) {
    return parse_qcow2(file);
  }
  constexpr std::size_t kBootMark = 510;
  if (file.read<std::uint16_t>(kBootMark) != 0xAA55 || is_program(file) ||
      !has_partitions(file, file_size)) {
    return std::nullopt;
  }
  const bool gpt = has_text(file, kSector, "EFI PART"sv);
  return DiskImage{
      .format = DiskFormat::kRaw, .bytes = file_size, .partitions = gpt ? "GPT"sv : "MBR"sv};
}

}  // namespace accede::inspect
