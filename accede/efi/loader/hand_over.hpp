// The processor state with which the 64-bit boot protocol enters a kernel: interrupts off, memory
// mapped at its own address, CS 0x10 and DS, ES, SS 0x18, RSI the zero page.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/firmware/identity_map.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <span>

namespace accede::efi::loader {

/// Lies, with its page tables behind it, in memory that the kernel does not use before it has
/// replaced both.
struct alignas(4096) EntryPage {
  std::array<std::uint64_t, 4> gdt;
};
static_assert(sizeof(EntryPage) == 4096);

/// What an entry needs, decided while boot services are there.
struct EntryPlan {
  PageSize leaf = PageSize::k2M;
  firmware::IdentityMap::Levels levels = firmware::IdentityMap::Levels::k4;
  std::size_t tables = 0;
  std::uint64_t private_mask = 0;  ///< set in every leaf

  /// For page tables that map the first 4 GiB and `ranges`, for this processor. `private_mask`: the
  /// C-bit of an SNP guest, else 0. It is set for what is no memory there too: a kernel uses no
  /// device before it has its own tables.
  [[nodiscard]] static EntryPlan make(std::span<const PhysRange> ranges,
                                      std::uint64_t private_mask);
  /// Memory for it, page aligned.
  [[nodiscard]] Bytes bytes() const { return Bytes{(tables + 1) * 4096}; }
};

/// Builds GDT and page tables in `memory`; the address of the root page table. Nothing when a range
/// cannot be mapped. Preconditions: `memory` has the bytes that `plan` asked for, for these ranges,
/// and is mapped at its own address.
[[nodiscard]] std::optional<PhysAddr> prepare_entry(const EntryPlan& plan, PhysRange memory,
                                                    std::span<const PhysRange> ranges);

/// Jumps to `entry`. Preconditions: boot services have ended; prepare_entry() succeeded with
/// `memory` and gave `root`, and mapped `entry`, `boot_params` and this program.
[[noreturn]] void enter_linux(PhysRange memory, PhysAddr root, PhysAddr entry,
                              PhysAddr boot_params);

}  // namespace accede::efi::loader
