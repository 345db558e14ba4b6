// Where everything goes that the kernel is given.
#pragma once

#include "accede/efi/loader/hand_over.hpp"
#include "accede/efi/loader/linux_files.hpp"
#include "accede/efi/loader/memory.hpp"
#include "accede/efi/loader/options.hpp"
#include "accede/efi/loader/problem.hpp"

#include <array>
#include <cstddef>

namespace accede::efi::loader {

/// `range` is memory that is mapped at its own address.
[[nodiscard]] inline std::byte* at(PhysRange range) {
  return reinterpret_cast<std::byte*>(range.begin().value());
}

/// Where everything goes.
struct Layout {
  PhysRange kernel{};
  PhysRange initrd{};
  PhysRange zero_page{};
  PhysRange command_line{};
  PhysRange extension{};
  PhysRange e820{};  ///< room for the whole map
  PhysRange entry{};
  EntryPlan plan{};

  /// What the page tables must map besides the first 4 GiB.
  [[nodiscard]] std::array<PhysRange, 6> mapped(PhysRange program) const {
    return {kernel, initrd, zero_page, command_line, extension, program};
  }
};

/// Finds a place for all of it. `program`: where the loader lies; `private_mask`: as
/// EntryPlan::make() takes it. Errors: OutOfResources, Unsupported.
[[nodiscard]] Outcome<Layout> lay_out(const Firmware& firmware, LoaderMemory& memory,
                                      const Linux& files, const LoaderOptions& options,
                                      PhysRange program, std::uint64_t private_mask);

/// Brings kernel, initrd and command line to their places, and makes GDT and page tables. Returns
/// the root page table. Errors: LoadError, OutOfResources, Unsupported. Precondition: all memory of
/// `layout` is accepted.
[[nodiscard]] Outcome<PhysAddr> fill(const Firmware& firmware, const Linux& files,
                                     const LoaderOptions& options, const Layout& layout,
                                     PhysRange program);

}  // namespace accede::efi::loader
