// What lies in the opaque objects of the C header, and how errors get their numbers.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/guest/acceptor.hpp"
#include "accede/guest/background.hpp"
#include "accede/guest/c_api.h"
#include "accede/guest/c_api_platform.hpp"
#include "accede/guest/deferred_init.hpp"
#include "accede/guest/early_allocator.hpp"
#include "accede/guest/kexec.hpp"
#include "accede/guest/memory_map.hpp"
#include "accede/guest/page_allocator.hpp"
#include "accede/guest/policies.hpp"
#include "accede/guest/reserve.hpp"
#include "accede/guest/unaccepted_table.hpp"
#include "accede/guest/zone_plan.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>

namespace accede::guest::c_api {

// --- Hooks ---

/// The hooks of the C header; a null one is that of SingleCpuHooks.
class CallbackHooks {
 public:
  explicit CallbackHooks(const accede_hooks& calls) : calls_{calls} {}

  /// CPU caches have locks: a number beyond them shares one.
  void set_cpus(unsigned cpus) { cpus_ = cpus; }

  [[nodiscard]] unsigned cpu() {
    return calls_.cpu != nullptr ? calls_.cpu(calls_.context) % cpus_ : 0;
  }
  [[nodiscard]] std::uintptr_t interrupts_off() {
    return calls_.interrupts_off != nullptr ? calls_.interrupts_off(calls_.context) : 0;
  }
  void interrupts_restore(std::uintptr_t state) {
    if (calls_.interrupts_restore != nullptr) {
      calls_.interrupts_restore(calls_.context, state);
    }
  }
  void relax() {
    if (calls_.relax != nullptr) {
      calls_.relax(calls_.context);
    } else {
      __builtin_ia32_pause();
    }
  }
  [[nodiscard]] std::uint64_t now() {
    return calls_.now != nullptr ? calls_.now(calls_.context) : 0;
  }
  void wake_acceptor() {
    if (calls_.wake_acceptor != nullptr) {
      calls_.wake_acceptor(calls_.context);
    }
  }
  [[nodiscard]] bool other_work() {
    return calls_.other_work != nullptr && calls_.other_work(calls_.context);
  }

 private:
  accede_hooks calls_;
  unsigned cpus_ = 1;
};
static_assert(AllocatorHooks<CallbackHooks>);

struct Relax {
  CallbackHooks* hooks;
  void operator()() const { hooks->relax(); }
};

// --- State ---

using CAcceptor = Acceptor<AnyPlatform, Relax>;
using CEarly = EarlyAllocator<CAcceptor>;
/// Lazy while nobody steps the background acceptor, eager when somebody accepts everything: one
/// policy for all three.
using CPages = PageAllocator<CAcceptor, Background, CallbackHooks>;

/// What may be called.
enum class Phase : std::uint8_t {
  kStarted,      ///< map, reserve
  kAcceptedRam,  ///< an EFI map: what is accepted can be allocated
  kMapped,       ///< an E820 map: nothing can
  kComplete,     ///< the table is there, or none is needed
  kPagesOpen,    ///< the early allocator changes no more
};

struct Lists {
  std::span<MemoryRegion> map;
  std::span<EarlyRange> memory;
  std::span<EarlyRange> reserved;
};

/// Behind accede_memory.
struct Memory {
  Memory(const accede_config& config, const Lists& lists)
      : window{config.phys_to_virt},
        hooks{config.hooks},
        platform{config.platform, window},
        acceptor{table, platform, Relax{&hooks}},
        early{acceptor, window, lists.memory, lists.reserved},
        map_storage{lists.map} {}

  PhysWindow window;
  CallbackHooks hooks;
  AnyPlatform platform;
  UnacceptedTable table;
  CAcceptor acceptor;
  CEarly early;
  std::span<MemoryRegion> map_storage;
  MemoryMap map;
  Phase phase = Phase::kStarted;
};
static_assert(sizeof(Memory) <= ACCEDE_MEMORY_BYTES && alignof(Memory) <= 64);

/// Behind accede_pages.
struct Pages {
  Pages(Memory& of, std::span<Zone> zones, std::span<CpuCache> cpu_caches,
        const ReserveConfig& config)
      : memory{of},
        caches{cpu_caches},
        allocator{of.acceptor, zones, cpu_caches, of.hooks},
        init{allocator, of.early.ranges()},
        background{allocator, config} {}

  /// Every page has its information.
  [[nodiscard]] bool ready() const {
    return all_taken.load(std::memory_order_acquire) &&
           running.load(std::memory_order_acquire) == 0;
  }

