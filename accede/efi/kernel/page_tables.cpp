#include "accede/efi/kernel/page_tables.hpp"

#include "accede/emulator/cpu.hpp"

#include <algorithm>

namespace accede::efi::kernel {

using namespace std::string_view_literals;
namespace {

namespace cpu = emulator::cpu;

constexpr std::uint64_t kPresent = 1ULL << 0;
constexpr std::uint64_t kWritable = 1ULL << 1;
constexpr std::uint64_t kAccessed = 1ULL << 5;
constexpr std::uint64_t kDirty = 1ULL << 6;
constexpr std::uint64_t kLarge = 1ULL << 7;
constexpr std::uint64_t kNoExecute = 1ULL << 63;
constexpr std::uint64_t kAddress = 0x000F'FFFF'FFFF'F000;

constexpr unsigned kRootLevel = 4;
/// Four levels translate 48 bits; the upper half is not the identity.
constexpr unsigned kReachableBits = 47;
constexpr PhysAddr kDevicesEnd{4_GiB .value()};
constexpr PhysAddr kUsualEnd{512_GiB .value()};

constexpr std::uint64_t kWriteProtect = 1ULL << 16;  // CR0
constexpr std::uint64_t kGlobalPages = 1ULL << 7;    // CR4
constexpr std::uint64_t kLevels57 = 1ULL << 12;      // CR4
constexpr std::uint32_t kEfer = 0xC000'0080;
constexpr std::uint64_t kEferNoExecute = 1ULL << 11;

/// What an entry of `level` (1: of a page table) covers.
constexpr std::uint64_t size_of(unsigned level) {
  return 4096ULL << (9 * (level - 1));
}
constexpr std::size_t index_of(std::uint64_t address, unsigned level) {
  return address / size_of(level) % 512;
}

void write_cr0(std::uint64_t value) {
  asm volatile("mov %0, %%cr0" : : "r"(value) : "memory");
}
void write_cr4(std::uint64_t value) {
  asm volatile("mov %0, %%cr4" : : "r"(value) : "memory");
}

}  // namespace

std::string_view to_string(PageTablesError error) {
  switch (error) {
    case PageTablesError::kOutOfTables:
      return "too much memory for the page tables in the image"sv;
    case PageTablesError::kTooHigh:
      return "memory beyond the reach of the CPU's page tables"sv;
    case PageTablesError::kFiveLevels:
      return "the CPU is in 5-level paging"sv;
  }
  return "unknown"sv;
}

PagingFeatures PagingFeatures::of_cpu() {
  constexpr std::uint32_t kExtended = 0x8000'0000;
  const std::uint32_t most = cpu::cpuid(kExtended, 0).eax;
  PagingFeatures features;
  if (most >= kExtended + 1) {
    const std::uint32_t edx = cpu::cpuid(kExtended + 1, 0).edx;
    features.no_execute = (edx >> 20 & 1) != 0;
    features.gib_pages = (edx >> 26 & 1) != 0;
  }
  if (most >= kExtended + 8) {
    features.physical_bits = std::min(cpu::cpuid(kExtended + 8, 0).eax & 0xFF, 52U);
  }
  return features;
}

PageTables::PageTables(std::span<PageTable> storage, PagingFeatures features,
                       std::uint64_t private_mask)
    : storage_{storage}, features_{features}, private_mask_{private_mask} {
  ACCEDE_ASSERT(!storage.empty());
  storage_[0].entries.fill(0);
}

std::uint64_t PageTables::root() const {
  return reinterpret_cast<std::uintptr_t>(storage_.data()) | private_mask_;
}

/// Everything that can be mapped ends here. A multiple of 1 GiB.
PhysAddr PageTables::reach() const {
  return PhysAddr{1ULL << std::clamp(features_.physical_bits, 32U, kReachableBits)};
}

std::uint64_t PageTables::leaf_bits(PageAccess access, guest::Visibility visibility) const {
  if (access == PageAccess::kNone) {
    return 0;
  }
  const bool writable = access == PageAccess::kReadWrite || access == PageAccess::kReadWriteExecute;
  const bool executable =
      access == PageAccess::kReadExecute || access == PageAccess::kReadWriteExecute;
  // Accessed and dirty from the start: the CPU never has to write here.
  return (visibility == guest::Visibility::kPrivate ? private_mask_ : 0) | kPresent | kAccessed |
         kDirty | (writable ? kWritable : 0) |
         (executable || !features_.no_execute ? 0 : kNoExecute);
}

/// The table that `entry` of `level` refers to. An absent entry gets an empty one, a large page one
/// that maps the same. Null: out of tables.
PageTable* PageTables::table_behind(std::uint64_t& entry, unsigned level) {
  if ((entry & kPresent) != 0 && (entry & kLarge) == 0) {
    return reinterpret_cast<PageTable*>(entry & kAddress & ~private_mask_);
  }
  if (used_ == storage_.size()) {
    return nullptr;
  }
  PageTable& table = storage_[used_++];
  table.entries.fill(0);
  if ((entry & kPresent) != 0) {
    const std::uint64_t large = level == 2 ? kLarge : 0;  // 4 KiB leaves have no such bit
    for (std::size_t i = 0; i < table.entries.size(); ++i) {
      table.entries[i] = (entry & ~large) + i * size_of(level - 1);
    }
  }
  entry =
      reinterpret_cast<std::uintptr_t>(&table) | private_mask_ | kPresent | kWritable | kAccessed;
  return &table;
}

bool PageTables::may_be_leaf(unsigned level, std::uint64_t at, std::uint64_t end) const {
  // Below 4 GiB a 1 GiB page would span memory types (RAM and devices), which is undefined.
  const bool has_size =
      level <= 2 || (level == 3 && features_.gib_pages && at >= kDevicesEnd.value());
  return has_size && at % size_of(level) == 0 && end - at >= size_of(level);
}

std::expected<std::uint64_t, PageTablesError> PageTables::map_first(std::uint64_t at,
                                                                    std::uint64_t end,
                                                                    std::uint64_t bits) {
  const auto leaf = [bits](std::uint64_t address, unsigned level) {
    return bits == 0 ? 0 : address | bits | (level > 1 ? kLarge : 0);
  };
  PageTable* table = storage_.data();
  for (unsigned level = kRootLevel;; --level) {
    std::uint64_t& entry = table->entries[index_of(at, level)];
    const std::uint64_t covered_begin = at / size_of(level) * size_of(level);
    const bool is_table = level > 1 && (entry & kPresent) != 0 && (entry & kLarge) == 0;
    if (!is_table && may_be_leaf(level, at, end)) {
      entry = leaf(at, level);
      return at + size_of(level);
    }
    // A page that is like that already is not split.
    if (!is_table && entry == leaf(covered_begin, level)) {
      return std::min(covered_begin + size_of(level), end);
    }
    table = table_behind(entry, level);
    if (table == nullptr) {
      return std::unexpected{PageTablesError::kOutOfTables};
    }
  }
}

std::expected<void, PageTablesError> PageTables::map(PhysRange range, PageAccess access,
                                                     guest::Visibility visibility) {
  ACCEDE_ASSERT(range.begin().is_aligned(4_KiB) && range.end().is_aligned(4_KiB));
  const std::uint64_t end = range.end().value();
  if (range.end() > reach()) {
    return std::unexpected{PageTablesError::kTooHigh};
  }
  const std::uint64_t bits = leaf_bits(access, visibility);
  std::expected<void, PageTablesError> result;
  for (std::uint64_t at = range.begin().value(); at < end;) {
    const auto next = map_first(at, end, bits);
    if (!next) {
      result = std::unexpected{next.error()};
      break;
    }
    at = *next;
  }
  if (loaded_) {
    cpu::write_cr3(root());  // there are no global pages
  }
  return result;
}

std::expected<void, PageTablesError> PageTables::map_machine(std::span<const PhysRange> ram) {
  PhysAddr end = std::min(features_.gib_pages ? kUsualEnd : kDevicesEnd, reach());
  for (const PhysRange& range : ram) {
    if (range.end() > reach()) {
      return std::unexpected{PageTablesError::kTooHigh};
    }
    if (features_.gib_pages) {
      end = std::max(end, range.end().align_up(1_GiB));
    }
  }
  auto mapped = map(*PhysRange::make(PhysAddr{4096}, end), PageAccess::kReadWrite,
                    guest::Visibility::kShared);
  for (const PhysRange& range : ram) {
    // Beyond, whole 2 MiB pages: what else lies in the first and the last one is nobody's.
    const PhysAddr first = range.begin() < end ? range.begin() : range.begin().align_down(2_MiB);
    const PhysAddr last = range.end() <= end ? range.end() : range.end().align_up(2_MiB);
    if (mapped && first < last) {
      mapped = map(*PhysRange::make(first, last), PageAccess::kReadWrite);
    }
  }
  return mapped;
}

std::expected<void, PageTablesError> PageTables::build(const AddressPlan& plan) {
  auto result = map_machine(plan.ram);
  const auto also = [&](PhysRange range, PageAccess access) {
    if (result && !range.empty()) {
      result = map(range, access);
    }
  };
  for (const PhysRange& range : plan.executable) {
    also(range, PageAccess::kReadWriteExecute);
  }
  also(plan.image, PageAccess::kReadWrite);
  also(plan.text, PageAccess::kReadExecute);
  also(plan.rodata, PageAccess::kRead);
  for (const PhysRange& range : plan.guards) {
    also(range, PageAccess::kNone);
  }
  also(*PhysRange::make(PhysAddr{0}, PhysAddr{4096}), PageAccess::kNone);
  return result;
}

std::expected<void, PageTablesError> PageTables::load() {
  const std::uint64_t cr4 = cpu::read_cr4();
  if ((cr4 & kLevels57) != 0) {
    return std::unexpected{PageTablesError::kFiveLevels};
  }
  if (features_.no_execute) {
    // In a TD the bit is set and the register is the module's.
    const std::uint64_t efer = cpu::read_msr(kEfer);
    if ((efer & kEferNoExecute) == 0) {
      cpu::write_msr(kEfer, efer | kEferNoExecute);
    }
  }
  write_cr4(cr4 & ~kGlobalPages);  // the firmware's may be global: they go too
  cpu::write_cr3(root());
  write_cr0(cpu::read_cr0() | kWriteProtect);
  loaded_ = true;
  return {};
}

}  // namespace accede::efi::kernel
