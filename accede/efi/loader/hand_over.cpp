#include "accede/efi/loader/hand_over.hpp"

#include "accede/abi/linux_boot.hpp"
#include "accede/emulator/cpu.hpp"

#include <cstddef>
#include <new>

namespace accede::efi::loader {
namespace {

namespace cpu = emulator::cpu;
using firmware::IdentityMap;
using firmware::PageTable;

constexpr PhysRange kFirst4GiB = *PhysRange::make(PhysAddr{0}, 4_GiB);

/// What entry.S reads.
struct EntryState {
  std::uint64_t entry;
  std::uint64_t boot_params;
  std::uint64_t root;
  std::array<std::uint16_t, 3> padding;
  std::uint16_t gdt_limit;
  std::uint64_t gdt_base;
};
static_assert(offsetof(EntryState, boot_params) == 8);
static_assert(offsetof(EntryState, root) == 16);
static_assert(offsetof(EntryState, gdt_limit) == 30);
static_assert(offsetof(EntryState, gdt_base) == 32);

extern "C" [[noreturn]] void accede_enter_linux(const EntryState* state);

/// Flat, present, ring 0, accessed: 64-bit code, and data.
constexpr std::uint64_t kCode = 0x00AF'9B00'0000'FFFF;
constexpr std::uint64_t kData = 0x00CF'9300'0000'FFFF;
static_assert(abi::linux_boot::kBootCs == 2 * 8 && abi::linux_boot::kBootDs == 3 * 8);

bool has_5_levels() {
  constexpr std::uint64_t kLa57 = 1 << 12;
  return (cpu::read_cr4() & kLa57) != 0;
}

}  // namespace

EntryPlan EntryPlan::make(std::span<const PhysRange> ranges, std::uint64_t private_mask) {
  // The processor cannot change between four and five levels on the way.
  // 2 MiB leaves: a large page must not reach over memory of several cache types.
  EntryPlan plan{.leaf = PageSize::k2M,
                 .levels = has_5_levels() ? IdentityMap::Levels::k5 : IdentityMap::Levels::k4,
                 .tables = 0,
                 .private_mask = private_mask};
  plan.tables = IdentityMap::tables_for({&kFirst4GiB, 1}, plan.leaf, plan.levels) +
                IdentityMap::tables_for(ranges, plan.leaf, plan.levels);
  return plan;
}

std::optional<PhysAddr> prepare_entry(const EntryPlan& plan, PhysRange memory,
                                      std::span<const PhysRange> ranges) {
  ACCEDE_ASSERT(memory.size() >= plan.bytes() && memory.begin().is_aligned(4_KiB));
  new (reinterpret_cast<void*>(memory.begin().value())) EntryPage{.gdt = {0, 0, kCode, kData}};
  const PhysAddr where = memory.begin() + 4_KiB;
  const std::span tables{reinterpret_cast<PageTable*>(where.value()), plan.tables};
  IdentityMap map{tables, where, plan.leaf, plan.levels, plan.private_mask};
  bool mapped = map.map(kFirst4GiB);
  for (const PhysRange range : ranges) {
    mapped = mapped && map.map(range);
  }
  return mapped ? std::optional{map.root()} : std::nullopt;
}

void enter_linux(PhysRange memory, PhysAddr root, PhysAddr entry, PhysAddr boot_params) {
  const EntryState state{.entry = entry.value(),
                         .boot_params = boot_params.value(),
                         .root = root.value(),
                         .padding = {},
                         .gdt_limit = sizeof(EntryPage::gdt) - 1,
                         .gdt_base = memory.begin().value()};
  accede_enter_linux(&state);
}

}  // namespace accede::efi::loader