  Memory& memory;
  std::span<CpuCache> caches;
  CPages allocator;
  DeferredInit<CPages> init;
  BackgroundAcceptor<CPages> background;
  std::atomic<unsigned> running = 0;  ///< init steps under way
  std::atomic<bool> all_taken = false;
};
static_assert(sizeof(Pages) <= ACCEDE_PAGES_BYTES && alignof(Pages) <= 64);

inline constexpr std::uint64_t kMemoryMagic = 0x4D45'4D45'4445'4343;
inline constexpr std::uint64_t kPagesMagic = 0x5041'4745'4445'4343;

/// The state of an object that was initialised, else null.
[[nodiscard]] inline Memory* state_of(accede_memory* memory) {
  return memory != nullptr && memory->magic == kMemoryMagic
             ? std::launder(reinterpret_cast<Memory*>(memory->storage))
             : nullptr;
}
[[nodiscard]] inline const Memory* state_of(const accede_memory* memory) {
  return memory != nullptr && memory->magic == kMemoryMagic
             ? std::launder(reinterpret_cast<const Memory*>(memory->storage))
             : nullptr;
}
[[nodiscard]] inline Pages* state_of(accede_pages* pages) {
  return pages != nullptr && pages->magic == kPagesMagic
             ? std::launder(reinterpret_cast<Pages*>(pages->storage))
             : nullptr;
}
[[nodiscard]] inline const Pages* state_of(const accede_pages* pages) {
  return pages != nullptr && pages->magic == kPagesMagic
             ? std::launder(reinterpret_cast<const Pages*>(pages->storage))
             : nullptr;
}

// --- Arguments ---

/// No x86-64 machine has memory beyond it, and no sum of two addresses below it overflows.
inline constexpr PhysAddr kAddressEnd{1ULL << 52};

[[nodiscard]] inline std::optional<PhysRange> range_from(std::uint64_t begin, std::uint64_t end) {
  if (end > kAddressEnd.value()) {
    return std::nullopt;
  }
  return PhysRange::make(PhysAddr{begin}, PhysAddr{end});
}
[[nodiscard]] constexpr bool page_aligned(PhysRange range) {
  return range.begin().is_aligned(4_KiB) && range.end().is_aligned(4_KiB);
}
[[nodiscard]] constexpr bool is_size(std::uint64_t value) {
  return value != 0 && value <= kAddressEnd.value() / 2;
}
[[nodiscard]] constexpr bool is_alignment(std::uint64_t value) {
  return is_size(value) && (value & (value - 1)) == 0;
}
template <class T>
[[nodiscard]] bool is_aligned_for(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % alignof(T) == 0;
}

// --- Errors ---

/// The numbers of an error type: base + value.
inline constexpr unsigned kPlatformErrors = ACCEDE_ALREADY_ACCEPTED;
inline constexpr unsigned kDetectErrors = ACCEDE_TWO_PLATFORMS;
inline constexpr unsigned kTdxErrors = ACCEDE_TDX_INFO_REFUSED;
inline constexpr unsigned kMapErrors = ACCEDE_MAP_BAD_STRIDE;
inline constexpr unsigned kTableErrors = ACCEDE_TABLE_MALFORMED;
inline constexpr unsigned kParseErrors = ACCEDE_TABLE_TRUNCATED_HEADER;
inline constexpr unsigned kEarlyErrors = ACCEDE_EARLY_OUT_OF_MEMORY;
inline constexpr unsigned kAllocErrors = ACCEDE_OUT_OF_MEMORY;
inline constexpr unsigned kFreeErrors = ACCEDE_FREE_NOT_OURS;
inline constexpr unsigned kSegmentErrors = ACCEDE_SEGMENT_TOO_MANY;
inline constexpr unsigned kHandOverErrors = ACCEDE_HAND_OVER_NOT_IN_MAP;
inline constexpr unsigned kCarrierErrors = ACCEDE_CARRIER_TRUNCATED;

template <class Kind>
[[nodiscard]] constexpr accede_status numbered(unsigned base, Kind kind) {
  return static_cast<accede_status>(base + static_cast<unsigned>(kind));
}

/// Each: the number of an error, and what is known about it.
[[nodiscard]] accede_status report(const PlatformFailure& failure, accede_detail* detail,
                                   Bytes accepted = {});
[[nodiscard]] accede_status report(const AcceptError& error, accede_detail* detail);
[[nodiscard]] accede_status report(const MapError& error, accede_detail* detail);
[[nodiscard]] accede_status report(const TableError& error, accede_detail* detail);
[[nodiscard]] accede_status report(const EarlyError& error, accede_detail* detail);
[[nodiscard]] accede_status report(const AllocError& error, accede_detail* detail);
[[nodiscard]] accede_status report(const SegmentError& error, accede_detail* detail);
[[nodiscard]] accede_status report(const CarrierError& error, accede_detail* detail);

}  // namespace accede::guest::c_api
