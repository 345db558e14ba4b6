// Memory of a kernel in a confidential VM, from the firmware's map to pages: the code to copy.
// kernel_memory.cpp finds the platform for it; docs/embedding.md explains each step.
#pragma once

#include "accede/guest/acceptor.hpp"
#include "accede/guest/deferred_init.hpp"
#include "accede/guest/early_allocator.hpp"
#include "accede/guest/memory_map.hpp"
#include "accede/guest/page_allocator.hpp"
#include "accede/guest/platform.hpp"
#include "accede/guest/policies.hpp"
#include "accede/guest/unaccepted_table.hpp"
#include "accede/guest/zone_plan.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

namespace example {

using namespace accede;
using namespace accede::guest;

/// What the boot loader tells the kernel.
struct BootInfo {
  std::span<const std::byte> efi_map;  ///< of the last GetMemoryMap before ExitBootServices
  std::size_t efi_stride = 0;
  PhysRange kernel;              ///< our image, stacks, page tables: not to be given away
  std::uintptr_t direct_map = 0; /**< where physical address 0 is mapped */
};

/// All memory of the kernel. One object, in the kernel's .bss; start() once, on the boot CPU.
template <AcceptPlatform Platform>
class KernelMemory {
 public:
  using Done = std::expected<void, std::string_view>;
  using Pages = PageAllocator<Acceptor<Platform>, Lazy>;

  KernelMemory(Platform& platform, PhysWindow window)
      : platform_{platform},
        window_{window},
        acceptor_{table_, platform},
        early_{acceptor_, window, ram_list_, reserved_list_} {}

  [[nodiscard]] Done start(const BootInfo& boot) {
    // 1. What the firmware says, checked and sorted. It is not trusted.
    const auto map = MemoryMap::from_efi(boot.efi_map, boot.efi_stride, regions_);
    if (!map) {
      return std::unexpected{to_string(map.error().kind)};
    }
    // 2. RAM that is accepted and not in use: the table and its index go there. Unaccepted RAM is
    //    kept out until the table can tell it apart.
    if (const auto added = add_ram(*map, MemoryKind::kUsable); !added) {
      return std::unexpected{to_string(added.error().kind)};
    }
    if (const auto reserved = early_.reserve_pages(boot.kernel); !reserved) {
      return std::unexpected{to_string(reserved.error().kind)};
    }
    if (const Done built = build_table(*map); !built) {
      return built;
    }
    // 3. From here on every allocation is accepted before anybody sees it.
    if (unusable_without_platform(*map, platform_.kind()) == Bytes{0}) {
      if (const auto added = add_ram(*map, MemoryKind::kUnaccepted); !added) {
        return std::unexpected{to_string(added.error().kind)};
      }
    }
    early_.allow_growth();
    // 4. Zones, and page information for them. After that the early allocator is read only.
    std::array<ZonePlan, kMostZones> plan;
    const std::size_t count = plan_zones(early_.ranges(), plan);
    if (count == 0 || count > plan.size()) {
      return std::unexpected{"no memory, or too many zones"sv};
    }
    pages_.emplace(acceptor_, std::span{zones_}.first(count), caches_, hooks_);
    if (const auto opened = open_zones(*pages_, early_, std::span{plan}.first(count), window_);
        !opened) {
      return std::unexpected{to_string(opened.error().kind)};
    }
    // 5. The free memory, 64 MiB a step. More CPUs may call step() of the same object.
    DeferredInit init{*pages_, early_.ranges()};
    if (const auto added = init.run(); !added) {
      return std::unexpected{to_string(added.error().failure.kind)};
    }
    return {};
  }

  /// Precondition: start() succeeded.
  [[nodiscard]] Pages& pages() { return *pages_; }
  [[nodiscard]] const UnacceptedTable& table() const { return table_; }

 private:
  static constexpr std::size_t kMostZones = 8;  // nodes times two

  auto add_ram(const MemoryMap& map, MemoryKind kind) ->
      typename EarlyAllocator<Acceptor<Platform>>::Done {
    for (const MemoryRegion& region : map.regions()) {
      if (region.kind == kind) {
        if (const auto added = early_.add_memory(region.range); !added) {
          return added;
        }
      }
    }
    return {};
  }

  Done build_table(const MemoryMap& map) {
    const auto layout = UnacceptedTable::plan(map);
    if (!layout) {
      return std::unexpected{to_string(layout.error().kind)};
    }
    if (!*layout || platform_.kind() == PlatformKind::kNone) {
      return {};
    }
    const Bytes index_bytes{(*layout)->index * sizeof(std::uint64_t)};
    const auto table = early_.allocate((*layout)->table, 8_B);
    const auto index = early_.allocate(index_bytes, 8_B);
    if (!table || !index) {
      return std::unexpected{"no accepted memory for the table"sv};
    }
    const auto built = table_.build(
        map, **layout, {window_.pointer<std::byte>(table->begin()), table->size().value()},
        table->begin(), {window_.pointer<std::uint64_t>(index->begin()), (*layout)->index},
        [this](PhysRange range) { return platform_.accept(range); });
    return built ? Done{} : std::unexpected{to_string(built.error().kind)};
  }

  std::array<MemoryRegion, 512> regions_{};  ///< 12 KiB
  std::array<EarlyRange, 128> ram_list_{};
  std::array<EarlyRange, 128> reserved_list_{};
  std::array<Zone, kMostZones> zones_{};
  std::array<CpuCache, 1> caches_{};
  SingleCpuHooks hooks_;
  Platform& platform_;
  PhysWindow window_;
  UnacceptedTable table_;
  Acceptor<Platform> acceptor_;
  EarlyAllocator<Acceptor<Platform>> early_;
  std::optional<Pages> pages_;
};

}  // namespace example
