#include "accede/image/pe.hpp"

#include "accede/base/assert.hpp"
#include "accede/base/byte_reader.hpp"

#include <algorithm>

namespace accede::image {

using namespace std::string_view_literals;

namespace {

constexpr std::uint16_t kMz = 0x5A4D;
constexpr std::size_t kPeOffset = 0x3C;
constexpr std::uint32_t kPeSignature = 0x0000'4550;
// From the signature on.
constexpr std::size_t kMachine = 4;
constexpr std::size_t kSectionCount = 6;
constexpr std::size_t kOptionalSize = 20;
constexpr std::size_t kOptional = 24;
// From the optional header on.
constexpr std::uint16_t kPe32Plus = 0x020B;
constexpr std::size_t kSubsystem = 68;
// A section header.
constexpr std::size_t kSectionHeader = 40;
constexpr std::size_t kNameSize = 8;
constexpr std::size_t kVirtualSize = 8;
constexpr std::size_t kVirtualAddress = 12;
constexpr std::size_t kRawSize = 16;
constexpr std::size_t kRawOffset = 20;
/// PE format: what the Windows loader takes, and firmware too.
constexpr std::uint16_t kMostSections = 96;

std::unexpected<PeError> fail(PeErrorKind kind, std::size_t offset) {
  return std::unexpected{PeError{.kind = kind, .offset = offset}};
}

}  // namespace

std::string_view to_string(PeErrorKind kind) {
  switch (kind) {
    case PeErrorKind::kNotPe:
      return "not an EFI program: no PE header"sv;
    case PeErrorKind::kTruncated:
      return "file ends inside the PE headers"sv;
    case PeErrorKind::kNotPe32Plus:
      return "not a 64-bit EFI program"sv;
    case PeErrorKind::kBadSections:
      return "no sections, or more than a loader takes"sv;
  }
  return "unknown error"sv;
}

std::expected<PeImage, PeError> PeImage::parse(std::span<const std::byte> file) {
  const ByteReader reader{file};
  if (reader.read<std::uint16_t>(0) != kMz) {
    return fail(PeErrorKind::kNotPe, 0);
  }
  const auto pe = reader.read<std::uint32_t>(kPeOffset);
  if (!pe || !reader.slice(*pe, kOptional)) {
    return fail(PeErrorKind::kTruncated, file.size());
  }
  if (reader.read<std::uint32_t>(*pe) != kPeSignature) {
    return fail(PeErrorKind::kNotPe, *pe);
  }
  PeImage image;
  image.file_ = file;
  image.coff_ = *pe;
  image.machine_ = PeMachine{*reader.read<std::uint16_t>(image.coff_ + kMachine)};
  image.section_count_ = *reader.read<std::uint16_t>(image.coff_ + kSectionCount);
  const std::size_t optional = image.coff_ + kOptional;
  const std::size_t optional_size = *reader.read<std::uint16_t>(image.coff_ + kOptionalSize);
  if (!reader.slice(optional, optional_size)) {
    return fail(PeErrorKind::kTruncated, file.size());
  }
  if (optional_size < kSubsystem + 2 || *reader.read<std::uint16_t>(optional) != kPe32Plus) {
    return fail(PeErrorKind::kNotPe32Plus, optional);
  }
  image.subsystem_ = *reader.read<std::uint16_t>(optional + kSubsystem);
  if (image.section_count_ == 0 || image.section_count_ > kMostSections) {
    return fail(PeErrorKind::kBadSections, image.coff_ + kSectionCount);
  }
  image.sections_ = optional + optional_size;
  if (!reader.slice(image.sections_, image.section_count_ * kSectionHeader)) {
    return fail(PeErrorKind::kTruncated, file.size());
  }
  return image;
}

std::string_view PeImage::section_name(std::size_t index) const {
  const auto name = file_.subspan(sections_ + index * kSectionHeader, kNameSize);
  const auto end = std::ranges::find(name, std::byte{0});
  return {reinterpret_cast<const char*>(name.data()), static_cast<std::size_t>(end - name.begin())};
}

std::optional<PeSection> PeImage::section(std::size_t index) const {
  ACCEDE_ASSERT(index < section_count_);
  const ByteReader reader{file_};
  const std::size_t header = sections_ + index * kSectionHeader;
  const std::size_t virtual_size = *reader.read<std::uint32_t>(header + kVirtualSize);
  const std::size_t raw_size = *reader.read<std::uint32_t>(header + kRawSize);
  const std::size_t offset = *reader.read<std::uint32_t>(header + kRawOffset);
  // The raw size is padded, the virtual one may go on with zeros that the file does not hold.
  const std::size_t size = virtual_size == 0 ? raw_size : std::min(virtual_size, raw_size);
  const auto content = reader.slice(offset, size);
  if (!content) {
    return std::nullopt;
  }
  return PeSection{.name = section_name(index), .offset = offset, .content = *content};
}

std::uint64_t PeImage::extent() const {
  const ByteReader reader{file_};
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < section_count_; ++i) {
    const std::size_t header = sections_ + i * kSectionHeader;
    const std::uint64_t size = *reader.read<std::uint32_t>(header + kRawSize);
    const std::uint64_t offset = *reader.read<std::uint32_t>(header + kRawOffset);
    end = std::max(end, size == 0 ? 0 : offset + size);
  }
  return end;
}

std::optional<PeSection> PeImage::find_section(std::string_view name) const {
  for (std::size_t i = 0; i < section_count_; ++i) {
    if (const auto found = section(i); found && found->name == name) {
      return found;
    }
  }
  return std::nullopt;
}

std::optional<PeSection> PeImage::find_placed_section(std::string_view name) const {
  const ByteReader reader{file_};
  for (std::size_t i = 0; i < section_count_; ++i) {
    const std::size_t header = sections_ + i * kSectionHeader;
    const std::size_t address = *reader.read<std::uint32_t>(header + kVirtualAddress);
    const auto content = reader.slice(address, *reader.read<std::uint32_t>(header + kVirtualSize));
    if (content && section_name(i) == name) {
      return PeSection{.name = section_name(i), .offset = address, .content = *content};
    }
  }
  return std::nullopt;
}

}  // namespace accede::image
