#include "tests/image/made_up_pe.hpp"
#include "tests/inspect/made_up.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace accede::inspect::test {
namespace {

using abi::efi::Guid;

constexpr Guid kFfs2{0x8C8CE578, 0x8A3D, 0x4F1C, {0x99, 0x35, 0x89, 0x61, 0x85, 0xC3, 0x2D, 0xD3}};
constexpr Guid kVariables{
    0xFFF12B8D, 0x7696, 0x4C8B, {0xA9, 0x85, 0x27, 0x47, 0x07, 0x5B, 0x4F, 0x50}};
constexpr Guid kLzma{0xEE4E5898, 0x3914, 0x4259, {0x9D, 0x6E, 0xDC, 0x7B, 0xD7, 0x94, 0x03, 0xCF}};
constexpr Guid kFooter{
    0x96B582DE, 0x1FB2, 0x45F7, {0xBA, 0xEA, 0xA3, 0x66, 0xC5, 0x5A, 0x08, 0x2D}};
constexpr Guid kSevMetadata{
    0xDC886566, 0x984A, 0x4798, {0xA7, 0x5E, 0x55, 0x85, 0xA7, 0xBF, 0x67, 0xCC}};
constexpr Guid kTdxMetadata{
    0xE47A6535, 0x984A, 0x4798, {0x86, 0x5E, 0x46, 0x85, 0xA7, 0xBF, 0x8E, 0xC2}};

constexpr std::size_t kPage = 0x1000;

void append_guid(ByteVector& bytes, const Guid& guid) {
  append(bytes, std::bit_cast<std::array<std::byte, sizeof(Guid)>>(guid));
}

void pad(ByteVector& bytes, std::size_t alignment, std::byte with = std::byte{0}) {
  while (bytes.size() % alignment != 0) {
    bytes.push_back(with);
  }
}

void put(ByteVector& bytes, std::size_t at, const ByteVector& what) {
  std::ranges::copy(what, bytes.begin() + static_cast<std::ptrdiff_t>(at));
}

ByteVector number(std::uint64_t value, std::size_t size) {
  ByteVector bytes;
  append_number(bytes, value, size);
  return bytes;
}

/// `content` in whole pages, with its header.
ByteVector volume_of(const Guid& filesystem, const ByteVector& content) {
  constexpr std::size_t kHeader = 0x48;
  const std::size_t size = (kHeader + content.size() + kPage - 1) / kPage * kPage;
  ByteVector bytes(16);
  append_guid(bytes, filesystem);
  append_number(bytes, size, 8);
  append(bytes, bytes_of("_FVH"));
  append_number(bytes, 0, 4);
  append_number(bytes, kHeader, 2);
  append_number(bytes, 0, 2 + 2 + 1);
  append_number(bytes, 2, 1);
  append_number(bytes, size / kPage, 4);
  append_number(bytes, kPage, 4);
  append_number(bytes, 0, 8);
  unsigned sum = 0;
  for (std::size_t i = 0; i < kHeader; i += 2) {
    sum += std::to_integer<unsigned>(bytes[i]) | std::to_integer<unsigned>(bytes[i + 1]) << 8;
  }
  put(bytes, 50, number(0x10000 - (sum & 0xFFFF), 2));
  append(bytes, content);
  bytes.resize(size, std::byte{0xFF});
  return bytes;
}

void append_entry(ByteVector& bytes, const Guid& guid, const ByteVector& data) {
  append(bytes, data);
  append_number(bytes, data.size() + 18, 2);
  append_guid(bytes, guid);
}

}  // namespace

ByteVector section(std::uint8_t type, const ByteVector& content) {
  ByteVector bytes = number(content.size() + 4, 3);
  append_number(bytes, type, 1);
  append(bytes, content);
  return bytes;
}

ByteVector guided_section(const Guid& guid, std::uint16_t attributes, const ByteVector& content) {
  ByteVector bytes;
  append_guid(bytes, guid);
  append_number(bytes, 24, 2);
  append_number(bytes, attributes, 2);
  append(bytes, content);
  return section(2, bytes);
}

ByteVector packed_section(const ByteVector& sections) {
  return guided_section(kLzma, 1, pack(sections, Compression::kLzma));
}

ByteVector firmware_file(const Guid& name, std::uint8_t type, const ByteVector& content) {
  ByteVector bytes;
  append_guid(bytes, name);
  append_number(bytes, 0, 2);
  append_number(bytes, type, 1);
  append_number(bytes, 0, 1);
  append_number(bytes, content.size() + 24, 3);
  append_number(bytes, 0, 1);
  unsigned sum = 0;
  for (const std::byte b : bytes) {
    sum += std::to_integer<unsigned>(b);
  }
  bytes[16] = static_cast<std::byte>(0x100 - (sum & 0xFF));
  bytes[17] = std::byte{0xAA};
  bytes[23] = std::byte{0xF8};
  append(bytes, content);
  return bytes;
}

ByteVector driver(const Guid& name, const std::vector<Guid>& guids) {
  ByteVector code(64);
  for (const Guid& guid : guids) {
    append_guid(code, guid);
  }
  image::test::MadeUpPe pe;
  pe.sections.push_back({.name = ".text", .content = code});
  return firmware_file(name, 0x07, section(0x10, pe.file()));
}

ByteVector volume(const std::vector<ByteVector>& files) {
  ByteVector content;
  for (const ByteVector& file : files) {
    append(content, file);
    pad(content, 8, std::byte{0xFF});
  }
  return volume_of(kFfs2, content);
}

ByteVector variable_store() {
  return volume_of(kVariables, {});
}

ByteVector flash_end(const MetadataTypes& types) {
  ByteVector sev = bytes_of("ASEV");
  append_number(sev, 16 + 12 * types.sev.size(), 4);
  append_number(sev, 1, 4);
  append_number(sev, types.sev.size(), 4);
  for (const std::uint32_t type : types.sev) {
    append_number(sev, 0x800000, 4);
    append_number(sev, 0x1000, 4);
    append_number(sev, type, 4);
  }
  ByteVector tdx = bytes_of("TDVF");
  append_number(tdx, 16 + 32 * types.tdx.size(), 4);
  append_number(tdx, 1, 4);
  append_number(tdx, types.tdx.size(), 4);
  for (const std::uint32_t type : types.tdx) {
    append_number(tdx, 0, 8);
    append_number(tdx, 0x800000, 8);
    append_number(tdx, 0x1000, 8);
    append_number(tdx, type, 8);
  }
  ByteVector page(kPage);
  put(page, 0x100, sev);
  put(page, 0x800, tdx);
  ByteVector table;
  if (!types.sev.empty()) {
    append_entry(table, kSevMetadata, number(kPage - 0x100, 4));
  }
  if (!types.tdx.empty()) {
    append_entry(table, kTdxMetadata, number(kPage - 0x800, 4));
  }
  append_number(table, table.size() + 18, 2);
  append_guid(table, kFooter);
  put(page, kPage - 0x20 - table.size(), table);
  return page;
}

ByteVector flash(const std::vector<ByteVector>& drivers, const MetadataTypes& types) {
  constexpr Guid kMain{
      0x9E21FD93, 0x9C72, 0x4C15, {0x8C, 0x4B, 0xE7, 0x7F, 0x1D, 0xB2, 0xD7, 0x92}};
  ByteVector image = variable_store();
  append(image,
         volume({firmware_file(kMain, 0x0B, packed_section(section(0x17, volume(drivers))))}));
  append(image, flash_end(types));
  return image;
}

}  // namespace accede::inspect::test
