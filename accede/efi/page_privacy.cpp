#include "accede/efi/page_privacy.hpp"

#include <atomic>

namespace accede::efi {

using namespace std::string_view_literals;
namespace {

constexpr std::uint64_t kPresent = 1ULL << 0;
constexpr std::uint64_t kWritable = 1ULL << 1;
constexpr std::uint64_t kUser = 1ULL << 2;
constexpr std::uint64_t kAccessed = 1ULL << 5;
constexpr std::uint64_t kLarge = 1ULL << 7;
/// The PAT bit lies where a 4 KiB leaf has it, and elsewhere in larger ones.
constexpr std::uint64_t kPat4K = 1ULL << 7;
constexpr std::uint64_t kPatLarge = 1ULL << 12;
constexpr std::uint64_t kAddress = 0x000F'FFFF'FFFF'F000;
constexpr std::uint64_t kEntries = 512;

/// A pointer takes no right away: what a page may do stays in its leaf.
constexpr std::uint64_t kPointer = kPresent | kWritable | kUser | kAccessed;

constexpr unsigned kLeafShift = 12;
constexpr unsigned kLargestLeafShift = 30;

/// Writes the table that stands for the leaf `large` of 2^shift bytes.
void write_split(std::uint64_t* table, std::uint64_t large, unsigned shift) {
  const unsigned child_shift = shift - 9;
  std::uint64_t first = large;
  if (child_shift == kLeafShift) {
    first &= ~(kLarge | kPatLarge);
    first |= (large & kPatLarge) != 0 ? kPat4K : 0;
  }
  for (std::uint64_t i = 0; i < kEntries; ++i) {
    table[i] = first + (i << child_shift);
  }
}

/// Where a leaf of 2^shift bytes puts the address `page`.
std::uint64_t target(std::uint64_t leaf, unsigned shift, std::uint64_t private_mask,
                     std::uint64_t page) {
  const std::uint64_t inside = (1ULL << shift) - 1;
  return (leaf & kAddress & ~private_mask & ~inside) | (page & inside);
}

}  // namespace

std::string_view to_string(PrivacyError error) {
  switch (error) {
    case PrivacyError::kNotMapped:
      return "a page is not mapped at its own address"sv;
    case PrivacyError::kNoTables:
      return "no memory for page tables"sv;
  }
  return "unknown page table error"sv;
}

std::expected<void, PrivacyError> set_page_private(const LiveTables& tables, PhysAddr page,
                                                   bool is_private, PhysRange spare) {
  ACCEDE_ASSERT(page.is_aligned(4_KiB) && spare.begin().is_aligned(4_KiB));
  const std::uint64_t mask = tables.private_mask;
  PhysAddr table = tables.root;
  std::uint64_t pointer_mask = 0;
  for (unsigned shift = tables.five_levels ? 48 : 39;; shift -= 9) {
    std::uint64_t& slot =
        tables.window.pointer<std::uint64_t>(table)[page.value() >> shift & (kEntries - 1)];
    const std::atomic_ref<std::uint64_t> entry{slot};
    const std::uint64_t old = entry.load(std::memory_order_relaxed);
    if ((old & kPresent) == 0) {
      return std::unexpected{PrivacyError::kNotMapped};
    }
    const bool large = shift != kLeafShift && shift <= kLargestLeafShift && (old & kLarge) != 0;
    if (!large && shift != kLeafShift) {
      pointer_mask = old & mask;
      table = PhysAddr{old & kAddress & ~mask};
      continue;
    }
    if (target(old, shift, mask, page.value()) != page.value()) {
      return std::unexpected{PrivacyError::kNotMapped};
    }
    if (((old & mask) != 0) == is_private) {
      return {};
    }
    if (!large) {
      entry.store(old ^ mask, std::memory_order_release);
      return {};
    }
    if (spare.size() < 4_KiB) {
      return std::unexpected{PrivacyError::kNoTables};
    }
    table = spare.begin();
    spare = *PhysRange::make(table + 4_KiB, spare.end());
    write_split(tables.window.pointer<std::uint64_t>(table), old, shift);
    entry.store(table.value() | kPointer | pointer_mask, std::memory_order_release);
  }
}

}  // namespace accede::efi
