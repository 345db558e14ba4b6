#include "accede/efi/memory_plan.hpp"

#include "accede/efi/unaccepted_map.hpp"

#include <algorithm>

namespace accede::efi {

using namespace std::string_view_literals;
namespace {

using abi::efi::MemoryMapView;
using abi::efi::MemoryType;
using abi::efi::Status;
using firmware::AcceptancePlan;
using firmware::AcceptanceScope;
using guest::MemoryKind;
using guest::MemoryMap;
using guest::MemoryRegion;

constexpr PhysAddr k4GiB{(4_GiB).value()};
constexpr Failure kTooScattered{"the memory map is more scattered than the emulator takes"sv};

/// What the operating system may use once boot services are gone.
bool is_usable(MemoryType type) {
  switch (type) {
    case MemoryType::kLoaderCode:
    case MemoryType::kLoaderData:
    case MemoryType::kBootServicesCode:
    case MemoryType::kBootServicesData:
    case MemoryType::kConventional:
      return true;
    default:
      return false;
  }
}

bool is_ram(std::uint32_t number) {
  const auto type = static_cast<MemoryType>(number);
  switch (type) {
    case MemoryType::kRuntimeServicesCode:
    case MemoryType::kRuntimeServicesData:
    case MemoryType::kAcpiReclaim:
    case MemoryType::kAcpiNvs:
      return true;
    default:
      return is_usable(type) ||
             number >= 0x7000'0000;  // OEM and loader types are RAM somebody allocated
  }
}

Result<MemoryMapView> view_of(const Result<Firmware::MemoryMap>& map) {
  if (!map) {
    return std::unexpected{map.error()};
  }
  const std::optional<MemoryMapView> view = MemoryMapView::make(map->bytes, map->stride);
  if (!view) {
    return std::unexpected{Failure{"the memory map's descriptors are too small"sv}};
  }
  return *view;
}

/// Regions of a memory map under construction, in storage with room for all.
class Regions {
 public:
  explicit Regions(std::span<MemoryRegion> storage) : storage_{storage} {}

  void add(PhysRange range, MemoryKind kind) {
    if (!range.empty()) {
      storage_[count_++] = {.range = range, .kind = kind};
    }
  }
  /// Free memory, of which whole 2 MiB pages are unaccepted and the rest is usable.
  void add_large_pages(PhysRange range) {
    const PhysAddr begin = std::min(range.begin().align_up(2_MiB), range.end());
    const PhysAddr end = std::max(range.end().align_down(2_MiB), begin);
    add(*PhysRange::make(range.begin(), begin), MemoryKind::kUsable);
    add(*PhysRange::make(begin, end), MemoryKind::kUnaccepted);
    add(*PhysRange::make(end, range.end()), MemoryKind::kUsable);
  }
  [[nodiscard]] MemoryMap::Result map() const {
    return MemoryMap::from_regions(storage_.first(count_));
  }

  static constexpr std::size_t kMostOfOne = 3;  ///< regions of one descriptor

