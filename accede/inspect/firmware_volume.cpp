#include "accede/inspect/firmware_volume.hpp"

#include "accede/base/byte_reader.hpp"
#include "accede/inspect/decompress.hpp"
#include "accede/inspect/inspect.hpp"

#include <algorithm>
#include <utility>

namespace accede::inspect {
namespace {

using abi::efi::Guid;

constexpr Guid kFfs2{0x8C8CE578, 0x8A3D, 0x4F1C, {0x99, 0x35, 0x89, 0x61, 0x85, 0xC3, 0x2D, 0xD3}};
constexpr Guid kFfs3{0x5473C07A, 0x3DCB, 0x4DCA, {0xBD, 0x6F, 0x1E, 0x96, 0x89, 0xE7, 0x34, 0x9A}};
constexpr Guid kLzma{0xEE4E5898, 0x3914, 0x4259, {0x9D, 0x6E, 0xDC, 0x7B, 0xD7, 0x94, 0x03, 0xCF}};

// EFI_FIRMWARE_VOLUME_HEADER.
constexpr std::size_t kVolumeFilesystem = 16;
constexpr std::size_t kVolumeLength = 32;
constexpr std::size_t kVolumeSignature = 40;
constexpr std::size_t kVolumeHeaderLength = 48;
constexpr std::size_t kVolumeExtHeader = 52;
constexpr std::size_t kVolumeRevision = 55;
constexpr std::size_t kVolumeHeaderSize = 56;
constexpr std::uint32_t kVolumeMagic = 0x4856'465F;  // "_FVH"
constexpr std::size_t kVolumeAlignment = 8;

// EFI_FFS_FILE_HEADER.
constexpr std::size_t kFileType = 18;
constexpr std::size_t kFileAttributes = 19;
constexpr std::size_t kFileSize = 20;
constexpr std::size_t kFileHeader = 24;
constexpr std::size_t kLargeFileHeader = 32;
constexpr std::byte kLargeFile{0x01};
constexpr std::uint8_t kRawFile = 0x01;
constexpr std::uint8_t kPadFile = 0xF0;
constexpr std::size_t kFileAlignment = 8;

// Sections.
constexpr std::size_t kSectionHeader = 4;
constexpr std::size_t kLargeSectionHeader = 8;
constexpr std::uint32_t kLargeSection = 0xFF'FFFF;
constexpr std::size_t kSectionAlignment = 4;
constexpr std::uint8_t kCompressed = 0x01;
constexpr std::uint8_t kGuided = 0x02;
constexpr std::uint8_t kDisposable = 0x03;
constexpr std::uint8_t kPe32 = 0x10;
constexpr std::uint8_t kVolumeImage = 0x17;
constexpr std::uint16_t kProcessingRequired = 1;

/// More than the volumes of any firmware hold.
constexpr std::size_t kMostFiles = 100'000;
constexpr std::size_t kMostProblems = 16;

std::size_t align(std::size_t offset, std::size_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

std::uint32_t read_u24(std::span<const std::byte> bytes, std::size_t at) {
  return *ByteReader{bytes}.read<std::uint16_t>(at) | std::to_integer<std::uint32_t>(bytes[at + 2])
                                                          << 16;
}

/// Whether a sound header of a volume begins here: "_FVH" occurs in code, too.
bool is_volume(std::span<const std::byte> bytes) {
  const ByteReader reader{bytes};
  if (reader.read<std::uint32_t>(kVolumeSignature) != kVolumeMagic) {
    return false;
  }
  const auto length = reader.read<std::uint16_t>(kVolumeHeaderLength);
  const auto header = reader.slice(0, length.value_or(0));
  if (!header || *length < kVolumeHeaderSize || *length % 2 != 0 ||
      bytes[kVolumeRevision] != std::byte{2}) {
    return false;
  }
  std::uint16_t sum = 0;
  for (std::size_t at = 0; at < *length; at += 2) {
    sum = static_cast<std::uint16_t>(sum + *reader.read<std::uint16_t>(at));
  }
  return sum == 0;
}

/// The header's bytes sum up to 0, the state and the checksum of the content left out.
bool sound_file_header(std::span<const std::byte> header) {
  constexpr std::size_t kContentChecksum = 17;
  constexpr std::size_t kState = 23;
  unsigned sum = 0;
  for (std::size_t i = 0; i < header.size(); ++i) {
    if (i != kContentChecksum && i != kState) {
      sum += std::to_integer<unsigned>(header[i]);
    }
  }
  return (sum & 0xFF) == 0;
}

bool is_erased(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0xFF}; });
}

}  // namespace

