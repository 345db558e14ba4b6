// The host's calls on the secure EPT: SEAMCALLs that change an entry.
#include "accede/host/secure_ept.hpp"

#include "accede/host/sept_entry.hpp"
#include "accede/host/sept_lock.hpp"

#include <cstdint>

namespace accede::host {

using namespace internal;

namespace {

bool hpa_ok(PhysAddr hpa, SeptLevel level) {
  constexpr std::uint64_t kEnd = 1ULL << 52;
  return hpa.is_aligned(level_bytes(level)) && hpa.value() < kEnd;
}

HostResult refuse_operand(Status code, Operand operand) {
  HostResult result;
  result.status = status(code, operand);
  return result;
}

}  // namespace

template <class Op>
HostCall SecureEpt::at_entry(PhysAddr gpa, SeptLevel level, Op op) {
  if (!legal(gpa, level)) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  Locked entry{*this, gpa, level};
  if (!entry.reached()) {
    return entry.refuse(Status::kEptWalkFailed);
  }
  if (entry.busy()) {
    return entry.refuse(Status::kOperandBusy);
  }
  return op(entry);
}

HostCall SecureEpt::page_add(PhysAddr gpa, PhysAddr hpa) {
  if (finalized()) {
    return refuse_operand(Status::kOpStateIncorrect, Operand::kRax);
  }
  return at_entry(gpa, SeptLevel::k4K, [&](Locked& entry) -> HostCall {
    if (entry.state() != SeptState::kFree) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    if (!hpa_ok(hpa, SeptLevel::k4K)) {
      return refuse_operand(Status::kOperandInvalid, Operand::kR8);
    }
    return entry.commit(make_entry(SeptState::kMapped, hpa));
  });
}

HostCall SecureEpt::page_aug(PhysAddr gpa, SeptLevel level, PhysAddr hpa) {
  if (!finalized()) {
    return refuse_operand(Status::kOpStateIncorrect, Operand::kRax);
  }
  if (level > SeptLevel::k2M) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  return at_entry(gpa, level, [&](Locked& entry) -> HostCall {
    if (!is_free(entry.state())) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    if (!hpa_ok(hpa, level)) {
      return refuse_operand(Status::kOperandInvalid, Operand::kR8);
    }
    return entry.commit(make_entry(SeptState::kPending, hpa));
  });
}

HostCall SecureEpt::sept_add(PhysAddr gpa, SeptLevel level) {
  if (level < SeptLevel::k2M || level > top_level_) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  return at_entry(gpa, level, [&](Locked& entry) -> HostCall {
    if (entry.state() != SeptState::kFree) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    if (level == SeptLevel::k2M) {
      return entry.commit(make_virtual(SeptState::kFree, PhysAddr{}));
    }
    if (is_virtual(entry.value())) {
      TableLock children{entry.children()};
      for (unsigned i = 0; i < kEntries; ++i) {
        children.set(i, SeptEntry::kFresh);
      }
      return entry.commit(make_table(link_of(entry.value())));
    }
    const std::optional<std::uint64_t> link = take_table();
    if (!link.has_value()) {
      return std::unexpected{SeptError::kOutOfStorage};
    }
    Entry* entries = table_at(storage_, *link);
    for (unsigned i = 0; i < kEntries; ++i) {
      store(entries[i], SeptEntry::kFresh);
    }
    return entry.commit(make_table(*link));
  });
}

HostCall SecureEpt::range_block(PhysAddr gpa, SeptLevel level) {
  if (level > top_level_) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  return at_entry(gpa, level, [&](Locked& entry) -> HostCall {
    const SeptState state = entry.state();
    if (is_blocked(state)) {
      return entry.refuse(Status::kGpaRangeAlreadyBlocked);
    }
    const std::optional<SeptState> target = blocked(state);
    if (!target.has_value()) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    const std::uint64_t raw = entry.value();
    if (level == SeptLevel::k2M && is_virtual(raw)) {
      return entry.commit(with_epoch(raw | TableBlockedBit::kMask, epoch()));
    }
    const std::uint64_t keep = raw & (SeptEntry::Hpa::kMask | VirtualBit::kMask);
    return entry.commit(
        with_epoch(keep | SeptEntry::SuppressVe::kMask | mask_of(*target), epoch()));
  });
}

/// TLB_TRACKING_NOT_DONE|RCX or GPA_RANGE_NOT_BLOCKED|RCX when a runnable TD may still use the
/// entry; else 0.
std::uint64_t SecureEpt::unblocked_refusal(std::uint64_t raw) const {
  if (!finalized()) {
    return 0;
  }
  if (!is_blocked(state_of(raw)) && TableBlockedBit::get(raw) == 0) {
    return status(Status::kGpaRangeNotBlocked, Operand::kRcx);
  }
  return tracked(raw) ? 0 : status(Status::kTlbTrackingNotDone, Operand::kRcx);
}

HostCall SecureEpt::range_unblock(PhysAddr gpa, SeptLevel level) {
  if (level > top_level_) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  return at_entry(gpa, level, [&](Locked& entry) -> HostCall {
    const SeptState state = entry.state();
    if (!is_blocked(state)) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    const std::uint64_t raw = entry.value();
    if (const std::uint64_t refused = unblocked_refusal(raw); refused != 0) {
      return entry.result(refused);
    }
    if (level == SeptLevel::k2M && is_virtual(raw)) {
      return entry.commit(make_virtual(state_of(raw), hpa_field(raw)));
    }
    if (state == SeptState::kNonLeafBlocked) {
      return entry.commit(make_table(link_of(raw)));
    }
    return entry.commit(make_entry(unblocked(state), hpa_field(raw)) | (raw & VirtualBit::kMask));
  });
}

HostCall SecureEpt::page_remove(PhysAddr gpa, SeptLevel level) {
  if (level > SeptLevel::k1G) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  return at_entry(gpa, level, [&](Locked& entry) -> HostCall {
    const SeptState state = entry.state();
    if (!is_leaf(state)) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    const std::uint64_t raw = entry.value();
    if (const std::uint64_t refused = unblocked_refusal(raw); refused != 0) {
      return entry.result(refused);
    }
    const PhysAddr removed = entry.hpa();
    const bool keeps_table = level == SeptLevel::k1G;
    const std::uint64_t keep = keeps_table ? raw & (SeptEntry::Hpa::kMask | VirtualBit::kMask) : 0;
    HostCall call = entry.commit(make_entry(SeptState::kFree) | keep);
    if (call.has_value()) {
      call->hpa = removed;
    }
    return call;
  });
}

HostCall SecureEpt::page_demote(PhysAddr gpa, SeptLevel level) {
  if (level != SeptLevel::k2M && level != SeptLevel::k1G) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  return at_entry(gpa, level, [&](Locked& entry) -> HostCall {
    const SeptState source = unblocked(entry.state());
    if (source != SeptState::kMapped && source != SeptState::kPending) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    if (const std::uint64_t refused = unblocked_refusal(entry.value()); refused != 0) {
      return entry.result(refused);
    }
    if (level == SeptLevel::k1G) {
      return demote_1g(entry);
    }
    return entry.commit(make_virtual(source, entry.hpa()));
  });
}

HostCall SecureEpt::demote_1g(Locked& entry) {
  const SeptState state = unblocked(entry.state());
  const PhysAddr hpa = entry.hpa();
  TableLock children{entry.children()};
  for (unsigned i = 0; i < kEntries; ++i) {
    children.set(i, make_entry(state, hpa + level_bytes(SeptLevel::k2M) * i));
  }
  return entry.commit(make_table(link_of(entry.value())));
}

HostCall SecureEpt::page_promote(PhysAddr gpa, SeptLevel level) {
  if (level != SeptLevel::k2M && level != SeptLevel::k1G) {
    return refuse_operand(Status::kOperandInvalid, Operand::kRcx);
  }
  return at_entry(gpa, level, [&](Locked& entry) -> HostCall {
    if (!is_non_leaf(entry.state())) {
      return entry.refuse(Status::kEptEntryStateIncorrect);
    }
    if (const std::uint64_t refused = unblocked_refusal(entry.value()); refused != 0) {
      return entry.result(refused);
    }
    return level == SeptLevel::k2M ? promote_2m(entry) : promote_1g(entry);
  });
}

HostCall SecureEpt::promote_2m(Locked& entry) {
  const std::uint64_t raw = entry.value();
  if (!is_virtual(raw)) {
    // A real table is not uniform (class invariant); all that is left to tell is why.
    for (unsigned i = 0; i < kEntries; ++i) {
      if (SeptEntry::Tdel::get(load(entry.children()[i])) != 0) {
        return entry.refuse(Status::kOperandBusy);
      }
    }
    return entry.refuse(Status::kEptInvalidPromoteConditions);
  }
  const SeptState state = state_of(raw);
  if ((state != SeptState::kMapped && state != SeptState::kPending) ||
      !hpa_field(raw).is_aligned(level_bytes(SeptLevel::k2M))) {
    return entry.refuse(Status::kEptInvalidPromoteConditions);
  }
  return entry.commit(make_entry(state, hpa_field(raw)));
}

/// The table of 2M entries stays linked, its entries dead, the first with the leaf's HPA: readers
/// that are on their way through it find a sign to start again, and DEMOTE needs no storage.
HostCall SecureEpt::promote_1g(Locked& entry) {
  TableLock children{entry.children()};
  const SeptState state = entry_state(children.get(0), SeptLevel::k2M);
  const PhysAddr first = leaf_hpa(children.get(0), SeptLevel::k2M);
  bool uniform = (state == SeptState::kMapped || state == SeptState::kPending) &&
                 first.is_aligned(level_bytes(SeptLevel::k1G));
  for (unsigned i = 0; i < kEntries; ++i) {
    const std::uint64_t child = children.get(i);
    if (SeptEntry::Tdel::get(child) != 0) {
      return entry.refuse(Status::kOperandBusy);
    }
    uniform = uniform && entry_state(child, SeptLevel::k2M) == state &&
              leaf_hpa(child, SeptLevel::k2M) == first + level_bytes(SeptLevel::k2M) * i;
  }
  if (!uniform) {
    return entry.refuse(Status::kEptInvalidPromoteConditions);
  }
  for (unsigned i = 0; i < kEntries; ++i) {
    children.set(i, i == 0 ? kDeadEntry | first.value() : kDeadEntry);
  }
  return entry.commit(make_entry(state) | (entry.value() & SeptEntry::Hpa::kMask) |
                      VirtualBit::kMask);
}

}  // namespace accede::host
