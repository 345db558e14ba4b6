// Included by private_memory.hpp: conversions and faults.
#pragma once

#include "accede/base/assert.hpp"
#include "accede/host/private_memory.hpp"

#include <algorithm>
#include <bit>

namespace accede::host {

template <PrivateMemoryBacking Memory>
PrivateMemory<Memory>::PrivateMemory(const PrivateMemoryConfig& config, Memory& memory,
                                     PageAttributes& attributes,
                                     const PrivateMemoryStorage& storage)
    : config_{config},
      properties_{properties_of(config.type)},
      memory_{memory},
      attributes_{attributes},
      book_{storage} {
  ACCEDE_ASSERT(std::has_single_bit(config.granule.value()) && config.granule >= 4_KiB &&
                config.granule <= 2_MiB);
  ACCEDE_ASSERT(config.largest_page != PageSize::k1G);
  ACCEDE_ASSERT(memory.in_place() != properties_.two_backings);
  ACCEDE_ASSERT(attributes.is_complete());
}

/// The slot that holds `gpas`.
template <PrivateMemoryBacking Memory>
PrivateMemoryResult<const MemorySlot*> PrivateMemory<Memory>::check(PhysRange gpas,
                                                                    Bytes granule) const {
  if (gpas.empty()) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kEmpty, gpas}};
  }
  if (!gpas.begin().is_aligned(granule) || !gpas.end().is_aligned(granule)) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kUnaligned, gpas}};
  }
  const MemorySlot* slot = book_.slot_of(gpas);
  if (slot == nullptr) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kOutsideSlots, gpas}};
  }
  return slot;
}

/// What the host holds does not become private: not under a device that writes to it, nor under a
/// mapping through which the host could still reach it.
template <PrivateMemoryBacking Memory>
PrivateMemoryResult<void> PrivateMemory<Memory>::check_holds(PhysRange gpas,
                                                             PageAttribute to) const {
  if (to == PageAttribute::kShared || !properties_.host_loses_private) {
    return {};
  }
  if (const auto pin = book_.held(gpas, HoldKind::kPin, std::nullopt)) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kPinned, *pin}};
  }
  const auto side = properties_.two_backings ? std::optional{PageAttribute::kPrivate}
                                             : std::optional<PageAttribute>{};
  if (const auto mapping = book_.held(gpas, HoldKind::kMapping, side)) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kMapped, *mapping}};
  }
  return {};
}

/// What a conversion of `gpas` has to do.
template <PrivateMemoryBacking Memory>
typename PrivateMemory<Memory>::Difference PrivateMemory<Memory>::differing(
    PhysRange gpas, PageAttribute to) const {
  Difference difference{.hull = *PhysRange::make(gpas.begin(), gpas.begin()), .size = Bytes{0}};
  attributes_.visit(gpas, [&](PhysRange run, PageAttribute attribute) {
    if (attribute != to) {
      const bool first = difference.size == Bytes{0};
      difference.hull = *PhysRange::make(first ? run.begin() : difference.hull.begin(), run.end());
      difference.size += run.size();
    }
  });
  return difference;
}

template <PrivateMemoryBacking Memory>
void PrivateMemory<Memory>::cancel_run(PhysRange run, PageAttribute to, std::size_t consumers) {
  for (std::size_t i = consumers; i-- > 0;) {
    const ConsumerEntry& entry = book_.consumers()[i];
    if (entry.used && entry.consumer.cancel != nullptr) {
      entry.consumer.cancel(entry.consumer.context, run, to);
    }
  }
}

template <PrivateMemoryBacking Memory>
void PrivateMemory<Memory>::cancel(PhysRange gpas, PageAttribute to) {
  attributes_.visit(gpas, [&](PhysRange run, PageAttribute attribute) {
    if (attribute != to) {
      cancel_run(run, to, book_.consumers().size());
    }
  });
}

/// Asks every consumer about every run of `gpas` that is not `to` yet. All or nothing.
template <PrivateMemoryBacking Memory>
PrivateMemoryResult<void> PrivateMemory<Memory>::prepare(PhysRange gpas, PageAttribute to) {
  if (std::ranges::none_of(book_.consumers(), &ConsumerEntry::used)) {
    return {};
  }
  for (PhysRange rest = gpas; !rest.empty();) {
    const PhysRange run = attributes_.run(rest);
    rest = *PhysRange::make(run.end(), gpas.end());
    if (attributes_.get(run.begin()) == to) {
      continue;
    }
    for (std::size_t i = 0; i < book_.consumers().size(); ++i) {
      const ConsumerEntry& entry = book_.consumers()[i];
      if (entry.used && entry.consumer.prepare != nullptr &&
          !entry.consumer.prepare(entry.consumer.context, run, to)) {
        cancel_run(run, to, i);
        cancel(*PhysRange::make(gpas.begin(), run.begin()), to);
        return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kConsumerRefused, run}};
      }
    }
  }
  return {};
}

