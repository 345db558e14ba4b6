#include "accede/efi/kernel/machine.hpp"

#include "accede/abi/efi.hpp"
#include "accede/efi/kernel/gdt.hpp"
#include "accede/efi/kernel/ghcb_page.hpp"
#include "accede/efi/kernel/idle.hpp"
#include "accede/efi/kernel/panic.hpp"
#include "accede/efi/kernel/timer.hpp"
#include "accede/efi/kernel/traps.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

// From kernel.ld and start.S.
extern "C" {
[[gnu::visibility("hidden")]] extern const char kernel_text_begin[];
[[gnu::visibility("hidden")]] extern const char kernel_rodata_begin[];
[[gnu::visibility("hidden")]] extern const char kernel_data_begin[];
[[gnu::visibility("hidden")]] extern const char kernel_stack_guard[];
}

namespace accede::efi::kernel {

using namespace std::string_view_literals;
namespace {

constexpr std::uint64_t kHostWaitNs = 10'000'000'000;

// What the processor and the devices refer to for ever.
constinit Segments g_segments;
constinit Traps g_traps;
constinit Timer g_timer;
constinit PageTableStorage g_page_tables{};
// The host reads and writes it while it is shared.
constinit abi::ghcb::GhcbPage g_ghcb_page{};

PhysAddr address_of(const char* symbol) {
  return PhysAddr{reinterpret_cast<std::uint64_t>(symbol)};
}

guest::GhcbRef ghcb_page() {
  return {.page = &g_ghcb_page,
          .address = PhysAddr{reinterpret_cast<std::uintptr_t>(&g_ghcb_page)}};
}

/// Ranges out of the firmware's map.
struct RangeList {
  std::array<PhysRange, 256> ranges{};
  std::size_t count = 0;

