// Random actions on a page allocator, checked against a naive set of pages after each. The model
// test feeds it a random generator, the fuzz target feeds it the fuzzer's bytes.
#pragma once

#include "accede/guest/background.hpp"
#include "tests/guest/allocator_fixture.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace accede::guest::test {

/// Gives bytes of a test case, then zeros.
class ActionBytes {
 public:
  explicit ActionBytes(std::span<const std::uint8_t> bytes) : bytes_{bytes} {}
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  /// A number below `bound` (at most 65536).
  std::uint64_t below(std::uint64_t bound) {
    const std::uint64_t high = next();
    return (high << 8 | next()) % bound;
  }
  bool flag() { return (next() & 1) != 0; }

 private:
  std::uint8_t next() {
    if (bytes_.empty()) {
      return 0;
    }
    const std::uint8_t value = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return value;
  }

  std::span<const std::uint8_t> bytes_;
};

/// Which page is free, as plainly as possible: one word a page. Knows nothing of acceptance.
class NaiveMemory {
 public:
  explicit NaiveMemory(const VmConfig& config) : zones_{config.zones} {
    begin_ = zones_.front().span.begin();
    pages_.resize((zones_.back().span.end() - begin_) / 4_KiB, Page::kAbsent);
    for (const MemoryRegion& region : config.memory) {
      set(region.range, Page::kFree);
    }
  }

  /// False: not all of it was free. It is taken then nevertheless.
  bool take(PhysRange range) {
    const bool free = is_free(range);
    set(range, Page::kTaken);
    return free;
  }
  void give_back(PhysRange range) { set(range, Page::kFree); }

  [[nodiscard]] Bytes free_bytes() const {
    const auto count = std::count(pages_.begin(), pages_.end(), Page::kFree);
    return PageCount{static_cast<std::uint64_t>(count)}.bytes();
  }
  /// True when all of `range` is free and lies in one zone.
  [[nodiscard]] bool is_free(PhysRange range) const {
    const auto in_zone = [&](const VmZone& zone) { return zone.span.contains(range); };
    if (range.empty() || std::none_of(zones_.begin(), zones_.end(), in_zone)) {
      return false;
    }
    const auto first = pages_.begin() + index(range.begin());
    return std::all_of(first, pages_.begin() + index(range.end()),
                       [](Page page) { return page == Page::kFree; });
  }
  /// True when somewhere so many pages with that alignment are free.
  [[nodiscard]] bool has_run(PageCount pages, Bytes alignment) const {
    for (const VmZone& zone : zones_) {
      PhysAddr at = zone.span.begin().align_up(alignment);
      for (PhysAddr end = at; at < zone.span.end();) {
        if (end - at == pages.bytes()) {
          return true;
        }
        const bool free = end < zone.span.end() && is_free(area(Bytes{end.value()}, 4_KiB));
        at = free ? at : (end + 4_KiB).align_up(alignment);
        end = free ? end + 4_KiB : at;
      }
    }
    return false;
  }
  [[nodiscard]] PhysRange all() const {
    return *PhysRange::make(begin_, PageCount{pages_.size()}.bytes());
  }

 private:
  enum class Page : std::uint8_t { kAbsent, kFree, kTaken };

  [[nodiscard]] std::ptrdiff_t index(PhysAddr address) const {
    return static_cast<std::ptrdiff_t>((address - begin_) / 4_KiB);
  }
  void set(PhysRange range, Page page) {
    std::fill(pages_.begin() + index(range.begin()), pages_.begin() + index(range.end()), page);
  }

  std::vector<VmZone> zones_;
  PhysAddr begin_;
  std::vector<Page> pages_;
};

/// Plays actions on one CPU at a time. step() and check() return what is wrong, or nothing.
class AllocatorActions {
 public:
  explicit AllocatorActions(ActionBytes& bytes)
      : vm_{random_config(bytes)}, memory_{vm_.config()}, background_{vm_.allocator} {
    vm_.allocator.assign_cpu(1, 1);
  }
  ~AllocatorActions() { TestHooks::run_on(0); }