/// Lets go of the old side. `keep_content`: before launch, where the private side holds it.
template <PrivateMemoryBacking Memory>
BackingResult PrivateMemory<Memory>::move_backing(const MemorySlot& slot, PhysRange gpas,
                                                  PageAttribute to, bool keep_content) {
  const OffsetRange inside = slot.offsets(PageAttribute::kPrivate, gpas);
  const bool close = to == PageAttribute::kPrivate;
  if (!properties_.two_backings) {
    return properties_.host_loses_private
               ? memory_.set_host_access(PageAttribute::kPrivate, inside, !close)
               : BackingResult{};
  }
  if (!close) {
    return memory_.discard(PageAttribute::kPrivate, inside);
  }
  const OffsetRange outside = slot.offsets(PageAttribute::kShared, gpas);
  if (!keep_content) {
    return memory_.discard(PageAttribute::kShared, outside);
  }
  if (const BackingResult closed =
          memory_.set_host_access(PageAttribute::kPrivate, inside, /*allowed=*/false);
      !closed) {
    return closed;
  }
  return memory_.discard(PageAttribute::kShared, outside);
}

/// Gives the host the access that the attributes of `gpas` say, after move_backing() failed and
/// may have changed a part. What was allowed before does not fail now (PrivateMemoryBacking).
template <PrivateMemoryBacking Memory>
void PrivateMemory<Memory>::restore_host_access(const MemorySlot& slot, PhysRange gpas) {
  attributes_.visit(gpas, [&](PhysRange run, PageAttribute attribute) {
    (void)memory_.set_host_access(PageAttribute::kPrivate,
                                  slot.offsets(PageAttribute::kPrivate, run),
                                  attribute == PageAttribute::kShared);
  });
}

/// The page at `gpa`: 2M where configuration, slot, offset and `within` allow it.
template <PrivateMemoryBacking Memory>
BackedPage PrivateMemory<Memory>::page_at(const MemorySlot& slot, PageAttribute side, PhysAddr gpa,
                                          PhysRange within) const {
  const PhysRange large = PhysRange::page(gpa, PageSize::k2M);
  if (config_.largest_page == PageSize::k2M && within.contains(large)) {
    const Bytes offset = slot.offsets(side, large).begin();
    if (offset % 2_MiB == Bytes{0}) {
      return {.gpa = large.begin(), .offset = offset, .size = PageSize::k2M};
    }
  }
  const PhysRange small = PhysRange::page(gpa, PageSize::k4K);
  return {.gpa = small.begin(), .offset = slot.offsets(side, small).begin(), .size = PageSize::k4K};
}

template <PrivateMemoryBacking Memory>
void PrivateMemory<Memory>::invalidate_page(const BackedPage& page, std::size_t consumers) {
  for (std::size_t i = consumers; i-- > 0;) {
    const ConsumerEntry& entry = book_.consumers()[i];
    if (entry.used && entry.consumer.invalidate != nullptr) {
      entry.consumer.invalidate(entry.consumer.context, page);
    }
  }
}

/// Tells that the private pages of `gpas` are gone. Their attributes are not changed yet.
template <PrivateMemoryBacking Memory>
void PrivateMemory<Memory>::invalidate(const MemorySlot& slot, PhysRange gpas) {
  attributes_.visit(gpas, [&](PhysRange run, PageAttribute attribute) {
    if (attribute == PageAttribute::kShared) {
      return;
    }
    for (PhysAddr gpa = run.begin(); gpa < run.end();) {
      const BackedPage page =
          page_at(slot, PageAttribute::kPrivate, gpa, *PhysRange::make(gpa, run.end()));
      invalidate_page(page, book_.consumers().size());
      gpa += bytes(page.size);
    }
  });
}

/// The conversion, while nobody else changes or faults `gpas`.
template <PrivateMemoryBacking Memory>
PrivateMemoryResult<Conversion> PrivateMemory<Memory>::change_claimed(const MemorySlot& slot,
                                                                      PhysRange gpas,
                                                                      PageAttribute to,
                                                                      bool keep_content) {
  if (const auto free = check_holds(gpas, to); !free) {
    return std::unexpected{free.error()};
  }
  const auto [hull, changed] = differing(gpas, to);
  const Conversion done{.changed = changed};
  if (hull.empty()) {
    return done;
  }
  if (const auto prepared = prepare(hull, to); !prepared) {
    return std::unexpected{prepared.error()};
  }
  if (const BackingResult moved = move_backing(slot, hull, to, keep_content); !moved) {
    if (properties_.host_loses_private && (!properties_.two_backings || keep_content)) {
      restore_host_access(slot, hull);
    }
    cancel(hull, to);
    return std::unexpected{PrivateMemoryFailure{
        .error = PrivateMemoryError::kBackingFailed, .at = hull, .code = moved.error().code}};
  }
  if (properties_.two_backings && to == PageAttribute::kShared) {
    invalidate(slot, hull);
  }
  attributes_.set(hull, to);
  return done;
}