FirmwareVolumes::FirmwareVolumes(std::span<const std::byte> flash) {
  walk_volumes({.bytes = flash, .place = "file"});
}

const FirmwareFile* FirmwareVolumes::find(const Guid& name) const {
  const auto found =
      std::ranges::find_if(files_, [&](const auto& file) { return file.name == name; });
  return found == files_.end() ? nullptr : &*found;
}

void FirmwareVolumes::problem(const Part& where, std::string_view what) {
  if (problems_.size() < kMostProblems) {
    problems_.push_back(std::string{what} + " (" + std::string{where.place} + " at byte " +
                        std::to_string(where.base) + ")");
  }
}

void FirmwareVolumes::walk_volumes(const Part& part) {
  std::size_t at = 0;
  while (part.bytes.size() - at >= kVolumeHeaderSize) {
    const auto rest = part.bytes.subspan(at);
    if (!is_volume(rest)) {
      at += kVolumeAlignment;
      if (at > part.bytes.size()) {
        return;
      }
      continue;
    }
    if (part.depth == 0 && !first_volume_) {
      first_volume_ = at;
    }
    const auto length = *ByteReader{rest}.read<std::uint64_t>(kVolumeLength);
    const auto header = *ByteReader{rest}.read<std::uint16_t>(kVolumeHeaderLength);
    if (length > rest.size() || length < header) {
      if (part.depth == 0 && !truncated_volume_) {
        truncated_volume_ = at;
      }
      problem(part.sub(at, 0), "a volume that is not all there");
      return;
    }
    walk_volume(part.sub(at, static_cast<std::size_t>(length)));
    at =
        std::min(align(at + static_cast<std::size_t>(length), kVolumeAlignment), part.bytes.size());
  }
}

void FirmwareVolumes::walk_volume(const Part& volume) {
  const ByteReader reader{volume.bytes};
  const Guid filesystem = *reader.read_struct<Guid>(kVolumeFilesystem);
  const bool large_files = filesystem == kFfs3;
  if (!large_files && filesystem != kFfs2) {
    return;  // variables, or something else that holds no drivers
  }
  std::size_t at = *reader.read<std::uint16_t>(kVolumeHeaderLength);
  if (const std::size_t ext = *reader.read<std::uint16_t>(kVolumeExtHeader); ext != 0) {
    constexpr std::size_t kExtSize = 16;
    const auto size = reader.read<std::uint32_t>(ext + kExtSize);
    if (!size || *size > volume.bytes.size() - ext) {
      problem(volume, "a volume whose second header is not sound");
      return;
    }
    at = std::max(at, ext + *size);
  }
  at = align(at, kFileAlignment);
  while (at < volume.bytes.size() && files_.size() < kMostFiles) {
    const std::size_t size = read_file(volume.sub(at, volume.bytes.size() - at), large_files);
    if (size == 0) {
      return;
    }
    at = align(at + size, kFileAlignment);
  }
}

std::size_t FirmwareVolumes::read_file(const Part& rest, bool large_files) {
  const ByteReader reader{rest.bytes};
  const auto header = reader.slice(0, std::min(kFileHeader, rest.bytes.size()));
  if (header->size() < kFileHeader || is_erased(*header)) {
    return 0;
  }
  const bool large = large_files && (rest.bytes[kFileAttributes] & kLargeFile) != std::byte{0};
  const std::size_t header_size = large ? kLargeFileHeader : kFileHeader;
  const auto size = large ? reader.read<std::uint64_t>(kFileHeader)
                          : std::optional<std::uint64_t>{read_u24(rest.bytes, kFileSize)};
  const auto sound = reader.slice(0, header_size);
  if (!sound || !sound_file_header(*sound) || *size < header_size || *size > rest.bytes.size()) {
    problem(rest, "a file that is not sound");
    return 0;
  }
  const auto type = std::to_integer<std::uint8_t>(rest.bytes[kFileType]);
  const Part file = rest.sub(0, static_cast<std::size_t>(*size));
  if (type == kPadFile) {
    return file.bytes.size();
  }
  const Part content = file.sub(header_size, file.bytes.size() - header_size);
  files_.push_back({.name = *reader.read_struct<Guid>(0),
                    .type = type,
                    .content = content.bytes,
                    .place = std::string{rest.place},
                    .offset = rest.base,
                    .content_offset = content.base,
                    .machine = std::nullopt});
  if (type != kRawFile) {
    walk_sections(content);
  }
  return file.bytes.size();
}