  std::string step(ActionBytes& bytes) {
    TestHooks::run_on(static_cast<unsigned>(bytes.below(2)));
    const std::string problem = act(bytes);
    if (!problem.empty()) {
      return problem;
    }
    if (vm_.allocator.counters().free != memory_.free_bytes()) {
      return "the counters do not agree with the pages";
    }
    if (++steps_ % 8 == 0) {
      return check();
    }
    return "";
  }

  [[nodiscard]] std::string check() const {
    for (unsigned i = 0; i < vm_.allocator.zone_count(); ++i) {
      if (vm_.allocator.zone(i).counters().accepting != PageCount{0}) {
        return "memory is being accepted by nobody";
      }
    }
    return vm_.problem();
  }

  /// Frees everything; then all memory must be there.
  std::string finish() {
    vm_.platform.stop_failing();
    while (!held_.empty()) {
      if (const std::string problem = release(held_.size() - 1); !problem.empty()) {
        return problem;
      }
    }
    return vm_.allocator.counters().free == vm_.total() ? check() : "memory was lost";
  }

 private:
  using Vm = SmallVm<Background>;
  struct Holding {
    PhysRange range;
    std::optional<Order> order;  ///< a block; nothing: a contiguous run
  };

  static VmConfig random_config(ActionBytes& bytes) {
    constexpr std::array kUnits{4_KiB, 64_KiB, 2_MiB, 8_MiB};
    VmConfig config{
        .unit = kUnits[bytes.below(4)], .platform_step = kUnits[bytes.below(3)], .cpus = 2};
    switch (bytes.below(3)) {
      case 0:
        config.memory = {usable(16_MiB, 8_MiB), unaccepted(24_MiB, 24_MiB)};
        config.zones = {{.span = area(16_MiB, 32_MiB)}};
        break;
      case 1:  // holes and crooked ends, two nodes
        config.memory = {usable(16_MiB + 20_KiB, 5_MiB), unaccepted(24_MiB, 16_MiB + 64_KiB)};
        config.zones = {{.span = area(16_MiB + 20_KiB, 16_MiB)},
                        {.span = area(32_MiB + 20_KiB, 16_MiB), .node = 1}};
        break;
      default:  // a foreign table with bits inside usable memory, two zones of one node
        config.memory = {usable(16_MiB, 32_MiB)};
        config.table_memory = {unaccepted(18_MiB, 5_MiB), unaccepted(30_MiB, 17_MiB)};
        config.zones = {{.span = area(16_MiB, 14_MiB)}, {.span = area(30_MiB, 18_MiB)}};
        break;
    }
    return config;
  }

  std::string act(ActionBytes& bytes) {
    switch (bytes.below(16)) {
      case 0:
      case 1:
      case 2:
        return allocate(bytes);
      case 3:
        return allocate_bulk(bytes);
      case 4:
        return allocate_contiguous(bytes);
      case 5:
        return take_out(bytes);
      case 6:
      case 7:
      case 8:
      case 9:
        return held_.empty() ? "" : release(bytes.below(held_.size()));
      case 10:
        return free_wrongly(bytes);
      case 11:
        return bytes.below(8) == 0 ? release_most(bytes) : "";
      case 12:
        vm_.allocator.drain_caches();
        return "";
      case 13:
        return accept_ahead(bytes);
      case 14:
        vm_.hooks.now_ns += bytes.below(65536) * 100;
        return failed_as_told(background_.step().has_value());
      default:
        return script_failures(bytes);
    }
  }

  static AllocOptions random_options(ActionBytes& bytes) {
    const std::uint64_t node = bytes.below(4);
    return {.node = node < 2 ? AllocOptions::kOwnNode : static_cast<unsigned>(node - 2),
            .no_wait = bytes.below(4) == 0};
  }