template <PrivateMemoryBacking Memory>
PrivateMemoryResult<Conversion> PrivateMemory<Memory>::change(PhysRange gpas, PageAttribute to,
                                                              bool keep_content) {
  const auto slot = check(gpas, config_.granule);
  if (!slot) {
    return std::unexpected{slot.error()};
  }
  const ScopedClaim claim{book_, gpas};
  if (!claim.result()) {
    return std::unexpected{claim.result().error()};
  }
  return change_claimed(**slot, gpas, to, keep_content);
}

template <PrivateMemoryBacking Memory>
PrivateMemoryResult<Conversion> PrivateMemory<Memory>::convert(PhysRange gpas, PageAttribute to) {
  if (stage() != VmStage::kLaunched) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kWrongOrder, gpas}};
  }
  return change(gpas, to, /*keep_content=*/false);
}

/// The page is there, and every consumer has it. Claimed.
template <PrivateMemoryBacking Memory>
PrivateMemoryResult<void> PrivateMemory<Memory>::back(const BackedPage& page, PageAttribute side) {
  const PhysRange at = *PhysRange::make(page.gpa, bytes(page.size));
  if (const BackingResult allocated =
          memory_.allocate(side, *OffsetRange::make(page.offset, bytes(page.size)));
      !allocated) {
    return std::unexpected{PrivateMemoryFailure{
        .error = PrivateMemoryError::kBackingFailed, .at = at, .code = allocated.error().code}};
  }
  for (std::size_t i = 0; side == PageAttribute::kPrivate && i < book_.consumers().size(); ++i) {
    const ConsumerEntry& entry = book_.consumers()[i];
    if (entry.used && entry.consumer.allocate != nullptr &&
        !entry.consumer.allocate(entry.consumer.context, page)) {
      return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kConsumerRefused, at}};
    }
  }
  return {};
}

template <PrivateMemoryBacking Memory>
PrivateMemoryResult<MemoryFault> PrivateMemory<Memory>::fault(PhysAddr gpa, PageAttribute side) {
  const PhysAddr begin = gpa.align_down(config_.granule);
  const PhysRange granule = PhysRange::make(begin, config_.granule).value_or(PhysRange{});
  if (stage() != VmStage::kLaunched) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kWrongOrder, granule}};
  }
  const auto slot = check(granule, config_.granule);
  if (!slot) {
    return std::unexpected{
        PrivateMemoryFailure{PrivateMemoryError::kOutsideSlots, *PhysRange::make(begin, begin)}};
  }
  const ScopedClaim claim{book_, granule};
  if (!claim.result()) {
    return std::unexpected{claim.result().error()};
  }
  MemoryFault answer;
  if (attributes_.get(gpa) != side) {
    const bool can = side == PageAttribute::kPrivate ? properties_.implicit_to_private
                                                     : properties_.implicit_to_shared;
    if (!can || !config_.implicit_conversion) {
      return std::unexpected{
          PrivateMemoryFailure{PrivateMemoryError::kImplicitConversion, granule}};
    }
    if (const auto changed = change_claimed(**slot, granule, side, false); !changed) {
      return std::unexpected{changed.error()};
    }
    answer.converted = true;
  }
  const PhysRange block = PhysRange::page(gpa, PageSize::k2M).intersect((*slot)->gpas);
  const bool uniform = attributes_.all(block, side);
  answer.page = page_at(**slot, side, gpa, uniform ? block : PhysRange{});
  if (const auto backed = back(answer.page, side); !backed) {
    return std::unexpected{backed.error()};
  }
  return answer;
}

template <PrivateMemoryBacking Memory>
PrivateMemoryResult<void> PrivateMemory<Memory>::relinquish(PhysRange gpas) {
  if (stage() != VmStage::kLaunched) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kWrongOrder, gpas}};
  }
  const auto slot = check(gpas, config_.granule);
  if (!slot) {
    return std::unexpected{slot.error()};
  }
  const ScopedClaim claim{book_, gpas};
  if (!claim.result()) {
    return std::unexpected{claim.result().error()};
  }
  if (!attributes_.all(gpas, PageAttribute::kPrivate)) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kNotPrivate, gpas}};
  }
  if (const auto prepared = prepare(gpas, PageAttribute::kShared); !prepared) {
    return std::unexpected{prepared.error()};
  }
  if (const BackingResult gone =
          memory_.discard(PageAttribute::kPrivate, (*slot)->offsets(PageAttribute::kPrivate, gpas));
      !gone) {
    cancel(gpas, PageAttribute::kShared);
    return std::unexpected{PrivateMemoryFailure{
        .error = PrivateMemoryError::kBackingFailed, .at = gpas, .code = gone.error().code}};
  }
  invalidate(**slot, gpas);
  return {};
}

}  // namespace accede::host
