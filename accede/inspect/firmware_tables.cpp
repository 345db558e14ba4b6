#include "accede/inspect/firmware_tables.hpp"

#include "accede/abi/efi.hpp"
#include "accede/base/byte_reader.hpp"

#include <algorithm>
#include <string_view>

namespace accede::inspect {
namespace {

using abi::efi::Guid;
using Flash = std::span<const std::byte>;

constexpr Guid kFooter{
    0x96B582DE, 0x1FB2, 0x45F7, {0xBA, 0xEA, 0xA3, 0x66, 0xC5, 0x5A, 0x08, 0x2D}};
constexpr Guid kSevEsReset{
    0x00F771DE, 0x1A7E, 0x4FCB, {0x89, 0x0E, 0x68, 0xC7, 0x7E, 0x2F, 0xB4, 0x4E}};
constexpr Guid kSevMetadata{
    0xDC886566, 0x984A, 0x4798, {0xA7, 0x5E, 0x55, 0x85, 0xA7, 0xBF, 0x67, 0xCC}};
constexpr Guid kTdxMetadata{
    0xE47A6535, 0x984A, 0x4798, {0x86, 0x5E, 0x46, 0x85, 0xA7, 0xBF, 0x8E, 0xC2}};
constexpr Guid kIgvm{0x784FA70E, 0x3176, 0x4677, {0x8A, 0x20, 0x04, 0xB6, 0x86, 0x99, 0xE3, 0x74}};

constexpr std::size_t kGuidSize = sizeof(Guid);
/// Of the footer's GUID, from the end of the flash.
constexpr std::size_t kFooterFromEnd = 0x30;
/// A length and a GUID end every entry.
constexpr std::size_t kEntryTail = 2 + kGuidSize;

constexpr std::uint32_t kSevSignature = 0x5645'5341;  // "ASEV"
constexpr std::uint32_t kTdxSignature = 0x4656'4454;  // "TDVF"
/// Signature, length, version, count.
constexpr std::size_t kMetadataHeader = 16;
constexpr std::uint32_t kMetadataVersion = 1;
constexpr std::uint32_t kMostSections = 1024;

struct Entry {
  Guid guid;
  std::size_t data;  ///< in the flash
  std::size_t size;
};

/// The entries from the last to the first; a length that does not fit ends the walk.
std::vector<Entry> read_entries(const ByteReader& flash, std::size_t footer,
                                std::vector<std::string>& problems) {
  std::vector<Entry> entries;
  const std::size_t length_at = footer - 2;
  const std::size_t total = *flash.read<std::uint16_t>(length_at);
  if (total < kEntryTail || total > footer + kGuidSize) {
    problems.emplace_back("the table of GUIDs does not lie in the flash");
    return entries;
  }
  const std::size_t begin = footer + kGuidSize - total;
  std::size_t end = length_at;
  while (end - begin >= kEntryTail) {
    const std::size_t size = *flash.read<std::uint16_t>(end - kEntryTail);
    if (size < kEntryTail || size > end - begin) {
      problems.emplace_back("the table of GUIDs has an entry of a wrong length");
      break;
    }
    entries.push_back({.guid = *flash.read_struct<Guid>(end - kGuidSize),
                       .data = end - size,
                       .size = size - kEntryTail});
    end -= size;
  }
  return entries;
}

/// Where the metadata lie that `entry` leads to; nothing when that is not in the flash.
std::optional<std::size_t> metadata_offset(const ByteReader& flash, const Entry& entry) {
  const auto from_end = entry.size < 4 ? std::nullopt : flash.read<std::uint32_t>(entry.data);
  return from_end && *from_end <= flash.size() ? std::optional{flash.size() - *from_end}
                                               : std::nullopt;
}

struct Layout {
  std::uint32_t signature;
  std::size_t section_size;
  MetadataSection (*read)(const ByteReader& flash, std::size_t at);
};

constexpr Layout kSevLayout{kSevSignature, 12, [](const ByteReader& flash, std::size_t at) {
                              return MetadataSection{.base = *flash.read<std::uint32_t>(at),
                                                     .size = *flash.read<std::uint32_t>(at + 4),
                                                     .type = *flash.read<std::uint32_t>(at + 8)};
                            }};
constexpr Layout kTdxLayout{kTdxSignature, 32, [](const ByteReader& flash, std::size_t at) {
                              return MetadataSection{.base = *flash.read<std::uint64_t>(at + 8),
                                                     .size = *flash.read<std::uint64_t>(at + 16),
                                                     .type = *flash.read<std::uint32_t>(at + 24)};
                            }};

std::optional<FirmwareMetadata> read_metadata(const ByteReader& flash, const Entry& entry,
                                              const Layout& layout) {
  const auto offset = metadata_offset(flash, entry);
  if (!offset || !flash.slice(*offset, kMetadataHeader) ||
      flash.read<std::uint32_t>(*offset) != layout.signature ||
      flash.read<std::uint32_t>(*offset + 8) != kMetadataVersion) {
    return std::nullopt;
  }
  const std::uint32_t count = *flash.read<std::uint32_t>(*offset + 12);
  const std::size_t first = *offset + kMetadataHeader;
  if (count > kMostSections || !flash.slice(first, count * layout.section_size)) {
    return std::nullopt;
  }
  FirmwareMetadata metadata{.offset = *offset, .sections = {}};
  for (std::size_t i = 0; i < count; ++i) {
    metadata.sections.push_back(layout.read(flash, first + i * layout.section_size));
  }
  return metadata;
}

}  // namespace

bool FirmwareMetadata::has(std::uint32_t type) const {
  return std::ranges::any_of(sections, [&](const auto& section) { return section.type == type; });
}

FirmwareTables read_firmware_tables(Flash bytes) {
  const ByteReader flash{bytes};
  FirmwareTables tables;
  if (flash.size() < kFooterFromEnd + 2 ||
      flash.read_struct<Guid>(flash.size() - kFooterFromEnd) != kFooter) {
    return tables;
  }
  tables.footer = flash.size() - kFooterFromEnd;
  for (const Entry& entry : read_entries(flash, *tables.footer, tables.problems)) {
    if (entry.guid == kSevEsReset) {
      tables.sev_es_reset = entry.data;
    } else if (entry.guid == kIgvm) {
      tables.igvm = entry.data;
    } else if (entry.guid == kSevMetadata) {
      tables.sev = read_metadata(flash, entry, kSevLayout);
      if (!tables.sev) {
        tables.problems.emplace_back("the SEV metadata are not sound");
      }
    } else if (entry.guid == kTdxMetadata) {
      tables.tdx = read_metadata(flash, entry, kTdxLayout);
      if (!tables.tdx) {
        tables.problems.emplace_back("the TDX metadata are not sound");
      }
    }
  }
  return tables;
}

}  // namespace accede::inspect
