// All memory of the kernel, from BootInfo to pages: the guest library put together.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/efi/kernel/boot_reader.hpp"
#include "accede/efi/kernel/kernel_error.hpp"
#include "accede/efi/kernel/kernel_hooks.hpp"
#include "accede/efi/kernel/memory_lists.hpp"
#include "accede/efi/platform.hpp"
#include "accede/guest/acceptor.hpp"
#include "accede/guest/background.hpp"
#include "accede/guest/deferred_init.hpp"
#include "accede/guest/early_allocator.hpp"
#include "accede/guest/kexec.hpp"
#include "accede/guest/memory_map.hpp"
#include "accede/guest/page_allocator.hpp"
#include "accede/guest/policies.hpp"
#include "accede/guest/unaccepted_table.hpp"
#include "accede/guest/zone_plan.hpp"

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

namespace accede::efi::kernel {

/// One object, 140 KiB; start() once. Not copied or moved.
///
/// Invariants (sound()): those of the table, the early and the page allocator. Between start() and
/// release_marked_page() nobody writes to the page that the kernel before us marked.
/// For the one CPU; interrupt handlers may allocate with no_wait.
template <guest::AcceptancePolicy Policy, guest::AllocatorHooks Hooks,
          guest::AcceptPlatform Platform = MachinePlatform>
class KernelMemory {
 public:
  using Done = std::expected<void, KernelError>;
  using Acceptor = guest::Acceptor<Platform>;
  using Early = guest::EarlyAllocator<Acceptor>;
  using Pages = guest::PageAllocator<Acceptor, Policy, Hooks>;

  static constexpr bool kBackground = std::same_as<Policy, guest::Background>;

  /// Page information goes to memory that is accepted already, if it takes no more than this share
  /// of it: then nothing is accepted before the kernel is ready, which is fastest, and most of the
  /// memory below 4 GiB stays free for devices. A large machine's goes up to the memory that it
  /// describes and is accepted there.
  static constexpr std::uint64_t kAcceptedShare = 16;

  KernelMemory(Platform& platform, Hooks& hooks, PhysWindow window = {})
      : platform_{platform},
        hooks_{hooks},
        window_{window},
        acceptor_{table_, platform},
        early_{acceptor_, window, lists_.memory, lists_.reserved} {}
  KernelMemory(const KernelMemory&) = delete;
  KernelMemory& operator=(const KernelMemory&) = delete;

  /// From the firmware's map and the table of whoever started us to an allocator with all memory
  /// in it. `boot` lies in its own `info` range.
  /// Preconditions: the stack, page tables and descriptor tables lie in `boot.image`: all other
  /// memory that the map calls usable is given away.
  /// Errors end the boot: a map or table that is not sound, unaccepted memory without a table, an
  /// answer of the platform.
  [[nodiscard, gnu::cold]] Done start(const BootInfo& boot) {
    const auto reader = BootReader::make(boot, window_);
    if (!reader) {
      return std::unexpected{reader.error()};
    }
    boot_ = *reader;
    using Step = Done (KernelMemory::*)();
    for (const Step step : {&KernelMemory::read_map, &KernelMemory::find_table,
                            &KernelMemory::reserve_used, &KernelMemory::add_memory,
                            &KernelMemory::open_allocator, &KernelMemory::fill_allocator}) {
      if (const Done done = (this->*step)(); !done) {
        return done;
      }
    }
    return {};
  }

  // --- All that follows: precondition start() succeeded ---

  /// Whether the page that the kernel before us marked holds what that kernel left in it, all 512
  /// words; nothing when it marked none. Call it before release_marked_page().
  [[nodiscard, gnu::cold]] std::optional<bool> marked_page_kept() const {
    const PhysRange page = boot_->marked_page();
    if (page.empty()) {
      return std::nullopt;
    }
    if (!is_ram(page) || table_.any_unaccepted(page)) {
      return false;  // it may not even be read
    }
    const std::span words{window_.pointer<const volatile std::uint64_t>(page.begin()),
                          kPage.value() / sizeof(std::uint64_t)};
    return std::ranges::all_of(
        words, [this](std::uint64_t word) { return word == boot_->info().marked_value; });
  }
  /// The marked page becomes free memory like any other. Once.
  [[gnu::cold]] Done release_marked_page() {
    const PhysRange page = boot_->marked_page();
    if (page.empty() || !is_ram(page) || page_is_ours(page)) {
      return {};
    }
    if (const auto added = pages_->add(page); !added) {
      return accept_failed("the marked page cannot be used"sv, added.error());
    }
    return {};
  }

  /// Lets the background acceptor work, as a thread of its own would be let: at most one step (one
  /// unit), not more often than once a millisecond, and not while it sleeps. Cheap when there is
  /// nothing to do; nothing at all under the other policies. For thread context, between
  /// operations. Error: the platform's answer; the acceptor sleeps until it is woken.
  std::expected<void, guest::AcceptError> background_poll() {
    if constexpr (kBackground) {
      const std::uint64_t now = hooks_.now();
      if (now >= next_poll_ns_) [[unlikely]] {
        next_poll_ns_ = now + kPollNs;
        return background_step(now);
      }
    }
    return {};
  }