  void add(PhysRange range) {
    if (count != 0 && ranges[count - 1].end() == range.begin()) {
      ranges[count - 1] = *PhysRange::make(ranges[count - 1].begin(), range.end());
    } else if (count != ranges.size()) {
      ranges[count++] = range;
    } else {
      panic("the memory map is too scattered for the page tables"sv);
    }
  }
  [[nodiscard]] std::span<const PhysRange> view() const { return {ranges.data(), count}; }
};

bool is_device(abi::efi::MemoryType type) {
  using abi::efi::MemoryType;
  return type == MemoryType::kMemoryMappedIo || type == MemoryType::kMemoryMappedIoPortSpace;
}

/// Memory that the kernel or the firmware will touch; the rest is only mapped where it is easy.
bool is_used(abi::efi::MemoryType type) {
  using abi::efi::MemoryType;
  return type != MemoryType::kReserved && type != MemoryType::kUnusable && !is_device(type);
}

/// Uses the stack until there is none. Each frame is needed after the call, so that the compiler
/// cannot make a loop of it.
[[gnu::noinline]] std::uint64_t overflow_stack(std::uint64_t depth) {
  constexpr std::size_t kWords = 64;
  volatile std::uint64_t frame[kWords];
  frame[depth % kWords] = depth;
  return depth == ~0ULL ? 0 : overflow_stack(depth + 1) + frame[depth % kWords];
}

void read_byte(PhysAddr address) {
  std::uint8_t value = 0;
  asm volatile("movb (%1), %0" : "=q"(value) : "r"(address.value()) : "memory");
}

}  // namespace

Machine::Machine(const BootReader& boot, MachinePlatform& platform, HostLink host)
    : boot_{boot},
      platform_{platform},
      host_{host},
      clock_{boot.info().tsc_hz, boot.info().tsc_entry},
      console_{PortIo{host}},
      power_{PhysAddr{boot.info().efi_system_table}},
      page_tables_{g_page_tables, PagingFeatures::of_cpu(), platform.private_mask()} {}

void Machine::start() {
  if (!is_snp()) {
    console_.init();
  }
  g_segments.load();
  g_traps.load(console_, boot_.image(), host_.kind, page_tables_.private_mask());
  set_last_words({.console = &console_, .power = &power_, .host = host_});
  map_memory();
  if (is_snp()) {
    share_ghcb();
    console_.init();
  }
  // The timer wakes the CPU when it is idle; without one an idle kernel sleeps longer than it
  // wants.
  if (const auto started = g_timer.start(g_traps, clock_, host_); !started) {
    console_.write("accede-guest: no timer: "sv);
    console_.write(to_string(started.error()));
    console_.write("\n"sv);
  }
  enable_interrupts();
}

void Machine::map_memory() {
  RangeList ram;
  RangeList executable;
  // Half of what four levels translate, or what the CPU has.
  const PhysAddr reach{1ULL << std::min(page_tables_.features().physical_bits, 47U)};
  const auto map = abi::efi::MemoryMapView::make(boot_.efi_map(), boot_.efi_stride());
  for (std::size_t i = 0; map && i < map->size(); ++i) {
    const auto range = map->range(i);
    const auto type = static_cast<abi::efi::MemoryType>((*map)[i].type);
    // Reserved memory counts as RAM: most of it is single pages that the firmware keeps, and what
    // is a device's is used by nobody here.
    if (!range || range->empty() || is_device(type) || (!is_used(type) && range->end() > reach)) {
      continue;
    }
    ram.add(*range);
    if (type == abi::efi::MemoryType::kRuntimeServicesCode) {
      executable.add(*range);
    }
  }
  const PhysAddr text = address_of(kernel_text_begin);
  const PhysAddr rodata = address_of(kernel_rodata_begin);
  const std::array guards{*PhysRange::make(address_of(kernel_stack_guard), 4_KiB)};
  const auto built =
      page_tables_.build({.ram = ram.view(),
                          .executable = executable.view(),
                          .image = boot_.image(),
                          .text = *PhysRange::make(text, rodata),
                          .rodata = *PhysRange::make(rodata, address_of(kernel_data_begin)),
                          .guards = guards});
  const auto loaded = built ? page_tables_.load() : built;
  if (!loaded) {
    kernel::panic(to_string(loaded.error()));
  }
}

void Machine::share_ghcb() {
  const auto shared =
      open_ghcb(platform_, ghcb_page(), [this](guest::Visibility to) { return map_ghcb(to); });
  if (!shared) {
    kernel::panic(shared.error().text().view());
  }
  host_.ghcb->use(ghcb_page());
}

void Machine::take_ghcb_back() {
  host_.ghcb->use({});
  const auto taken =
      close_ghcb(platform_, ghcb_page(), [this](guest::Visibility to) { return map_ghcb(to); });
  if (!taken) {
    kernel::panic(taken.error().text().view());
  }
}

std::expected<void, PageTablesError> Machine::map_ghcb(guest::Visibility visibility) {
  return page_tables_.map(PhysRange::page(ghcb_page().address, PageSize::k4K),
                          PageAccess::kReadWrite, visibility);
}

void Machine::write_line(std::string_view line) const {
  // The leading line end closes a line that somebody left open.
  for (const std::string_view part : {"\n"sv, line, "\n"sv}) {
    console_.write(part);
  }
}

void Machine::wait_for_host() const {
  static_cast<void>(console_.wait_for_input(clock_.now_ns() + kHostWaitNs, clock_));
}

void Machine::panic(std::string_view text) const {
  kernel::panic(text);
}

void Machine::break_rule(FaultKind kind) const {
  switch (kind) {
    case FaultKind::kNull:
      return read_byte(PhysAddr{0});
    case FaultKind::kUndefined:
      asm volatile("ud2");
      return;
    case FaultKind::kStack:
      static_cast<void>(overflow_stack(0));
      return;
    case FaultKind::kUnaccepted:
      if (table_ != nullptr) {
        if (const auto run = table_->next_run(table_->covered())) {
          read_byte(run->begin());
        }
      }
      return;
  }
}

void Machine::set_table(const guest::UnacceptedTable* table) {
  table_ = table;
  g_traps.set_table(table);
}

void Machine::prepare_jump() const {
  disable_interrupts();
  g_timer.stop();
}

void Machine::jump(const NextKernelEntry& next) {
  // Memory is not executable here; the next kernel decides for itself once it has its own tables.
  if (const auto mapped = page_tables_.map(next.image, PageAccess::kReadWriteExecute); !mapped) {
    kernel::panic(to_string(mapped.error()));
  }
  if (is_snp()) {
    // Last of all: without it a panic is not heard. The next kernel takes the page for free memory.
    take_ghcb_back();
  }
  jump_to_kernel(next);
}

void Machine::power_off() {
  prepare_jump();
  if (is_snp()) {
    take_ghcb_back();
  }
  power_.power_off();
  stop_cpu(host_.kind);
}

void Machine::idle() const {
  disable_interrupts();
  wait_for_interrupt(host_.kind);
  enable_interrupts();
}

}  // namespace accede::efi::kernel
