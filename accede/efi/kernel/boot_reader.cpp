#include "accede/efi/kernel/boot_reader.hpp"

#include "accede/efi/kernel/clock.hpp"

#include <array>
#include <limits>

namespace accede::efi::kernel {
namespace {

constexpr std::uint64_t kEfiEntryBytes = 24;
constexpr PhysAddr kNoEnd{std::numeric_limits<std::uint64_t>::max()};

/// Bytes that lie in the address space, at an address that is not "none" if there are any.
bool possible(std::uint64_t at, std::uint64_t size) {
  return PhysRange::make(PhysAddr{at}, Bytes{size}).has_value() && (at != 0 || size == 0);
}

}  // namespace

std::expected<BootReader, KernelError> BootReader::make(const BootInfo& boot, PhysWindow window) {
  const auto fail = [](std::string_view why, std::uint64_t detail) {
    return std::unexpected{
        KernelError{.what = "the kernel was started with a BootInfo that cannot be"sv,
                    .why = why,
                    .detail = detail}};
  };
  if (boot.magic != BootInfo::kMagic || boot.version != BootInfo::kVersion) {
    return fail("unknown version"sv, boot.version);
  }
  const std::array named{boot.image, boot.pristine, boot.info};
  for (const BootInfo::Range& range : named) {
    // Rounded to pages later: the last page must not end at 2^64.
    if (range.begin > range.end || range.end > kNoEnd.value() - 4096) {
      return fail("a range ends before it begins"sv, range.begin);
    }
  }
  if (boot.image.begin == boot.image.end) {
    return fail("it does not say where the kernel lies"sv, boot.image.begin);
  }
  if (!possible(boot.efi_map, boot.efi_map_bytes)) {
    return fail("the memory map is nowhere"sv, boot.efi_map);
  }
  if (!possible(boot.command_line, boot.command_line_bytes)) {
    return fail("the command line is nowhere"sv, boot.command_line);
  }
  if (boot.efi_entry_count > std::numeric_limits<std::uint32_t>::max() ||
      !possible(boot.efi_entries, boot.efi_entry_count * kEfiEntryBytes)) {
    return fail("the configuration table is nowhere"sv, boot.efi_entries);
  }
  if (boot.marked_page % 4096 != 0 || boot.marked_page > kNoEnd.value() - 8191) {
    return fail("the marked page is no page"sv, boot.marked_page);
  }
  if (!Clock::is_possible(boot.tsc_hz)) {
    return fail("the time stamp counter has no speed that can be"sv, boot.tsc_hz);
  }
  return BootReader{boot, window};
}

PhysRange BootReader::marked_page() const {
  if (boot_->marked_page == 0) {
    return {};
  }
  return PhysRange::page(PhysAddr{boot_->marked_page}, PageSize::k4K);
}

std::span<const std::byte> BootReader::efi_map() const {
  return bytes(boot_->efi_map, boot_->efi_map_bytes);
}
std::span<const std::byte> BootReader::efi_entries() const {
  return bytes(boot_->efi_entries, boot_->efi_entry_count * kEfiEntryBytes);
}
std::span<const std::byte> BootReader::pristine_file() const {
  return bytes(boot_->pristine.begin, boot_->pristine.end - boot_->pristine.begin);
}
std::string_view BootReader::command_line() const {
  return {window_.pointer<const char>(PhysAddr{boot_->command_line}), boot_->command_line_bytes};
}

PhysRange BootReader::to_range(const BootInfo::Range& range) {
  return *PhysRange::make(PhysAddr{range.begin}, PhysAddr{range.end});
}

std::span<const std::byte> BootReader::bytes(std::uint64_t at, std::uint64_t size) const {
  return {window_.pointer<const std::byte>(PhysAddr{at}), static_cast<std::size_t>(size)};
}

}  // namespace accede::efi::kernel
