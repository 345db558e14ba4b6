// The text of a fault report, and the facts that it states. Touches nothing but what it is given.
#pragma once

#include "accede/abi/tdx.hpp"
#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/efi/kernel/fault_names.hpp"
#include "accede/efi/kernel/traps.hpp"
#include "accede/guest/unaccepted_table.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace accede::efi::kernel {

/// The entries that translate an address, from the root down to the leaf or the first absent one.
struct PageWalk {
  struct Step {
    unsigned level;  ///< 4 (PML4) to 1
    std::uint64_t entry;
  };
  std::array<Step, 4> steps{};
  std::size_t count = 0;
  std::optional<PhysAddr> target;  ///< nothing when an entry is absent or the address not canonical
};
/// Walks four levels from `cr3`. `read`: the 8 bytes at a physical address.
[[nodiscard]] PageWalk walk_page_tables(std::uint64_t cr3, std::uint64_t address,
                                        std::uint64_t private_mask,
                                        FunctionRef<std::uint64_t(PhysAddr)> read);

/// What the table says about one address, e.g. "unaccepted (unit 12 of 2048 KiB)".
[[nodiscard]] FaultText describe_page(const guest::UnacceptedTable* table, PhysAddr address);

/// What a report is about.
struct FaultFacts {
  const TrapFrame& frame;
  std::uint64_t cr0, cr2, cr3, cr4;
  std::uint64_t private_mask;           ///< SEV-SNP's C-bit in CR3 and the page tables; 0: none
  PhysRange image;                      ///< addresses inside are also given relative to it
  const guest::UnacceptedTable* table;  ///< may be null
  std::optional<abi::tdx::VeInfo> ve;   ///< of a #VE
};

/// The one line that names the fault, e.g. "touched unaccepted memory at GPA 0x...".
[[nodiscard]] FaultText fault_message(const FaultFacts& facts);

/// The whole report, line by line, each ended by a line feed. `read`: see walk_page_tables().
void write_fault_report(const FaultFacts& facts, FunctionRef<std::uint64_t(PhysAddr)> read,
                        FunctionRef<void(std::string_view)> write);

}  // namespace accede::efi::kernel
