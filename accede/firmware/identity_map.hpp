// Page tables that map memory at its own address: what a kernel is entered with.
#pragma once

#include "accede/base/phys_range.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace accede::firmware {

struct alignas(4096) PageTable {
  std::array<std::uint64_t, 512> entries;
};
static_assert(sizeof(PageTable) == 4096);

/// Builds page tables of 2 MiB or 1 GiB leaves, present and writable, in tables that the caller
/// gives. Thread-compatible.
class IdentityMap {
 public:
  enum class Levels : std::uint8_t { k4 = 4, k5 = 5 };

  /// Tables that suffice for these ranges, in any order and however they overlap.
  /// Precondition: `leaf` is not 4 KiB.
  [[nodiscard]] static std::size_t tables_for(std::span<const PhysRange> ranges, PageSize leaf,
                                              Levels levels);

  /// `tables` lie at physical address `where`, in this order; the first becomes the root.
  /// `private_mask`: a bit that is set in every leaf (SEV's C-bit, else 0). Pointers to tables need
  /// none: the processor reads tables as private memory whatever they say (reference: SEV-SNP 2.4).
  /// Preconditions: at least one; `where` is page aligned; `leaf` is not 4 KiB; `private_mask` is
  /// above every address that is mapped.
  IdentityMap(std::span<PageTable> tables, PhysAddr where, PageSize leaf, Levels levels,
              std::uint64_t private_mask = 0);

  /// Maps whole leaves around `range`. False when the tables do not suffice or when `range` lies
  /// where an identity map cannot reach (the upper half of the address space).
  [[nodiscard]] bool map(PhysRange range);

  /// For CR3.
  [[nodiscard]] PhysAddr root() const { return where_; }

 private:
  [[nodiscard]] bool map_leaf(PhysAddr at);

  std::span<PageTable> tables_;
  PhysAddr where_;
  PageSize leaf_;
  Levels levels_;
  std::uint64_t private_mask_;
  std::size_t used_ = 1;
};

}  // namespace accede::firmware