  [[nodiscard]] MemoryState state() const {
    const guest::MemoryCounters counters = pages_->counters();
    return {.ram = ram_,
            .total = counters.total,
            .free = counters.free,
            .unaccepted = counters.unaccepted,
            .page_info = pages_->metadata(),
            .accepted = acceptor_.counters().accepted,
            .table = route_};
  }
  /// Unaccepted memory of the map that cannot be used, because this is no confidential machine.
  [[nodiscard]] Bytes unusable() const { return unusable_; }
  /// Looks through all page information. Only while no other call runs.
  [[nodiscard, gnu::cold]] bool sound() const {
    return table_.invariants() && early_.invariants() && pages_->invariants();
  }

  [[nodiscard]] Pages& pages() { return *pages_; }
  [[nodiscard]] Acceptor& acceptor() { return acceptor_; }
  [[nodiscard]] const guest::UnacceptedTable& table() const { return table_; }
  [[nodiscard]] const guest::MemoryMap& map() const { return map_; }
  [[nodiscard]] const BootReader& boot() const { return *boot_; }
  [[nodiscard]] PhysWindow window() const { return window_; }
  [[nodiscard]] bool is_ram(PhysRange range) const {
    return map_.covers(range, guest::MemoryKind::kUsable) ||
           map_.covers(range, guest::MemoryKind::kUnaccepted);
  }

 private:
  static constexpr Bytes kPage{4096};
  static constexpr std::uint64_t kPollNs = 1'000'000;

  struct Nothing {};
  using Acceptance =
      std::conditional_t<kBackground, std::optional<guest::BackgroundAcceptor<Pages>>, Nothing>;

  static std::unexpected<KernelError> fail(std::string_view what, std::string_view why = {},
                                           std::uint64_t detail = 0) {
    return std::unexpected{KernelError{.what = what, .why = why, .detail = detail}};
  }
  static std::unexpected<KernelError> accept_failed(std::string_view what,
                                                    const guest::AcceptError& error) {
    return fail(what, guest::to_string(error.failure.kind), error.failure.at.value());
  }
  static Done checked(std::string_view what, const typename Early::Done& done) {
    if (done) {
      return {};
    }
    if (done.error().kind == guest::EarlyErrorKind::kAcceptFailed) {
      return accept_failed(what, done.error().accept);
    }
    return fail(what, guest::to_string(done.error().kind));
  }

  Done read_map() {
    const auto map =
        guest::MemoryMap::from_efi(boot_->efi_map(), boot_->efi_stride(), lists_.regions);
    if (!map) {
      return fail("the memory map of the firmware cannot be used"sv,
                  guest::to_string(map.error().kind), map.error().offset);
    }
    map_ = *map;
    unusable_ = guest::unusable_without_platform(map_, platform_.kind());
    ram_ = map_.bytes_of(guest::MemoryKind::kUsable) +
           (map_.bytes_of(guest::MemoryKind::kUnaccepted) - unusable_);
    return {};
  }

  Done find_table() {
    const auto readable = readable_ranges(map_, boot_->info_range(), lists_.readable);
    const auto found = guest::start_from(
        {.efi_entries = boot_->efi_entries(), .hand_over = PhysAddr{boot_->info().hand_over}},
        {.window = window_, .ranges = readable}, table_, lists_.index);
    if (!found) {
      const guest::StartError& error = found.error();
      const bool carrier = error.kind == guest::StartErrorKind::kCarrier;
      return fail(guest::to_string(error.kind),
                  carrier ? guest::to_string(error.carrier.kind)
                  : error.kind == guest::StartErrorKind::kTable ? guest::to_string(error.table.kind)
                                                                : std::string_view{},
                  carrier ? error.carrier.offset : error.table.offset);
    }
    route_ = *found;
    const bool confidential = platform_.kind() != guest::PlatformKind::kNone;
    if (confidential && route_ == guest::HandOverRoute::kNone &&
        map_.bytes_of(guest::MemoryKind::kUnaccepted) != Bytes{0}) {
      return fail("there is unaccepted memory, but nobody left a table of it"sv);
    }
    if (const auto beyond = table_.first_beyond(map_)) {
      return fail("the unaccepted table does not fit the memory map"sv,
                  "it names memory that is not there"sv, beyond->begin().value());
    }
    return {};
  }

  Done add_memory() {
    for (const guest::MemoryRegion& region : map_.regions()) {
      const bool usable = region.kind == guest::MemoryKind::kUsable ||
                          (region.kind == guest::MemoryKind::kUnaccepted && unusable_ == Bytes{0});
      if (!usable) {
        continue;
      }
      if (const Done done = checked("memory cannot be added"sv, early_.add_memory(region.range));
          !done) {
        return done;
      }
    }
    return {};
  }