  std::string allocate(ActionBytes& bytes) {
    const Order order{static_cast<unsigned>(bytes.flag() ? bytes.below(11) : 0)};
    const AllocOptions options = random_options(bytes);
    const std::size_t calls = vm_.platform.call_count();
    const auto block = vm_.allocator.allocate(order, options);
    if (options.no_wait && vm_.platform.call_count() != calls) {
      return "a no-wait request accepted memory";
    }
    if (!block) {
      return refused(block.error().kind, order.pages(), order.bytes(), options.no_wait);
    }
    return hold(*PhysRange::make(*block, order.bytes()), order, order.bytes());
  }

  std::string allocate_bulk(ActionBytes& bytes) {
    std::vector<PhysAddr> pages(1 + bytes.below(1500));
    const AllocOptions options = random_options(bytes);
    const auto count = vm_.allocator.allocate_bulk(pages, options);
    if (!count) {
      return refused(count.error().kind, PageCount{1}, 4_KiB, options.no_wait);
    }
    for (const PhysAddr page : std::span{pages}.first(*count)) {
      if (auto problem = hold(area(Bytes{page.value()}, 4_KiB), Order{0}, 4_KiB);
          !problem.empty()) {
        return problem;
      }
    }
    const bool excuse = options.no_wait || failing_ || memory_.free_bytes() == Bytes{0};
    return *count == pages.size() || excuse ? "" : "a bulk request left memory unused";
  }

  std::string allocate_contiguous(ActionBytes& bytes) {
    const PageCount pages{1 + bytes.below(bytes.flag() ? 40 : 3000)};
    const Bytes alignment = 4_KiB * (1ULL << bytes.below(12));
    const AllocOptions options = random_options(bytes);
    const std::size_t calls = vm_.platform.call_count();
    const auto run = vm_.allocator.allocate_contiguous(pages, alignment, options);
    if (options.no_wait && vm_.platform.call_count() != calls) {
      return "a no-wait request accepted memory";
    }
    if (!run) {
      if (run.error().kind == AllocErrorKind::kWouldAccept && !memory_.has_run(pages, alignment)) {
        return "a request would have to accept memory that is not there";
      }
      return refused(run.error().kind, pages, alignment, options.no_wait);
    }
    return run->size() == pages.bytes() ? hold(*run, std::nullopt, alignment)
                                        : "a run has another size";
  }

  std::string take_out(ActionBytes& bytes) {
    const PhysRange all = memory_.all();
    const Bytes at = 4_KiB * bytes.below(all.size() / 4_KiB);
    const Bytes size = 4_KiB * bytes.below(bytes.flag() ? 8 : 3000);
    const PhysRange range = area(Bytes{all.begin().value()} + at, size);
    const bool accept = bytes.flag();
    const bool expected = range.end() <= all.end() && memory_.is_free(range);
    const auto taken = vm_.allocator.take_out(range, accept);
    if (!taken) {
      return failed_as_told(false);
    }
    if (*taken != expected) {
      return "take_out() and the pages disagree about what is free";
    }
    if (!*taken) {
      return "";
    }
    if (accept) {
      return hold(range, std::nullopt, 4_KiB);
    }
    memory_.take(range);
    held_.push_back({.range = range, .order = std::nullopt});
    return "";
  }

  std::string accept_ahead(ActionBytes& bytes) {
    const auto zone = static_cast<unsigned>(bytes.below(vm_.allocator.zone_count()));
    const Order order{static_cast<unsigned>(bytes.below(11))};
    const ZoneEnd end = bytes.flag() ? ZoneEnd::kTop : ZoneEnd::kBottom;
    const bool left = vm_.allocator.zone(zone).has_unaccepted();
    const auto accepted = vm_.allocator.accept_ahead(zone, order, end);
    if (accepted && left != (*accepted != Bytes{0})) {
      return "accepting ahead and the counters disagree about what is left";
    }
    return failed_as_told(accepted.has_value());
  }