void FirmwareVolumes::walk_sections(const Part& sections) {
  if (sections.depth > kMostDepth) {
    problem(sections, "sections that nest too deep");
    return;
  }
  std::size_t at = 0;
  while (at < sections.bytes.size() && sections.bytes.size() - at >= kSectionHeader) {
    const Part rest = sections.sub(at, sections.bytes.size() - at);
    const std::uint32_t small = read_u24(rest.bytes, 0);
    const bool large = small == kLargeSection;
    const std::size_t header = large ? kLargeSectionHeader : kSectionHeader;
    const auto size =
        large ? ByteReader{rest.bytes}.read<std::uint32_t>(kSectionHeader) : std::optional{small};
    if (!size || *size < header || *size > rest.bytes.size()) {
      problem(rest, "a section that is not sound");
      return;
    }
    Part section = rest.sub(0, *size);
    ++section.depth;
    walk_section(section, std::to_integer<std::uint8_t>(rest.bytes[3]), header);
    at = align(at + *size, kSectionAlignment);
  }
}

void FirmwareVolumes::walk_section(const Part& section, std::uint8_t type, std::size_t header) {
  const Part content = section.sub(header, section.bytes.size() - header);
  switch (type) {
    case kCompressed: {
      constexpr std::size_t kCompressionHeader = 5;
      if (content.bytes.size() < kCompressionHeader ||
          content.bytes[kCompressionHeader - 1] != std::byte{0}) {
        problem(section, "a section that is compressed by an unknown method");
        return;
      }
      walk_sections(content.sub(kCompressionHeader, content.bytes.size() - kCompressionHeader));
      return;
    }
    case kGuided:
      walk_guided_section(section, header);
      return;
    case kDisposable:
      walk_sections(content);
      return;
    case kVolumeImage:
      walk_volumes(content);
      return;
    case kPe32:
      if (!files_.empty() && !files_.back().machine) {
        if (const auto pe = image::PeImage::parse(content.bytes)) {
          files_.back().machine = pe->machine();
        }
      }
      return;
    default:
      return;
  }
}

void FirmwareVolumes::walk_guided_section(const Part& section, std::size_t header) {
  const ByteReader reader{section.bytes};
  const auto guid = reader.read_struct<Guid>(header);
  const auto data = reader.read<std::uint16_t>(header + sizeof(Guid));
  const auto attributes = reader.read<std::uint16_t>(header + sizeof(Guid) + 2);
  if (!attributes || *data > section.bytes.size()) {
    problem(section, "a section that is not sound");
    return;
  }
  if (*guid == kLzma) {
    unpack(section, *data);
    return;
  }
  if ((*attributes & kProcessingRequired) != 0) {
    problem(section, "a section that is packed in an unknown way");
    return;
  }
  walk_sections(section.sub(*data, section.bytes.size() - *data));
}

void FirmwareVolumes::unpack(const Part& section, std::size_t data) {
  auto unpacked = decompress(section.bytes.subspan(data), kMostUnpacked - unpacked_size_);
  if (!unpacked) {
    problem(section, to_string(unpacked.error()));
    return;
  }
  unpacked_size_ += unpacked->size();
  places_.push_back("section unpacked from " + std::string{section.place} + " at byte " +
                    std::to_string(section.base));
  unpacked_.push_back(*std::move(unpacked));
  walk_sections({.bytes = unpacked_.back(), .place = places_.back(), .depth = section.depth});
}

}  // namespace accede::inspect