  Done reserve_used() {
    const PhysRange table = table_.present()
                                ? *PhysRange::make(table_.where(), Bytes{table_.bytes().size()})
                                : PhysRange{};
    // The first page: its address could be taken for "none".
    const PhysRange first = PhysRange::page(PhysAddr{0}, PageSize::k4K);
    for (const PhysRange used : {first, table, boot_->image(), boot_->pristine(),
                                 boot_->info_range(), boot_->marked_page()}) {
      if (const Done done = checked("used memory cannot be reserved"sv, early_.reserve_pages(used));
          !done) {
        return done;
      }
    }
    // From here on the lists may grow: into memory that is added, and nothing that is in use.
    early_.allow_growth();
    return {};
  }

  Done open_allocator() {
    std::array<guest::ZonePlan, MemoryLists::kMostZones> plans;
    const std::size_t count = guest::plan_zones(early_.ranges(), plans);
    if (count == 0 || count > plans.size()) {
      return fail(count == 0 ? "there is no memory"sv : "there are too many zones of memory"sv);
    }
    const auto plan = std::span{plans}.first(count);
    pages_.emplace(acceptor_, std::span{lists_.zones}.first(count), lists_.caches, hooks_);
    Bytes need;
    for (const guest::ZonePlan& zone : plan) {
      need += guest::Zone::metadata_bytes(zone.span) + kPage;
    }
    const Bytes accepted = map_.bytes_of(guest::MemoryKind::kUsable);
    const bool in_accepted = need.value() <= accepted.value() / kAcceptedShare;
    for (unsigned i = 0; i < count; ++i) {
      if (const Done done = open_zone(i, plan[i], in_accepted); !done) {
        return done;
      }
    }
    return {};
  }

  Done open_zone(unsigned index, const guest::ZonePlan& plan, bool in_accepted) {
    const Bytes need = guest::Zone::metadata_bytes(plan.span);
    const auto place = in_accepted ? allocate_accepted(need) : early_.allocate(need, kPage);
    if (!place) {
      return checked("no memory for the page information"sv, std::unexpected{place.error()});
    }
    const std::span metadata{window_.template pointer<std::byte>(place->begin()), need.value()};
    pages_->open_zone(index, plan.span, static_cast<unsigned>(plan.node), metadata, place->begin());
    return {};
  }

  /// From the highest accepted region that has room; else from anywhere.
  typename Early::Result allocate_accepted(Bytes need) {
    const auto regions = map_.regions();
    for (std::size_t i = regions.size(); i-- != 0;) {
      if (regions[i].kind != guest::MemoryKind::kUsable) {
        continue;
      }
      auto place = early_.allocate(need, kPage, {.limits = regions[i].range});
      if (place || place.error().kind != guest::EarlyErrorKind::kOutOfMemory) {
        return place;
      }
    }
    return early_.allocate(need, kPage);
  }

  Done fill_allocator() {
    guest::DeferredInit<Pages> init{*pages_, early_.ranges()};
    if (const auto added = init.run(); !added) {
      return accept_failed("memory could not be accepted"sv, added.error());
    }
    if constexpr (kBackground) {
      acceptance_.emplace(*pages_);
    }
    return {};
  }

  /// Whether something else that the kernel uses lies in the page too: then it is never free.
  [[nodiscard]] bool page_is_ours(PhysRange page) const {
    return page.overlaps(boot_->image()) || page.overlaps(boot_->pristine()) ||
           page.overlaps(boot_->info_range()) ||
           (table_.present() &&
            page.overlaps(*PhysRange::make(table_.where(), Bytes{table_.bytes().size()})));
  }

  std::expected<void, guest::AcceptError> background_step(std::uint64_t now)
    requires kBackground
  {
    if (hooks_.take_wake_up()) {
      sleep_until_ns_ = 0;
    }
    if (now < sleep_until_ns_) {
      return {};
    }
    constexpr std::uint64_t kForEver = guest::BackgroundStep::kUntilWoken;
    const auto step = acceptance_->step();
    if (!step) {
      sleep_until_ns_ = kForEver;
      return std::unexpected{step.error()};
    }
    const std::uint64_t after = hooks_.now();
    sleep_until_ns_ = step->sleep_ns < kForEver - after ? after + step->sleep_ns : kForEver;
    return {};
  }

  Platform& platform_;
  Hooks& hooks_;
  PhysWindow window_;
  std::optional<BootReader> boot_;
  MemoryLists lists_;
  guest::MemoryMap map_;
  Bytes ram_;
  Bytes unusable_;
  guest::HandOverRoute route_ = guest::HandOverRoute::kNone;
  guest::UnacceptedTable table_;
  Acceptor acceptor_;
  Early early_;
  std::optional<Pages> pages_;
  [[no_unique_address]] Acceptance acceptance_;
  std::uint64_t next_poll_ns_ = 0;
  std::uint64_t sleep_until_ns_ = 0;
};

}  // namespace accede::efi::kernel