  std::string free_wrongly(ActionBytes& bytes) {
    const PhysRange all = memory_.all();
    const PhysAddr at = all.begin() + 4_KiB * bytes.below(all.size() / 4_KiB + 8);
    const Order order{static_cast<unsigned>(bytes.below(11))};
    FreeError expected = FreeError::kWrongState;
    if (at >= all.end()) {
      expected = FreeError::kNotOurs;
    }
    for (const Holding& holding : held_) {
      if (!holding.order && holding.range.contains(at)) {
        return "";  // made of blocks that one could guess
      }
      if (holding.range.begin() == at && holding.order == order) {
        return "";  // would be right
      }
      if (holding.range.begin() == at) {
        expected = FreeError::kWrongOrder;
      }
    }
    const auto freed = vm_.allocator.free(at, order);
    return !freed && freed.error() == expected ? "" : "a wrong free() has another result";
  }

  std::string script_failures(ActionBytes& bytes) {
    if (bytes.flag()) {
      vm_.platform.stop_failing();
      failing_ = false;
      return "";
    }
    failing_ = true;
    const PhysRange all = memory_.all();
    PhysAddr at = all.begin() + 4_KiB * bytes.below(all.size() / 4_KiB);
    // The acceptor remembers a few units that failed part way, not any number of them.
    if (partly_ == 6) {
      at = at.align_down(std::max(vm_.table.unit(), 4_KiB));
    } else {
      ++partly_;
    }
    vm_.platform.fail_at(at, FailureKind::kRefused, 1, bytes.flag() ? 1 : FakePlatform::kAlways);
    return "";
  }

  std::string release(std::size_t which) {
    const Holding holding = held_[which];
    held_[which] = held_.back();
    held_.pop_back();
    memory_.give_back(holding.range);
    const auto freed = holding.order ? vm_.allocator.free(holding.range.begin(), *holding.order)
                                     : vm_.allocator.free_contiguous(holding.range);
    return freed ? "" : "a right free() was refused";
  }
  std::string release_most(ActionBytes& bytes) {
    while (held_.size() > 8) {
      if (auto problem = release(bytes.below(held_.size())); !problem.empty()) {
        return problem;
      }
    }
    return "";
  }

  std::string hold(PhysRange range, std::optional<Order> order, Bytes alignment) {
    if (!memory_.take(range)) {
      return "memory was handed out twice, or is none";
    }
    if (!range.begin().is_aligned(alignment)) {
      return "memory is not aligned as asked";
    }
    if (!vm_.touchable(range) || vm_.acceptor.contains_unaccepted(range)) {
      return "memory was handed out that is not accepted, or its guard is not";
    }
    held_.push_back({.range = range, .order = order});
    return "";
  }

  /// Whether a request for a run of `pages` may end in that error.
  std::string refused(AllocErrorKind error, PageCount pages, Bytes alignment, bool no_wait) const {
    switch (error) {
      case AllocErrorKind::kAcceptFailed:
        return failed_as_told(false);
      case AllocErrorKind::kWouldAccept:
        return no_wait && vm_.allocator.counters().unaccepted != Bytes{0}
                   ? ""
                   : "nothing would have to be accepted";
      case AllocErrorKind::kOutOfMemory:
        return memory_.has_run(pages, alignment) ? "out of memory with memory left" : "";
    }
    return "an unknown error";
  }
  std::string failed_as_told(bool ok) const {
    return ok || failing_ ? "" : "the platform failed without being told to";
  }

  Vm vm_;
  NaiveMemory memory_;
  BackgroundAcceptor<Vm::Allocator> background_;
  std::vector<Holding> held_;
  std::uint64_t steps_ = 0;
  unsigned partly_ = 0;
  bool failing_ = false;
};

}  // namespace accede::guest::test
