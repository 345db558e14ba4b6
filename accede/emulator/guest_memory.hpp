// Reading guest memory on behalf of the guest: through its page tables, never through its pointers.
#pragma once

#include "accede/base/phys_window.hpp"
#include "accede/emulator/machine.hpp"
#include "accede/emulator/nested_page_table.hpp"
#include "accede/emulator/vmcb.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace accede::emulator {

/// Bounds-checked access to the guest's memory. An address is reached only when the guest itself
/// could reach it now: RAM that is mapped in the nested view it names. Thread-safe.
class GuestMemory {
 public:
  GuestMemory(PhysWindow window, const MachineMap& machine, const NestedPageTable& tables)
      : window_{window}, machine_{machine}, tables_{tables} {}

  /// Copies from guest physical memory. `gpa` may carry the view bit. False when a byte is not
  /// reachable; `to` is then unspecified.
  [[nodiscard]] bool read(std::uint64_t gpa, std::span<std::byte> to) const;

  /// Copies into guest physical memory, with the same rules.
  [[nodiscard]] bool write(std::uint64_t gpa, std::span<const std::byte> from) const;

  /// The guest physical address (with its view bit) of linear address `linear` under the paging
  /// mode of `save`, or nothing when it is not mapped. Access rights are not checked: the caller
  /// reads what the guest's processor just executed.
  [[nodiscard]] std::optional<std::uint64_t> translate(const VmcbSave& save,
                                                       std::uint64_t linear) const;

  /// Whether an entry of the guest's page tables has room for the view bit: not without paging, nor
  /// in 32-bit paging without PAE.
  [[nodiscard]] static bool has_view_bit(const VmcbSave& save) {
    constexpr std::uint64_t kCr0Paging = 1ULL << 31;
    constexpr std::uint64_t kCr4Pae = 1ULL << 5;
    return (save.cr0 & kCr0Paging) != 0 && (save.cr4 & kCr4Pae) != 0;
  }

  /// Up to `to.size()` bytes of the instruction at CS:RIP; the number of bytes read. Fewer bytes
  /// than asked only when the next page is not reachable.
  [[nodiscard]] std::size_t fetch(const VmcbSave& save, std::span<std::byte> to) const;

 private:
  [[nodiscard]] std::byte* reach(std::uint64_t gpa) const;
  [[nodiscard]] std::uint64_t always_private(std::uint64_t gpa) const;

  PhysWindow window_;
  const MachineMap& machine_;
  const NestedPageTable& tables_;
};

}  // namespace accede::emulator
