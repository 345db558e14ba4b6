// What BootInfo points to, as ranges and spans.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/efi/kernel/boot_info.hpp"
#include "accede/efi/kernel/kernel_error.hpp"

#include <cstddef>
#include <expected>
#include <span>
#include <string_view>

namespace accede::efi::kernel {

/// A BootInfo that was checked: its numbers are possible. Who wrote it is trusted (our EFI part, or
/// the kernel before us), so this finds bugs and a wrong loader, not attacks; what the firmware
/// wrote into the memory map is checked by MemoryMap. A value type.
class BootReader {
 public:
  /// `boot` outlives the result. Error: a number that cannot be.
  [[nodiscard, gnu::cold]] static std::expected<BootReader, KernelError> make(const BootInfo& boot,
                                                                              PhysWindow window);

  [[nodiscard]] const BootInfo& info() const { return *boot_; }
  [[nodiscard]] PhysRange image() const { return to_range(boot_->image); }
  [[nodiscard]] PhysRange pristine() const { return to_range(boot_->pristine); }
  /// The BootInfo itself, the memory map, the command line.
  [[nodiscard]] PhysRange info_range() const { return to_range(boot_->info); }
  /// Empty: none.
  [[nodiscard]] PhysRange marked_page() const;

  [[nodiscard]] std::span<const std::byte> efi_map() const;
  [[nodiscard]] std::size_t efi_stride() const { return boot_->efi_stride; }
  [[nodiscard]] std::span<const std::byte> efi_entries() const;
  [[nodiscard]] std::span<const std::byte> pristine_file() const;
  [[nodiscard]] std::string_view command_line() const;

 private:
  BootReader(const BootInfo& boot, PhysWindow window) : boot_{&boot}, window_{window} {}
  [[nodiscard]] static PhysRange to_range(const BootInfo::Range& range);
  [[nodiscard]] std::span<const std::byte> bytes(std::uint64_t at, std::uint64_t size) const;

  const BootInfo* boot_;
  PhysWindow window_;
};

}  // namespace accede::efi::kernel
