#include "accede/host/tdmr_pamt.hpp"

#include "accede/base/assert.hpp"

namespace accede::host {

namespace {

constexpr std::array kLargestFirst{PageSize::k4K, PageSize::k2M, PageSize::k1G};

PlannedPamt& array_of(PlannedTdmr& tdmr, PageSize page) {
  return tdmr.pamt[static_cast<std::size_t>(page)];
}

}  // namespace

std::optional<unsigned> PamtPlacer::rank(const PamtSlot& slot, Bytes size, NodeId node) const {
  if (slot.free.size() < size) {
    return std::nullopt;
  }
  const unsigned distance = slot.node == node ? 0U : kForeign;
  if (slot.tdmr == PamtSlot::kNoTdmr) {
    return kOutside + distance;
  }
  if (slot.low_free || slot.high_free) {
    return kJoinsArea + distance;
  }
  if (areas_[slot.tdmr] < most_areas_) {
    return kOwnArea + distance;
  }
  return std::nullopt;
}

std::optional<PamtPlacer::Place> PamtPlacer::find(Bytes size, NodeId node) const {
  std::optional<Place> best;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const std::optional<unsigned> own = rank(slots_[i], size, node);
    if (own && (!best || *own < best->rank ||
                (*own == best->rank && slots_[i].free.size() >= slots_[best->slot].free.size()))) {
      best = Place{.slot = i, .rank = *own};
    }
  }
  return best;
}

PhysRange PamtPlacer::take(Place place, Bytes size) {
  PamtSlot& slot = slots_[place.slot];
  if (place.rank % kForeign == kOwnArea) {
    ++areas_[slot.tdmr];
    ++own_areas_;
    slot.high_free = true;
  }
  const bool top = slot.high_free || slot.tdmr == PamtSlot::kNoTdmr;
  const PhysAddr cut = top ? slot.free.end() - size : slot.free.begin() + size;
  const PhysRange below = *PhysRange::make(slot.free.begin(), cut);
  const PhysRange above = *PhysRange::make(cut, slot.free.end());
  slot.free = top ? below : above;
  return top ? above : below;
}

std::expected<void, Bytes> PamtPlacer::place(PlannedTdmr& tdmr, bool dynamic_pamt) {
  const auto size_of = [&](PageSize page) {
    return least_pamt_size(tdmr.range.size(), page, dynamic_pamt);
  };
  const Bytes all = size_of(PageSize::k4K) + size_of(PageSize::k2M) + size_of(PageSize::k1G);
  if (const auto together = find(all, tdmr.node); together && together->rank < kForeign) {
    PhysAddr at = take(*together, all).begin();
    for (const PageSize page : kLargestFirst) {
      const PhysRange range = *PhysRange::make(at, size_of(page));
      array_of(tdmr, page) = {.range = range, .node = tdmr.node};
      at = range.end();
    }
    return {};
  }
  for (const PageSize page : kLargestFirst) {
    const auto alone = find(size_of(page), tdmr.node);
    if (!alone) {
      return std::unexpected{size_of(page)};
    }
    const NodeId node = slots_[alone->slot].node;
    array_of(tdmr, page) = {.range = take(*alone, size_of(page)), .node = node};
  }
  return {};
}

}  // namespace accede::host
