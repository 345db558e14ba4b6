#include "accede/firmware/efi_memory_map.hpp"

#include "accede/abi/efi.hpp"
#include "accede/base/assert.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace accede::firmware {

using namespace std::string_view_literals;
namespace {

using abi::efi::MemoryDescriptor;
using abi::efi::MemoryType;
using guest::MemoryKind;
using guest::MemoryRegion;

constexpr Bytes kPage = 4_KiB;
/// EFI_MEMORY_UC, WC, WT, WB.
constexpr std::uint64_t kEveryCaching = 0xF;
/// EFI_MEMORY_NV.
constexpr std::uint64_t kNonVolatile = 1ULL << 15;

MemoryType type_of(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::kUsable:
      return MemoryType::kConventional;
    case MemoryKind::kUnaccepted:
      return MemoryType::kUnaccepted;
    case MemoryKind::kReserved:
      return MemoryType::kReserved;
    case MemoryKind::kAcpiReclaim:
      return MemoryType::kAcpiReclaim;
    case MemoryKind::kAcpiNvs:
      return MemoryType::kAcpiNvs;
    case MemoryKind::kUnusable:
      return MemoryType::kUnusable;
    case MemoryKind::kPersistent:
      return MemoryType::kPersistent;
  }
  return MemoryType::kReserved;
}

std::uint64_t attribute_of(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::kReserved:
      return 0;
    case MemoryKind::kPersistent:
      return kEveryCaching | kNonVolatile;
    default:
      return kEveryCaching;
  }
}

}  // namespace

std::string_view to_string(EfiMapErrorKind kind) {
  switch (kind) {
    case EfiMapErrorKind::kUnaligned:
      return "a region of the memory map is not page aligned"sv;
    case EfiMapErrorKind::kBufferTooSmall:
      return "the buffer for the EFI memory map is too small"sv;
  }
  return "unknown error of the EFI memory map"sv;
}

std::expected<std::span<const std::byte>, EfiMapError> write_efi_map(const guest::MemoryMap& map,
                                                                     std::size_t stride,
                                                                     std::span<std::byte> buffer) {
  ACCEDE_ASSERT(stride >= sizeof(MemoryDescriptor));
  const std::uint64_t size = efi_map_size(map, stride).value();
  if (buffer.size() < size) {
    return std::unexpected{EfiMapError{EfiMapErrorKind::kBufferTooSmall, size}};
  }
  const std::span written = buffer.first(size);
  std::ranges::fill(written, std::byte{});
  for (std::size_t i = 0; i < map.regions().size(); ++i) {
    const MemoryRegion& region = map.regions()[i];
    if (!region.range.begin().is_aligned(kPage) || !region.range.end().is_aligned(kPage)) {
      return std::unexpected{EfiMapError{EfiMapErrorKind::kUnaligned, i}};
    }
    const MemoryDescriptor descriptor{.type = static_cast<std::uint32_t>(type_of(region.kind)),
                                      .padding = 0,
                                      .physical_start = region.range.begin().value(),
                                      .virtual_start = 0,
                                      .number_of_pages = region.range.size() / kPage,
                                      .attribute = attribute_of(region.kind)};
    const auto raw = std::bit_cast<std::array<std::byte, sizeof(descriptor)>>(descriptor);
    std::ranges::copy(raw, written.subspan(i * stride).begin());
  }
  return written;
}

}  // namespace accede::firmware
