#include "accede/efi/flat_image_file.hpp"

#include "accede/base/assert.hpp"
#include "accede/base/byte_reader.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace accede::efi {

using namespace std::string_view_literals;
namespace {

using emulator::FlatImageHeader;
using emulator::FlatImageRela;

constexpr std::uint64_t kPointer = sizeof(std::uint64_t);

using Checked = std::expected<void, FlatImageError>;

std::unexpected<FlatImageError> fail(FlatImageErrorKind kind, std::size_t offset) {
  return std::unexpected{FlatImageError{.kind = kind, .offset = offset}};
}

/// Precondition: the list lies in `file`.
FlatImageRela relocation(std::span<const std::byte> file, const FlatImageHeader& header,
                         std::uint64_t index) {
  const auto rela = ByteReader{file}.read_struct<FlatImageRela>(header.rela_offset +
                                                                index * sizeof(FlatImageRela));
  ACCEDE_ASSERT(rela.has_value());
  return *rela;
}

Checked check_header(const FlatImageHeader& header, std::size_t available) {
  if (header.magic != FlatImageHeader::kMagic) {
    return fail(FlatImageErrorKind::kBadMagic, offsetof(FlatImageHeader, magic));
  }
  if (header.file_bytes > available) {
    return fail(FlatImageErrorKind::kTruncated, offsetof(FlatImageHeader, file_bytes));
  }
  if (header.memory_bytes > FlatImageFile::kMostMemory.value()) {
    return fail(FlatImageErrorKind::kBadSize, offsetof(FlatImageHeader, memory_bytes));
  }
  if (header.file_bytes < sizeof(FlatImageHeader) || header.file_bytes > header.memory_bytes) {
    return fail(FlatImageErrorKind::kBadSize, offsetof(FlatImageHeader, file_bytes));
  }
  if (header.entry < sizeof(FlatImageHeader) || header.entry >= header.file_bytes) {
    return fail(FlatImageErrorKind::kBadEntry, offsetof(FlatImageHeader, entry));
  }
  if (header.rela_offset > header.file_bytes) {
    return fail(FlatImageErrorKind::kBadRelocations, offsetof(FlatImageHeader, rela_offset));
  }
  if (header.rela_count > (header.file_bytes - header.rela_offset) / sizeof(FlatImageRela)) {
    return fail(FlatImageErrorKind::kBadRelocations, offsetof(FlatImageHeader, rela_count));
  }
  return {};
}

/// Precondition: check_header() was content.
Checked check_relocations(std::span<const std::byte> file, const FlatImageHeader& header) {
  for (std::uint64_t i = 0; i < header.rela_count; ++i) {
    const FlatImageRela rela = relocation(file, header, i);
    const std::size_t at = header.rela_offset + i * sizeof(FlatImageRela);
    if (rela.info != FlatImageRela::kRelative) {
      return fail(FlatImageErrorKind::kUnknownRelocation, at + offsetof(FlatImageRela, info));
    }
    if (rela.offset > header.memory_bytes || header.memory_bytes - rela.offset < kPointer) {
      return fail(FlatImageErrorKind::kRelocationOutside, at + offsetof(FlatImageRela, offset));
    }
  }
  return {};
}

}  // namespace

std::string_view to_string(FlatImageErrorKind kind) {
  switch (kind) {
    case FlatImageErrorKind::kTruncated:
      return "the image file is cut off"sv;
    case FlatImageErrorKind::kBadMagic:
      return "the image file is none of ours"sv;
    case FlatImageErrorKind::kBadSize:
      return "the image file gives sizes that cannot be"sv;
    case FlatImageErrorKind::kBadEntry:
      return "the entry point lies outside the image file"sv;
    case FlatImageErrorKind::kBadRelocations:
      return "the relocations lie outside the image file"sv;
    case FlatImageErrorKind::kUnknownRelocation:
      return "the image file has a relocation of an unknown type"sv;
    case FlatImageErrorKind::kRelocationOutside:
      return "the image file relocates what lies outside its memory"sv;
  }
  return "unknown error of an image file"sv;
}

std::expected<FlatImageFile, FlatImageError> FlatImageFile::parse(std::span<const std::byte> file) {
  const auto header = ByteReader{file}.read_struct<FlatImageHeader>(0);
  if (!header) {
    return fail(FlatImageErrorKind::kTruncated, file.size());
  }
  if (const Checked sound = check_header(*header, file.size()); !sound) {
    return std::unexpected{sound.error()};
  }
  if (const Checked sound = check_relocations(file, *header); !sound) {
    return std::unexpected{sound.error()};
  }
  return FlatImageFile{file, *header};
}

void FlatImageFile::relocate(std::span<std::byte> memory, PhysAddr base) const {
  ACCEDE_ASSERT(memory.size() >= header_.memory_bytes);
  for (std::uint64_t i = 0; i < header_.rela_count; ++i) {
    const FlatImageRela rela = relocation(file_, header_, i);
    // Wraps as the linker's arithmetic does: an addend may be negative.
    const auto pointer = std::bit_cast<std::array<std::byte, kPointer>>(base.value() + rela.addend);
    std::ranges::copy(pointer, memory.subspan(rela.offset, kPointer).begin());
  }
}

void FlatImageFile::place(std::span<std::byte> memory, PhysAddr base) const {
  ACCEDE_ASSERT(memory.size() >= header_.memory_bytes);
  const auto image = memory.first(header_.memory_bytes);
  std::ranges::copy(content(), image.begin());
  std::ranges::fill(image.subspan(header_.file_bytes), std::byte{0});
  relocate(image, base);
}

}  // namespace accede::efi