 private:
  std::span<MemoryRegion> storage_;
  std::size_t count_ = 0;
};

/// What the operating system can use as the firmware finds it.
MemoryMap::Result found_memory(MemoryMapView view, AcceptanceScope scope,
                               std::span<MemoryRegion> storage) {
  Regions regions{storage};
  for (std::size_t i = 0; i < view.size(); ++i) {
    const auto type = static_cast<MemoryType>(view[i].type);
    const std::optional<PhysRange> range = view.range(i);
    if (!range || !is_usable(type)) {
      continue;
    }
    if (type == MemoryType::kConventional && range->begin() >= k4GiB) {
      regions.add(*range, MemoryKind::kUnaccepted);
    } else if (type == MemoryType::kConventional && scope == AcceptanceScope::kAtLeast) {
      regions.add_large_pages(*range);
    } else {
      regions.add(*range, MemoryKind::kUsable);
    }
  }
  return regions.map();
}

/// `room` at the end of the highest unaccepted memory below 4 GiB that has it, for firmware gives
/// the highest pages first; the largest piece when none has it.
PhysRange room_for_loader(const MemoryMap& map, Bytes room) {
  PhysRange best;
  for (const MemoryRegion& region : map.regions()) {
    const PhysRange range = region.range;
    if (region.kind == MemoryKind::kUnaccepted && range.end() <= k4GiB &&
        range.size() >= std::min(room, best.size())) {
      best = range;
    }
  }
  return *PhysRange::make(best.end() - std::min(room, best.size()), best.end());
}

bool add_unaccepted(RangeList& list, const MemoryMap& map) {
  return std::ranges::all_of(map.regions(), [&](const MemoryRegion& region) {
    return region.kind != MemoryKind::kUnaccepted || list.add(region.range);
  });
}

/// Follows `goal` on `map`, whose storage becomes that of the memory handed over.
Result<MemoryPlan> divide(const MemoryMap& map, const RangeList& ram, const FirmwareGoal& goal,
                          std::span<MemoryRegion> storage) {
  const PhysRange loader = goal.scope == AcceptanceScope::kAtLeast
                               ? room_for_loader(map, goal.loader_room)
                               : PhysRange{};
  std::array<PhysRange, emulator::LaunchInfo::kMaxRanges> ranges;
  const auto plan = AcceptancePlan::make(
      map, {.scope = goal.scope, .at_least = goal.at_least, .needed = {&loader, 1}}, {}, ranges);
  if (!plan) {
    return std::unexpected{Failure{to_string(plan.error().kind)}};
  }
  MemoryPlan divided{.ram = ram, .pending = {}, .accepted = {}, .left = {}};
  bool good = add_unaccepted(divided.pending, map);
  for (const PhysRange range : plan->ranges()) {
    good = good && divided.accepted.add(range);
  }
  const MemoryMap::Result handed_over = plan->hand_over(map, storage);
  if (!handed_over) {
    return std::unexpected{Failure{to_string(handed_over.error().kind)}};
  }
  good = good && add_unaccepted(divided.left, *handed_over);
  return good ? Result<MemoryPlan>{divided} : std::unexpected{kTooScattered};
}

/// `plan` where the firmware accepts only what is free in `view`.
Result<MemoryPlan> still_free(MemoryMapView view, const MemoryPlan& plan) {
  MemoryPlan now{.ram = plan.ram, .pending = plan.left, .accepted = {}, .left = plan.left};
  bool good = true;
  for (std::size_t i = 0; i < view.size(); ++i) {
    const std::optional<PhysRange> range = view.range(i);
    if (!range || static_cast<MemoryType>(view[i].type) != MemoryType::kConventional) {
      continue;
    }
    for (const PhysRange accepted : plan.accepted.view()) {
      const PhysRange part = accepted.intersect(*range);
      good = good && (part.empty() || (now.accepted.add(part) && now.pending.add(part)));
    }
  }
  return good ? Result<MemoryPlan>{now} : std::unexpected{kTooScattered};
}

}  // namespace

bool RangeList::add(PhysRange range) {
  PhysRange* const first = ranges_.data();
  PhysRange* const end = first + count_;
  PhysRange* const next =
      std::ranges::upper_bound(first, end, range.begin(), {}, &PhysRange::begin);
  const bool joins_last = next != first && (next - 1)->end() == range.begin();
  const bool joins_next = next != end && next->begin() == range.end();
  if (joins_last && joins_next) {
    *(next - 1) = *PhysRange::make((next - 1)->begin(), next->end());
    std::move(next + 1, end, next);
    --count_;
  } else if (joins_last) {
    *(next - 1) = *PhysRange::make((next - 1)->begin(), range.end());
  } else if (joins_next) {
    *next = *PhysRange::make(range.begin(), next->end());
  } else if (count_ == ranges_.size()) {
    return false;
  } else {
    std::move_backward(next, end, end + 1);
    *next = range;
    ++count_;
  }
  return true;
}

Bytes RangeList::size() const {
  Bytes sum;
  for (const PhysRange range : view()) {
    sum += range.size();
  }
  return sum;
}

Result<RangeList> survey_ram(const Firmware& firmware) {
  const Result<MemoryMapView> view = view_of(firmware.memory_map());
  if (!view) {
    return std::unexpected{view.error()};
  }
  RangeList ram;
  PhysAddr low_end;
  bool good = true;
  for (std::size_t i = 0; i < view->size(); ++i) {
    const std::optional<PhysRange> range = view->range(i);
    if (!range || range->empty() || !is_ram((*view)[i].type)) {
      continue;
    }
    if (range->begin() < k4GiB) {
      low_end = std::max(low_end, range->end());
    } else {
      good = good && ram.add(*range);
    }
  }
  constexpr PhysAddr kLegacyHole{0xA0000};
  constexpr PhysAddr kLegacyHoleEnd{0x100000};
  good = good && kLegacyHoleEnd < low_end && low_end <= k4GiB &&
         ram.add(*PhysRange::make(PhysAddr{0}, kLegacyHole)) &&
         ram.add(*PhysRange::make(kLegacyHoleEnd, low_end));
  return good ? Result<RangeList>{ram} : std::unexpected{kTooScattered};
}

Result<MemoryPlan> plan_memory(const Firmware& firmware, const RangeList& ram,
                               const FirmwareGoal& goal) {
  // All that is allocated here comes first: what is free must not change any more.
  std::uint64_t bytes = 0;
  std::uint64_t stride = 0;
  std::uint64_t key = 0;
  std::uint32_t version = 0;
  firmware.boot().get_memory_map(&bytes, nullptr, &key, &stride, &version);
  const std::size_t most = bytes / std::max<std::uint64_t>(stride, 1) + Firmware::kSpareDescriptors;
  const auto storage = firmware.allocate_array<MemoryRegion>(firmware::regions_with_accepted(
      Regions::kMostOfOne * most, emulator::LaunchInfo::kMaxRanges));
  if (!storage) {
    return std::unexpected{storage.error()};
  }
  const Result<MemoryMapView> view = view_of(firmware.memory_map());
  if (!view) {
    return std::unexpected{view.error()};
  }
  if (view->size() > most) {
    return std::unexpected{kTooScattered};
  }
  const MemoryMap::Result map = found_memory(*view, goal.scope, *storage);
  if (!map) {
    return std::unexpected{Failure{to_string(map.error().kind)}};
  }
  return divide(*map, ram, goal, *storage);
}

Result<MemoryPlan> claim_left(const Firmware& firmware, const MemoryPlan& plan) {
  // Each range that is claimed splits at most one descriptor into three.
  auto map =
      firmware.memory_map(2 * emulator::LaunchInfo::kMaxRanges + Firmware::kSpareDescriptors);
  const auto ranges = plan.left.view();
  // The highest first: what the firmware allocates for itself meanwhile comes from there.
  for (std::size_t i = ranges.size(); i != 0; --i) {
    const PhysRange range = ranges[i - 1];
    std::uint64_t address = range.begin().value();
    const Status status = firmware.boot().allocate_pages(abi::efi::AllocateType::kAddress, kClaimed,
                                                         range.size().value() / 4096, &address);
    if (is_error(status)) {
      return std::unexpected{Failure{"memory that stays unaccepted cannot be claimed"sv, status}};
    }
  }
  if (map) {
    if (const Status status = firmware.refresh(*map); is_error(status)) {
      return std::unexpected{Failure{"the memory map cannot be read again"sv, status}};
    }
  }
  const Result<MemoryMapView> view = view_of(map);
  return view ? still_free(*view, plan) : std::unexpected{view.error()};
}

}  // namespace accede::efi
