// The kernel's own page tables: all memory at its physical address, with rights.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/guest/platform.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

namespace accede::efi::kernel {

struct alignas(4096) PageTable {
  std::array<std::uint64_t, 512> entries;
};

/// Enough for 512 GiB in 1 GiB pages with a few dozen ranges of other rights, or for 50 GiB of RAM
/// where the CPU has none: 256 KiB, meant for .bss.
inline constexpr std::size_t kPageTables = 64;
using PageTableStorage = std::array<PageTable, kPageTables>;

/// What the CPU can do.
struct PagingFeatures {
  bool gib_pages = false;
  bool no_execute = false;
  unsigned physical_bits = 36;

  /// By CPUID.
  [[nodiscard]] static PagingFeatures of_cpu();
};

enum class PageAccess : std::uint8_t { kNone, kRead, kReadWrite, kReadExecute, kReadWriteExecute };

enum class PageTablesError : std::uint8_t {
  kOutOfTables,  ///< the storage is used up; what came before stays mapped
  kTooHigh,      ///< an address that the CPU or four levels cannot reach
  kFiveLevels,   ///< the CPU is in 5-level paging, which cannot be left in 64-bit mode
};
[[nodiscard]] std::string_view to_string(PageTablesError error);

/// What build() maps. All ranges are 4 KiB aligned; later members win over earlier ones.
struct AddressPlan {
  std::span<const PhysRange> ram{};         ///< to be reached, accepted or not; private
  std::span<const PhysRange> executable{};  ///< may run and be written: EFI runtime services code
  PhysRange image{};                        ///< the kernel with its .bss; outside text and rodata
                                            ///< it can be written
  PhysRange text{};                         ///< may run, cannot be written
  PhysRange rodata{};                       ///< can only be read
  std::span<const PhysRange> guards{};      ///< nothing: the pages below stacks
};

/// An identity mapping of four levels.
///
/// In an SNP guest memory is reached with the C-bit; what the plan does not call RAM is taken for a
/// device, which has none. Elsewhere the two look alike.
///
/// Nothing outside `executable` and `text` may be executed (where the CPU has no-execute), nothing
/// in `text` and `rodata` can be written, the page at 0 is not there. Invariant: a table of the
/// storage is referred to by one entry. Thread-compatible; one CPU.
class PageTables {
 public:
  /// `storage` (its addresses are physical ones) outlives the object. `private_mask`: the bit that
  /// makes a page private: in CR3, in whatever points to a table, in the leaves of memory (SEV's
  /// C-bit; 0 in a TD and on a plain machine).
  PageTables(std::span<PageTable> storage, PagingFeatures features, std::uint64_t private_mask);
  PageTables(const PageTables&) = delete;
  PageTables& operator=(const PageTables&) = delete;

  /// Maps everything up to 512 GiB, or up to the end of RAM if that is higher, so that devices are
  /// reached too; without 1 GiB pages only the first 4 GiB and RAM. Once, before load().
  [[nodiscard]] std::expected<void, PageTablesError> build(const AddressPlan& plan);

  /// Gives `range` (4 KiB aligned) these rights, splitting larger pages where it must. Takes effect
  /// at once when the tables are loaded. `visibility` chooses the mapping alone: what the pages are
  /// is between the platform and the caller.
  [[nodiscard]] std::expected<void, PageTablesError> map(
      PhysRange range, PageAccess access,
      guest::Visibility visibility = guest::Visibility::kPrivate);

  /// Makes them the CPU's, with write protection and no-execute enforced in ring 0. Error:
  /// kFiveLevels. Precondition: build() succeeded, the running code and its stack are in it.
  [[nodiscard]] std::expected<void, PageTablesError> load();

  /// The value of CR3.
  [[nodiscard]] std::uint64_t root() const;
  [[nodiscard]] std::uint64_t private_mask() const { return private_mask_; }
  [[nodiscard]] const PagingFeatures& features() const { return features_; }
  [[nodiscard]] std::size_t tables_used() const { return used_; }

 private:
  [[nodiscard]] PhysAddr reach() const;
  [[nodiscard]] PageTable* table_behind(std::uint64_t& entry, unsigned level);
  /// The bits of a leaf besides its address and size; 0: not present.
  [[nodiscard]] std::uint64_t leaf_bits(PageAccess access, guest::Visibility visibility) const;
  [[nodiscard]] bool may_be_leaf(unsigned level, std::uint64_t at, std::uint64_t end) const;
  /// Maps what of [at, end) the entry at `at` covers; returns where it ended.
  [[nodiscard]] std::expected<std::uint64_t, PageTablesError> map_first(std::uint64_t at,
                                                                        std::uint64_t end,
                                                                        std::uint64_t bits);
  [[nodiscard]] std::expected<void, PageTablesError> map_machine(std::span<const PhysRange> ram);

  std::span<PageTable> storage_;
  PagingFeatures features_;
  std::uint64_t private_mask_;
  std::size_t used_ = 1;  ///< storage_[0] is the root
  bool loaded_ = false;
};

}  // namespace accede::efi::kernel
