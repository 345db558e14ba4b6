// Included by private_memory.hpp: the way to launch, holds, consumers.
#pragma once

#include "accede/base/assert.hpp"
#include "accede/host/private_memory.hpp"

namespace accede::host {

template <PrivateMemoryBacking Memory>
PrivateMemoryResult<void> PrivateMemory<Memory>::add_slot(PhysRange gpas) {
  if (!gpas.empty() && !attributes_.range().contains(gpas)) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kOutsideAttributes, gpas}};
  }
  if (!gpas.begin().is_aligned(config_.granule) || !gpas.end().is_aligned(config_.granule)) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kUnaligned, gpas}};
  }
  const auto added = book_.add_slot(gpas);
  if (added) {
    attributes_.set(gpas, PageAttribute::kShared);
  }
  return added;
}

template <PrivateMemoryBacking Memory>
PrivateMemoryResult<void> PrivateMemory<Memory>::bind(PhysAddr slot, Bytes shared_offset,
                                                      Bytes private_offset) {
  const auto failure = [&](PrivateMemoryError error) {
    return std::unexpected{PrivateMemoryFailure{error, *PhysRange::make(slot, slot)}};
  };
  for (MemorySlot& candidate : book_.slots()) {
    if (candidate.gpas.begin() != slot) {
      continue;
    }
    if (shared_offset % config_.granule != Bytes{0} ||
        private_offset % config_.granule != Bytes{0}) {
      return failure(PrivateMemoryError::kUnaligned);
    }
    const auto fits = [&](PageAttribute side, Bytes offset) {
      const auto range = OffsetRange::make(offset, candidate.gpas.size());
      return range && range->end() <= memory_.size(side);
    };
    if (!fits(PageAttribute::kShared, shared_offset) ||
        !fits(PageAttribute::kPrivate, private_offset)) {
      return failure(PrivateMemoryError::kOutsideBacking);
    }
    return book_.bind(candidate,
                      {.gpas = candidate.gpas,
                       .shared_offset = shared_offset,
                       .private_offset = private_offset,
                       .bound = true},
                      memory_.in_place());
  }
  return failure(PrivateMemoryError::kOutsideSlots);
}

template <PrivateMemoryBacking Memory>
PrivateMemoryResult<void> PrivateMemory<Memory>::populate(PhysRange gpas,
                                                          std::span<const std::byte> source) {
  ACCEDE_ASSERT(source.empty() || source.size() == gpas.size().value());
  const auto slot = check(gpas, 4_KiB);
  if (!slot) {
    return std::unexpected{slot.error()};
  }
  if (!source.empty() && !properties_.separate_source) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kSeparateSource, gpas}};
  }
  const VmStage before = stage();
  if (const auto added = book_.add_populated(gpas); !added) {
    return added;
  }
  if (source.empty()) {
    return {};
  }
  const Bytes offset = (*slot)->offsets(PageAttribute::kPrivate, gpas).begin();
  if (const BackingResult written = memory_.write(PageAttribute::kPrivate, offset, source);
      !written) {
    book_.drop_last_populated(before);
    return std::unexpected{PrivateMemoryFailure{
        .error = PrivateMemoryError::kBackingFailed, .at = gpas, .code = written.error().code}};
  }
  return {};
}

template <PrivateMemoryBacking Memory>
PrivateMemoryResult<void> PrivateMemory<Memory>::initialise() {
  if (stage() > VmStage::kPopulated || book_.slots().empty()) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kWrongOrder, {}}};
  }
  if (!book_.all_bound()) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kNotBound, {}}};
  }
  book_.set_stage(VmStage::kInitialised);
  return {};
}

template <PrivateMemoryBacking Memory>
PrivateMemoryResult<Conversion> PrivateMemory<Memory>::set_private(PhysRange gpas) {
  if (stage() != VmStage::kInitialised && stage() != VmStage::kPrivate) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kWrongOrder, gpas}};
  }
  const auto changed = change(gpas, PageAttribute::kPrivate, /*keep_content=*/true);
  if (changed) {
    book_.set_stage(VmStage::kPrivate);
  }
  return changed;
}

template <PrivateMemoryBacking Memory>
bool PrivateMemory<Memory>::launch_page(const BackedPage& page) {
  for (std::size_t i = 0; i < book_.consumers().size(); ++i) {
    const ConsumerEntry& entry = book_.consumers()[i];
    if (entry.used && entry.consumer.launch != nullptr &&
        !entry.consumer.launch(entry.consumer.context, page)) {
      invalidate_page(page, i);
      return false;
    }
  }
  return true;
}

/// Calls `use` with every populated page, in the order in which they were populated, until it
/// returns false. Launch content goes in pages of 4 KiB on every platform.
template <PrivateMemoryBacking Memory>
template <class Use>
void PrivateMemory<Memory>::for_each_populated(Use use) const {
  for (const PhysRange range : book_.populated()) {
    const MemorySlot& slot = *book_.slot_of(range);
    for (PhysAddr gpa = range.begin(); gpa < range.end(); gpa += 4_KiB) {
      const PhysRange page = PhysRange::page(gpa, PageSize::k4K);
      if (!use(BackedPage{.gpa = gpa,
                          .offset = slot.offsets(PageAttribute::kPrivate, page).begin(),
                          .size = PageSize::k4K})) {
        return;
      }
    }
  }
}

