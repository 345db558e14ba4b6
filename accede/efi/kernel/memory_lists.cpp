#include "accede/efi/kernel/memory_lists.hpp"

#include "accede/base/assert.hpp"

namespace accede::efi::kernel {

std::span<const PhysRange> readable_ranges(const guest::MemoryMap& map, PhysRange info,
                                           std::span<PhysRange> storage) {
  std::size_t count = 0;
  const auto add = [&](PhysRange range) {
    ACCEDE_ASSERT(count < storage.size());
    storage[count++] = range;
  };
  add(info);
  for (const guest::MemoryRegion& region : map.regions()) {
    switch (region.kind) {
      case guest::MemoryKind::kUsable:
      case guest::MemoryKind::kAcpiReclaim:
      case guest::MemoryKind::kAcpiNvs:
        add(region.range);
        break;
      case guest::MemoryKind::kUnaccepted:
      case guest::MemoryKind::kReserved:  // may be a device
      case guest::MemoryKind::kUnusable:
      case guest::MemoryKind::kPersistent:
        break;
    }
  }
  return storage.first(count);
}

}  // namespace accede::efi::kernel
