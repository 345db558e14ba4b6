#include "accede/emulator/firmware_tables.hpp"

#include "accede/emulator/nested_page_table.hpp"

namespace accede::emulator {
namespace {

constexpr unsigned kRootLevel = 3;  // 0: 4 KiB entries
constexpr std::uint64_t kPresent = 1;
constexpr std::uint64_t kLarge = 0x80;
constexpr std::uint64_t kAddress = 0x000F'FFFF'FFFF'F000 & ~NestedPageTable::kViewMask;

struct Walk {
  PhysWindow window;
  const MachineMap& machine;

  void table(PhysAddr address, unsigned level) const {
    auto* const entries = window.pointer<std::uint64_t>(address);
    for (unsigned i = 0; i < 512; ++i) {
      std::uint64_t& entry = entries[i];
      if ((entry & kPresent) == 0) {
        continue;
      }
      if (level == kRootLevel || (level != 0 && (entry & kLarge) == 0)) {
        table(PhysAddr{entry & kAddress}, level - 1);
        continue;
      }
      // Bit 12 of a large leaf is no address bit; the page's own size rounds it away.
      const auto page = PhysRange::page(PhysAddr{entry & kAddress}, static_cast<PageSize>(level));
      if (!machine.is_device(page)) {
        entry |= NestedPageTable::kViewMask;
      }
    }
  }
};

}  // namespace

void set_c_bit(PhysWindow window, PhysAddr root, const MachineMap& machine) {
  Walk{window, machine}.table(PhysAddr{root.value() & kAddress}, kRootLevel);
}

}  // namespace accede::emulator
