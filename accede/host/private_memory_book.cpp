#include "accede/host/private_memory_book.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>

namespace accede::host {

using namespace std::string_view_literals;

namespace {

auto failure(PrivateMemoryError error, PhysRange at) {
  return std::unexpected{PrivateMemoryFailure{error, at}};
}

/// A 2 MiB page is backed or smashed as a whole: what happens in it happens one at a time.
PhysRange blocks_of(PhysRange gpas) {
  return *PhysRange::make(gpas.begin().align_down(2_MiB), gpas.end().align_up(2_MiB));
}

OffsetRange offsets_of(const MemorySlot& slot, PageAttribute side) {
  return slot.offsets(side, slot.gpas);
}

}  // namespace

std::string_view name(VmStage stage) {
  switch (stage) {
    case VmStage::kSlots:
      return "slots"sv;
    case VmStage::kBound:
      return "bound"sv;
    case VmStage::kPopulated:
      return "populated"sv;
    case VmStage::kInitialised:
      return "initialised"sv;
    case VmStage::kPrivate:
      return "private"sv;
    case VmStage::kLaunched:
      return "launched"sv;
  }
  return "unknown"sv;
}

OffsetRange MemorySlot::offsets(PageAttribute side, PhysRange part) const {
  ACCEDE_ASSERT(gpas.contains(part));
  const Bytes begin = side == PageAttribute::kShared ? shared_offset : private_offset;
  const auto range = OffsetRange::make(begin + (part.begin() - gpas.begin()), part.size());
  ACCEDE_ASSERT(range.has_value());
  return *range;
}

PrivateMemoryBook::PrivateMemoryBook(const PrivateMemoryStorage& storage) : storage_{storage} {
  std::ranges::fill(storage_.slots, MemorySlot{});
  std::ranges::fill(storage_.populated, PhysRange{});
  std::ranges::fill(storage_.consumers, ConsumerEntry{});
  std::ranges::fill(storage_.holds, MemoryHold{});
  std::ranges::fill(storage_.claims, MemoryClaim{});
}

PrivateMemoryResult<void> PrivateMemoryBook::add_slot(PhysRange gpas) {
  if (stage_ != VmStage::kSlots) {
    return failure(PrivateMemoryError::kWrongOrder, gpas);
  }
  if (gpas.empty()) {
    return failure(PrivateMemoryError::kEmpty, gpas);
  }
  for (const MemorySlot& slot : slots()) {
    if (slot.gpas.overlaps(gpas)) {
      return failure(PrivateMemoryError::kSlotOverlap, slot.gpas.intersect(gpas));
    }
  }
  if (slot_count_ == storage_.slots.size()) {
    return failure(PrivateMemoryError::kTableFull, gpas);
  }
  storage_.slots[slot_count_].gpas = gpas;
  ++slot_count_;
  return {};
}

PrivateMemoryResult<void> PrivateMemoryBook::bind(MemorySlot& slot, const MemorySlot& to,
                                                  bool in_place) {
  if (stage_ > VmStage::kBound || slot.bound) {
    return failure(PrivateMemoryError::kWrongOrder, slot.gpas);
  }
  bool overlap = in_place && to.shared_offset != to.private_offset;
  for (const MemorySlot& other : slots()) {
    for (const PageAttribute side : {PageAttribute::kShared, PageAttribute::kPrivate}) {
      overlap = overlap || (other.bound && offsets_of(other, side).overlaps(offsets_of(to, side)));
    }
  }
  if (overlap) {
    return failure(PrivateMemoryError::kBindingOverlap, slot.gpas);
  }
  slot = to;
  stage_ = VmStage::kBound;
  return {};
}

bool PrivateMemoryBook::all_bound() const {
  return std::ranges::all_of(slots(), &MemorySlot::bound);
}

PrivateMemoryResult<void> PrivateMemoryBook::add_populated(PhysRange gpas) {
  if (stage_ > VmStage::kPopulated) {
    return failure(PrivateMemoryError::kWrongOrder, gpas);
  }
  if (!all_bound()) {
    return failure(PrivateMemoryError::kNotBound, gpas);
  }
  for (const PhysRange other : populated()) {
    if (other.overlaps(gpas)) {
      return failure(PrivateMemoryError::kPopulated, other.intersect(gpas));
    }
  }
  if (populated_count_ == storage_.populated.size()) {
    return failure(PrivateMemoryError::kTableFull, gpas);
  }
  storage_.populated[populated_count_++] = gpas;
  stage_ = VmStage::kPopulated;
  return {};
}

void PrivateMemoryBook::drop_last_populated(VmStage before) {
  ACCEDE_ASSERT(populated_count_ != 0);
  --populated_count_;
  stage_ = before;
}

const MemorySlot* PrivateMemoryBook::slot_of(PhysRange gpas) const {
  for (const MemorySlot& slot : slots()) {
    if (slot.gpas.contains(gpas)) {
      return &slot;
    }
  }
  return nullptr;
}

PrivateMemoryResult<std::size_t> PrivateMemoryBook::claim(PhysRange gpas) {
  const PhysRange blocks = blocks_of(gpas);
  const SpinGuard guard{lock_};
  std::optional<std::size_t> free;
  for (std::size_t i = 0; i < storage_.claims.size(); ++i) {
    const MemoryClaim& other = storage_.claims[i];
    if (!other.used) {
      free = i;
    } else if (other.gpas.overlaps(blocks)) {
      return failure(PrivateMemoryError::kBusy, other.gpas.intersect(blocks));
    }
  }
  if (!free) {
    return failure(PrivateMemoryError::kTableFull, gpas);
  }
  storage_.claims[*free] = {.gpas = blocks, .used = true};
  return *free;
}

void PrivateMemoryBook::release_claim(std::size_t index) {
  const SpinGuard guard{lock_};
  storage_.claims[index] = {};
}

PrivateMemoryResult<HoldId> PrivateMemoryBook::hold(const MemoryHold& hold) {
  const SpinGuard guard{lock_};
  const auto free = std::ranges::find(storage_.holds, false, &MemoryHold::used);
  if (free == storage_.holds.end()) {
    return failure(PrivateMemoryError::kTableFull, hold.gpas);
  }
  *free = hold;
  hold_count_.fetch_add(1, std::memory_order_relaxed);
  return HoldId{static_cast<std::size_t>(free - storage_.holds.begin())};
}

PrivateMemoryResult<void> PrivateMemoryBook::release(HoldId id) {
  const SpinGuard guard{lock_};
  if (id.index >= storage_.holds.size() || !storage_.holds[id.index].used) {
    return failure(PrivateMemoryError::kNotHeld, {});
  }
  storage_.holds[id.index] = {};
  hold_count_.fetch_sub(1, std::memory_order_relaxed);
  return {};
}

std::optional<PhysRange> PrivateMemoryBook::held(PhysRange gpas, HoldKind kind,
                                                 std::optional<PageAttribute> side) const {
  // Who made a hold of these pages had claimed them before the caller did, so its count is seen.
  if (hold_count_.load(std::memory_order_relaxed) == 0) {
    return std::nullopt;
  }
  const SpinGuard guard{lock_};
  for (const MemoryHold& hold : storage_.holds) {
    if (hold.used && hold.kind == kind && hold.side == side.value_or(hold.side) &&
        hold.gpas.overlaps(gpas)) {
      return hold.gpas.intersect(gpas);
    }
  }
  return std::nullopt;
}

PrivateMemoryResult<ConsumerId> PrivateMemoryBook::place_for(const MemoryConsumer& consumer,
                                                             Requirements guarantees) const {
  if (consumer.needs.unknown() || consumer.breaks.unknown()) {
    return failure(PrivateMemoryError::kUnknownFlag, {});
  }
  Requirements needs = consumer.needs;
  Requirements breaks = consumer.breaks;
  std::optional<std::size_t> free;
  for (std::size_t i = 0; i < consumers().size(); ++i) {
    const ConsumerEntry& other = consumers()[i];
    if (other.used) {
      needs = needs | other.consumer.needs;
      breaks = breaks | other.consumer.breaks;
    } else if (!free) {
      free = i;
    }
  }
  if (!(needs & breaks).empty()) {
    return failure(PrivateMemoryError::kContradiction, {});
  }
  if (!guarantees.contains(consumer.needs)) {
    return failure(PrivateMemoryError::kNotGuaranteed, {});
  }
  if (!free) {
    return failure(PrivateMemoryError::kTableFull, {});
  }
  return ConsumerId{*free};
}

void PrivateMemoryBook::put(ConsumerId id, const MemoryConsumer& consumer) {
  storage_.consumers[id.index] = {.consumer = consumer, .used = true};
}

PrivateMemoryResult<void> PrivateMemoryBook::remove(ConsumerId id) {
  if (id.index >= consumers().size() || !consumers()[id.index].used) {
    return failure(PrivateMemoryError::kNotHeld, {});
  }
  storage_.consumers[id.index] = {};
  return {};
}

}  // namespace accede::host