/// Where the host could still write into the private memory object. In place there is no such
/// object: what is not private is shared.
template <PrivateMemoryBacking Memory>
PrivateMemoryResult<void> PrivateMemory<Memory>::close_private_side() {
  if (!properties_.two_backings || !properties_.host_loses_private) {
    return {};
  }
  for (const MemorySlot& slot : book_.slots()) {
    if (const auto mapping = book_.held(slot.gpas, HoldKind::kMapping, PageAttribute::kPrivate)) {
      return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kMapped, *mapping}};
    }
    if (const BackingResult closed = memory_.set_host_access(
            PageAttribute::kPrivate, slot.offsets(PageAttribute::kPrivate, slot.gpas), false);
        !closed) {
      return std::unexpected{PrivateMemoryFailure{.error = PrivateMemoryError::kBackingFailed,
                                                  .at = slot.gpas,
                                                  .code = closed.error().code}};
    }
  }
  return {};
}

template <PrivateMemoryBacking Memory>
PrivateMemoryResult<void> PrivateMemory<Memory>::launch() {
  if (stage() != VmStage::kPrivate) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kWrongOrder, {}}};
  }
  for (const PhysRange range : book_.populated()) {
    if (!attributes_.all(range, PageAttribute::kPrivate)) {
      return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kNotPrivate, range}};
    }
  }
  if (const auto closed = close_private_side(); !closed) {
    return closed;
  }
  std::optional<BackedPage> refused;
  for_each_populated([&](const BackedPage& page) {
    refused = launch_page(page) ? std::nullopt : std::optional{page};
    return !refused.has_value();
  });
  if (refused) {
    for_each_populated([&](const BackedPage& page) {
      if (page == *refused) {
        return false;
      }
      invalidate_page(page, book_.consumers().size());
      return true;
    });
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kConsumerRefused,
                                                PhysRange::page(refused->gpa, PageSize::k4K)}};
  }
  book_.set_stage(VmStage::kLaunched);
  return {};
}

template <PrivateMemoryBacking Memory>
PrivateMemoryResult<HoldId> PrivateMemory<Memory>::hold(PhysRange gpas, PageAttribute side,
                                                        HoldKind kind) {
  if (const auto slot = check(gpas, 4_KiB); !slot) {
    return std::unexpected{slot.error()};
  }
  // Claimed, so that the pages cannot turn private between the look and the hold.
  const ScopedClaim claim{book_, gpas};
  if (!claim.result()) {
    return std::unexpected{claim.result().error()};
  }
  const bool must_be_shared =
      properties_.host_loses_private && (kind == HoldKind::kPin || !properties_.two_backings);
  if (must_be_shared && !attributes_.all(gpas, PageAttribute::kShared)) {
    return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kNotShared, gpas}};
  }
  return book_.hold({.gpas = gpas, .side = side, .kind = kind, .used = true});
}

/// Every slot, content kept. Everything is claimed.
template <PrivateMemoryBacking Memory>
PrivateMemoryResult<void> PrivateMemory<Memory>::make_all_private() {
  for (const MemorySlot& slot : book_.slots()) {
    if (const auto changed =
            change_claimed(slot, slot.gpas, PageAttribute::kPrivate, /*keep_content=*/true);
        !changed) {
      return std::unexpected{changed.error()};
    }
  }
  return {};
}

template <PrivateMemoryBacking Memory>
PrivateMemoryResult<ConsumerId> PrivateMemory<Memory>::register_consumer(
    const MemoryConsumer& consumer) {
  const PhysRange everything = attributes_.range();
  const ScopedClaim claim{book_, everything};
  if (!claim.result()) {
    return std::unexpected{claim.result().error()};
  }
  const auto id = book_.place_for(consumer, memory_.guarantees());
  if (!id) {
    return id;
  }
  if (consumer.needs.contains(Requirements::user_inaccessible())) {
    const bool launched = stage() == VmStage::kLaunched;
    if (stage() < VmStage::kInitialised) {
      return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kWrongOrder, {}}};
    }
    const auto side = properties_.two_backings ? std::optional{PageAttribute::kPrivate}
                                               : std::optional<PageAttribute>{};
    if (const auto mapping = book_.held(everything, HoldKind::kMapping, side)) {
      return std::unexpected{PrivateMemoryFailure{PrivateMemoryError::kMapped, *mapping}};
    }
    if (!launched || !properties_.two_backings) {
      if (const auto made = make_all_private(); !made) {
        return std::unexpected{made.error()};
      }
    }
    if (!launched) {
      book_.set_stage(VmStage::kPrivate);
    }
  }
  book_.put(*id, consumer);
  return id;
}

template <PrivateMemoryBacking Memory>
PrivateMemoryResult<void> PrivateMemory<Memory>::unregister_consumer(ConsumerId id) {
  const ScopedClaim claim{book_, attributes_.range()};
  if (!claim.result()) {
    return std::unexpected{claim.result().error()};
  }
  return book_.remove(id);
}

}  // namespace accede::host
