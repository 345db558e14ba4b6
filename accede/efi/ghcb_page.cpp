#include "accede/efi/ghcb_page.hpp"

#include "accede/efi/page_privacy.hpp"
#include "accede/emulator/cpu.hpp"

namespace accede::efi {

using namespace std::string_view_literals;
namespace {

namespace cpu = emulator::cpu;
using abi::efi::AllocateType;
using abi::efi::MemoryType;
using abi::efi::Status;

/// Page tables can be written even where the firmware maps them read-only, and no handler of the
/// firmware runs in between.
class WritableTables {
 public:
  WritableTables() : interrupts_were_on_{cpu_.hold_interrupts()}, cr0_{cpu::read_cr0()} {
    constexpr std::uint64_t kWriteProtect = 1U << 16;
    write_cr0(cr0_ & ~kWriteProtect);
  }
  ~WritableTables() {
    write_cr0(cr0_);
    cpu_.release_interrupts(interrupts_were_on_);
  }
  WritableTables(const WritableTables&) = delete;
  WritableTables& operator=(const WritableTables&) = delete;

 private:
  static void write_cr0(std::uint64_t value) {
    asm volatile("mov %0, %%cr0" : : "r"(value) : "memory");
  }

  CpuGhcbPort cpu_;
  bool interrupts_were_on_;
  std::uint64_t cr0_;
};

LiveTables current_tables(std::uint64_t private_mask) {
  constexpr std::uint64_t kLa57 = 1U << 12;
  constexpr std::uint64_t kRoot = 0x000F'FFFF'FFFF'F000;
  return {.window = PhysWindow{},
          .root = PhysAddr{cpu::read_cr3() & kRoot & ~private_mask},
          .five_levels = (cpu::read_cr4() & kLa57) != 0,
          .private_mask = private_mask};
}

std::expected<void, PrivacyError> map_as(PhysRange page, bool is_private, PhysRange spare,
                                         std::uint64_t private_mask) {
  const WritableTables writable;
  const auto changed =
      set_page_private(current_tables(private_mask), page.begin(), is_private, spare);
  asm volatile("invlpg (%0)" : : "r"(page.begin().value()) : "memory");
  return changed;
}

}  // namespace

Result<GhcbRoom> GhcbRoom::reserve(const Firmware& firmware) {
  constexpr Bytes kSize = 4_KiB + kMostSplitTables;
  std::uint64_t address = (4_GiB).value() - 1;
  const Status status = firmware.boot().allocate_pages(
      AllocateType::kMaxAddress, MemoryType::kReserved, kSize.value() / 4096, &address);
  if (is_error(status)) {
    return std::unexpected{Failure{"no memory for a page to share with the host"sv, status}};
  }
  const PhysRange page = *PhysRange::make(PhysAddr{address}, 4_KiB);
  return GhcbRoom{.page = page, .tables = *PhysRange::make(page.end(), kMostSplitTables)};
}

GhcbMemory::~GhcbMemory() {
  if (state_ == State::kShared) {
    state_ = make_private() ? State::kReserved : State::kLost;
  }
  if (state_ == State::kReserved) {
    // The page alone: the tables may be in use.
    firmware_.boot().free_pages(room_.page.begin().value(), 1);
  }
}

std::expected<void, std::string_view> GhcbMemory::share() {
  ACCEDE_ASSERT(state_ == State::kReserved);
  const PhysRange page = room_.page;
  cpu::flush_page(reinterpret_cast<const void*>(page.begin().value()));
  state_ = State::kLost;
  if (const auto shared = platform_.convert(page, guest::Visibility::kShared); !shared) {
    return std::unexpected{guest::to_string(shared.error().kind)};
  }
  if (const auto mapped = map_as(page, false, room_.tables, platform_.private_mask()); !mapped) {
    if (platform_.convert(page, guest::Visibility::kPrivate)) {
      state_ = State::kReserved;
    }
    return std::unexpected{to_string(mapped.error())};
  }
  state_ = State::kShared;
  auto* const ghcb = reinterpret_cast<abi::ghcb::GhcbPage*>(page.begin().value());
  cpu::zero_page(ghcb);
  if (!platform_.ghcb_msr().can_register(page.begin())) {
    return std::unexpected{"the host takes no GHCB page"sv};
  }
  platform_.use_ghcb(ghcb, page.begin());
  return {};
}

bool GhcbMemory::make_private() {
  platform_.use_ghcb(nullptr, PhysAddr{});
  cpu::flush_page(reinterpret_cast<const void*>(room_.page.begin().value()));
  // No table is needed: the page was split off when it was shared.
  return map_as(room_.page, true, PhysRange{}, platform_.private_mask()).has_value() &&
         platform_.convert(room_.page, guest::Visibility::kPrivate).has_value();
}

}  // namespace accede::efi
