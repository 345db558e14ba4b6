#include "accede/image/bzimage.hpp"

#include "accede/base/byte_reader.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <optional>

namespace accede::image {

using namespace std::string_view_literals;

namespace {

namespace boot = abi::linux_boot;
using boot::kSetupHeaderOffset;
using boot::SetupHeader;

constexpr std::size_t kSector = 512;
constexpr std::size_t kParagraph = 16;
/// setup_sects of 0 means this, as the oldest kernels had it.
constexpr std::size_t kOldSetupSectors = 4;
/// What the jump over the header is relative to.
constexpr std::size_t kJumpEnd = 0x202;
/// What kernel_version is relative to.
constexpr std::size_t kVersionBase = 0x200;

/// Where a field of the header lies in the file.
constexpr std::size_t in_file(std::size_t field) {
  return kSetupHeaderOffset + field;
}

/// Where the header of protocol 2.12 ends: handover_offset is its last field.
constexpr std::size_t kOldestHeaderEnd = in_file(offsetof(SetupHeader, kernel_info_offset));
static_assert(BzImage::kSetupHeaderLimit <= offsetof(boot::BootParams, e820_table));
static_assert(BzImage::kSetupHeaderLimit <= 2 * kSector, "setup code is two sectors or more");

std::unexpected<BzImageError> fail(BzImageErrorKind kind, std::size_t offset) {
  return std::unexpected{BzImageError{.kind = kind, .offset = offset}};
}

/// The bytes of the header that is at the right place of `file`, to the end that it declares.
std::expected<std::span<const std::byte>, BzImageError> find_header(const ByteReader& file) {
  const auto boot_flag = file.read<std::uint16_t>(in_file(offsetof(SetupHeader, boot_flag)));
  const auto magic = file.read<std::uint32_t>(in_file(offsetof(SetupHeader, header)));
  if (!boot_flag || !magic) {
    return fail(BzImageErrorKind::kTooShort, file.size());
  }
  if (*boot_flag != boot::kBootFlag) {
    return fail(BzImageErrorKind::kNotLinux, in_file(offsetof(SetupHeader, boot_flag)));
  }
  if (*magic != boot::kHeaderMagic) {
    return fail(BzImageErrorKind::kNotLinux, in_file(offsetof(SetupHeader, header)));
  }
  const auto version = file.read<std::uint16_t>(in_file(offsetof(SetupHeader, version)));
  if (!version) {
    return fail(BzImageErrorKind::kTooShort, file.size());
  }
  if (*version < boot::kVersion212) {
    return fail(BzImageErrorKind::kOldProtocol, in_file(offsetof(SetupHeader, version)));
  }
  const auto jump = *file.read<std::uint16_t>(in_file(offsetof(SetupHeader, jump)));
  const std::size_t end = kJumpEnd + (jump >> 8);
  if (end < kOldestHeaderEnd || end > BzImage::kSetupHeaderLimit) {
    return fail(BzImageErrorKind::kBadHeaderEnd, in_file(offsetof(SetupHeader, jump)) + 1);
  }
  const auto bytes = file.slice(kSetupHeaderOffset, end - kSetupHeaderOffset);
  if (!bytes) {
    return fail(BzImageErrorKind::kTooShort, file.size());
  }
  return *bytes;
}

SetupHeader read_header(std::span<const std::byte> bytes) {
  std::array<std::byte, sizeof(SetupHeader)> raw{};
  std::ranges::copy(bytes.first(std::min(bytes.size(), raw.size())), raw.begin());
  return std::bit_cast<SetupHeader>(raw);
}

std::size_t setup_size(const SetupHeader& header) {
  return (1 + (header.setup_sects == 0 ? kOldSetupSectors : header.setup_sects)) * kSector;
}

/// The protected-mode code behind the setup code, and that it can be entered.
std::expected<std::span<const std::byte>, BzImageError> find_code(const ByteReader& file,
                                                                  const SetupHeader& header) {
  if ((header.loadflags & boot::kLoadedHigh) == 0) {
    return fail(BzImageErrorKind::kNotLoadedHigh, in_file(offsetof(SetupHeader, loadflags)));
  }
  if ((header.xloadflags & boot::kXlfKernel64) == 0) {
    return fail(BzImageErrorKind::kNoEntry64, in_file(offsetof(SetupHeader, xloadflags)));
  }
  const std::size_t size = std::size_t{header.syssize} * kParagraph;
  if (size <= boot::kEntry64Offset) {
    return fail(BzImageErrorKind::kNoCode, in_file(offsetof(SetupHeader, syssize)));
  }
  const auto code = file.slice(setup_size(header), size);
  if (!code) {
    return fail(BzImageErrorKind::kTruncated, file.size());
  }
  return *code;
}

/// Checks where the kernel wants to lie, and how much memory it wants there for `code` bytes.
std::optional<BzImageError> check_placement(const SetupHeader& header, std::size_t code) {
  using enum BzImageErrorKind;
  if (header.init_size < code ||
      header.pref_address > std::numeric_limits<std::uint64_t>::max() - header.init_size) {
    return BzImageError{.kind = kBadInitSize, .offset = in_file(offsetof(SetupHeader, init_size))};
  }
  if (header.relocatable_kernel == 0) {
    return std::nullopt;
  }
  const std::uint32_t alignment = header.kernel_alignment;
  if (!std::has_single_bit(alignment)) {
    return BzImageError{.kind = kBadAlignment,
                        .offset = in_file(offsetof(SetupHeader, kernel_alignment))};
  }
  if (header.min_alignment > std::countr_zero(alignment)) {
    return BzImageError{.kind = kBadAlignment,
                        .offset = in_file(offsetof(SetupHeader, min_alignment))};
  }
  if (header.pref_address % alignment != 0) {
    return BzImageError{.kind = kBadAlignment,
                        .offset = in_file(offsetof(SetupHeader, pref_address))};
  }
  return std::nullopt;
}

/// The text at kernel_version in `setup`, the setup code; nothing when it is not sound.
std::optional<std::string_view> find_version(std::span<const std::byte> setup,
                                             const SetupHeader& header) {
  if (header.kernel_version == 0) {
    return ""sv;
  }
  const std::size_t begin = kVersionBase + header.kernel_version;
  if (begin >= setup.size()) {
    return std::nullopt;
  }
  const auto rest = setup.subspan(begin);
  const auto end = std::ranges::find(rest, std::byte{0});
  const auto is_control = [](std::byte c) { return c < std::byte{0x20} || c == std::byte{0x7F}; };
  if (end == rest.end() || std::any_of(rest.begin(), end, is_control)) {
    return std::nullopt;
  }
  return std::string_view{reinterpret_cast<const char*>(rest.data()),
                          static_cast<std::size_t>(end - rest.begin())};
}

}  // namespace

std::string_view to_string(BzImageErrorKind kind) {
  switch (kind) {
    case BzImageErrorKind::kTooShort:
      return "file ends inside the setup header"sv;
    case BzImageErrorKind::kNotLinux:
      return "not a Linux bzImage: no setup header"sv;
    case BzImageErrorKind::kOldProtocol:
      return "boot protocol older than 2.12"sv;
    case BzImageErrorKind::kBadHeaderEnd:
      return "setup header ends where it cannot"sv;
    case BzImageErrorKind::kNotLoadedHigh:
      return "a zImage, not a bzImage"sv;
    case BzImageErrorKind::kNoEntry64:
      return "no 64-bit entry point"sv;
    case BzImageErrorKind::kNoCode:
      return "protected-mode code too small for an entry point"sv;
    case BzImageErrorKind::kTruncated:
      return "file ends inside the protected-mode code"sv;
    case BzImageErrorKind::kBadInitSize:
      return "init_size smaller than the code, or beyond the address space"sv;
    case BzImageErrorKind::kBadAlignment:
      return "alignments that cannot be met together"sv;
    case BzImageErrorKind::kBadPayload:
      return "payload outside the protected-mode code"sv;
    case BzImageErrorKind::kBadVersionText:
      return "version text outside the setup code, endless or not printable"sv;
  }
  return "unknown error"sv;
}

std::expected<BzImage, BzImageError> BzImage::parse(std::span<const std::byte> file) {
  const ByteReader reader{file};
  const auto header_bytes = find_header(reader);
  if (!header_bytes) {
    return std::unexpected{header_bytes.error()};
  }
  BzImage image;
  image.setup_header_ = *header_bytes;
  image.header_ = read_header(*header_bytes);
  const SetupHeader& header = image.header_;
  const auto code = find_code(reader, header);
  if (!code) {
    return std::unexpected{code.error()};
  }
  image.protected_mode_ = *code;
  if (const auto error = check_placement(header, code->size())) {
    return std::unexpected{*error};
  }
  const auto payload = ByteReader{*code}.slice(header.payload_offset, header.payload_length);
  if (!payload) {
    return fail(BzImageErrorKind::kBadPayload, in_file(offsetof(SetupHeader, payload_offset)));
  }
  image.payload_ = *payload;
  const auto version = find_version(file.first(setup_size(header)), header);
  if (!version) {
    return fail(BzImageErrorKind::kBadVersionText, in_file(offsetof(SetupHeader, kernel_version)));
  }
  image.version_text_ = *version;
  return image;
}

Bytes BzImage::alignment() const {
  return relocatable() ? Bytes{header_.kernel_alignment} : Bytes{1};
}

}  // namespace accede::image
