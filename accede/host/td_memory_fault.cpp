// A TD's memory: the host's answers to exits, and the guest's calls and accesses that cause them.
#include "accede/host/td_memory.hpp"

#include "accede/host/region_lock.hpp"
#include "accede/host/sept_state.hpp"

#include <algorithm>

namespace accede::host {

using namespace internal;
using abi::tdx::code_of;
using abi::tdx::level_bytes;
using abi::tdx::PageOperand;
using abi::tdx::sept_level;
using abi::tdx::Status;

namespace {

/// Exits that one TDCALL or access may need: tables, AUG, UNBLOCK, DEMOTE. More means that others
/// change the page at the same time; then the guest repeats the instruction.
constexpr unsigned kExitTries = 16;

}  // namespace

// --- The host's answers to exits ---

PageSize TdMemory::backing_size(PhysAddr gpa, PageSize cap) const {
  const PhysRange large = PhysRange::page(gpa, PageSize::k2M);
  const bool fits = backing_ == Backing::k2M && cap != PageSize::k4K && is_ram(large) &&
                    attributes_.all(large, PageAttribute::kPrivate);
  return fits ? PageSize::k2M : PageSize::k4K;
}

/// SEPT.ADD of what is missing on the way to an entry of `down_to`.
TdMemory::Step TdMemory::add_tables(PhysAddr gpa, SeptLevel down_to) {
  for (;;) {
    const EntryView view = *sept_.lookup(gpa);
    if (!is_free(view.state) || view.level <= down_to) {
      return Step::kDone;
    }
    const HostCall call = sept_.sept_add(gpa.align_down(level_bytes(view.level)), view.level);
    if (!call.has_value()) {
      return Step::kOutOfStorage;
    }
  }
}

/// AUG of the page that contains `gpa`, which is private RAM. kDone also when somebody was faster.
TdMemory::Step TdMemory::augment(PhysAddr gpa, PageSize cap, const TdMemoryHooks& hooks) {
  for (PageSize size = backing_size(gpa, cap);; size = PageSize::k4K) {
    if (const Step step = add_tables(gpa, sept_level(size)); step != Step::kDone) {
      return step;
    }
    const PhysAddr page = gpa.align_down(bytes(size));
    const HostCall call = sept_.page_aug(page, sept_level(size), hpa_of(page));
    if (!call.has_value()) {
      return Step::kOutOfStorage;
    }
    if (call->status == 0) {
      hooks.augmented(page, size);
      return Step::kDone;
    }
    // A table of 4K entries is never taken away for a large page (mainline KVM: no merging).
    if (size == PageSize::k4K || !is_non_leaf(call->state)) {
      return Step::kDone;
    }
  }
}

TdMemory::Step TdMemory::track(const TdMemoryHooks& hooks) {
  for (unsigned tries = 0; tries < kTrackTries; ++tries) {
    const bool next_epoch = sept_.track() == 0;
    hooks.kick_vcpus();
    if (next_epoch) {
      return Step::kDone;
    }
    __builtin_ia32_pause();
  }
  return Step::kRetry;
}

/// Takes back a BLOCK that was not followed by its REMOVE. In a ConversionScope.
TdMemory::Step TdMemory::unblock(PhysAddr gpa, SeptLevel level, const TdMemoryHooks& hooks) {
  if (const Step step = track(hooks); step != Step::kDone) {
    return step;
  }
  const PhysAddr page = gpa.align_down(level_bytes(level));
  for (unsigned tries = 0; tries < kTrackTries; ++tries) {
    const HostCall call = sept_.range_unblock(page, level);
    if (!call.has_value()) {
      return Step::kOutOfStorage;
    }
    if (code_of(call->status) != Status::kTlbTrackingNotDone) {
      return Step::kDone;
    }
    hooks.kick_vcpus();
  }
  return Step::kRetry;
}

/// BLOCK, TRACK, DEMOTE of the leaf of `level` around `gpa`. In a ConversionScope.
TdMemory::Step TdMemory::split(PhysAddr gpa, SeptLevel level, const TdMemoryHooks& hooks) {
  const PhysAddr page = gpa.align_down(level_bytes(level));
  const HostCall block = sept_.range_block(page, level);
  if (!block.has_value()) {
    return Step::kOutOfStorage;
  }
  if (code_of(block->status) == Status::kOperandBusy) {
    return Step::kBusy;
  }
  if (const Step step = track(hooks); step != Step::kDone) {
    return step;
  }
  for (unsigned tries = 0; tries < kTrackTries; ++tries) {
    const HostCall call = sept_.page_demote(page, level);
    if (!call.has_value()) {
      return Step::kOutOfStorage;
    }
    if (code_of(call->status) != Status::kTlbTrackingNotDone) {
      return Step::kDone;
    }
    hooks.kick_vcpus();
  }
  return Step::kRetry;
}

/// Acts on an EPT violation of `gpa`, private RAM, met in `entry`; `cap` is the size that the guest
/// asked for. kDone: the guest may try again at once.
TdMemory::Step TdMemory::resolve(PhysAddr gpa, PageSize cap, const EntryView& entry,
                                 const TdMemoryHooks& hooks) {
  if (is_free(entry.state)) {
    const FaultScope scope{region(gpa)};
    if (!scope.entered()) {
      return Step::kRetry;
    }
    // Only now nobody can make the page shared.
    return attributes_.get(gpa) == PageAttribute::kPrivate ? augment(gpa, cap, hooks) : Step::kDone;
  }
  const ConversionScope scope{region(gpa)};
  const EntryView now = *sept_.lookup(gpa);
  if (is_blocked(now.state)) {
    return unblock(gpa, now.level, hooks);
  }
  if (now.state == SeptState::kPending && now.level > sept_level(cap)) {
    // Busy: the guest itself is accepting that page; better to let it finish than to wait.
    const Step step = split(gpa, now.level, hooks);
    return step == Step::kBusy ? Step::kRetry : step;
  }
  return Step::kDone;
}

/// Tells the embedder about the page around `gpa`. False when it has been converted since, or is
/// being converted: then the guest's next touch decides.
bool TdMemory::report_mapped(PhysAddr gpa, const TdMemoryHooks& hooks) {
  const FaultScope scope{region(gpa)};
  const Access access = sept_.access(gpa);
  if (!scope.entered() || access.kind != AccessKind::kMapped) {
    return false;
  }
  // A 1G page lies in many regions; only the 2M around the GPA is held.
  const auto size = static_cast<PageSize>(std::min(access.entry.level, SeptLevel::k2M));
  hooks.mapped(gpa.align_down(bytes(size)), access.entry.hpa.align_down(bytes(size)), size);
  return true;
}

// --- Guest calls and accesses ---

namespace {

AcceptOutcome outcome_for(std::uint64_t rcx) {
  AcceptOutcome outcome;
  outcome.gpa = PageOperand::gpa(rcx);
  outcome.size = static_cast<PageSize>(std::min<std::uint64_t>(PageOperand::Level::get(rcx), 2));
  return outcome;
}

}  // namespace

AcceptOutcome TdMemory::accept(std::uint64_t rcx, SecureEpt::ZeroPage zero_page,
                               SecureEpt::InterruptPending interrupt_pending,
                               const TdMemoryHooks& hooks) {
  AcceptOutcome outcome = outcome_for(rcx);
  const auto end_with = [&](AcceptOutcomeKind kind) {
    outcome.kind = kind;
    return outcome;
  };
  for (unsigned tries = 0; tries < kExitTries; ++tries) {
    const GuestCallResult call = sept_.accept(rcx, zero_page, interrupt_pending);
    switch (call.kind) {
      case GuestCallKind::kCompleted:
        outcome.rax = call.rax;
        if (call.rax == 0) {
          outcome.bytes = bytes(outcome.size);
          (void)report_mapped(outcome.gpa, hooks);
        }
        return end_with(AcceptOutcomeKind::kCompleted);
      case GuestCallKind::kInterrupted:
        return end_with(AcceptOutcomeKind::kInterrupted);
      case GuestCallKind::kOutOfStorage:
        return end_with(AcceptOutcomeKind::kOutOfStorage);
      case GuestCallKind::kExit:
        break;
    }
    if (code_of(call.exit.rax) == Status::kHostPriorityBusyTimeout) {
      return end_with(AcceptOutcomeKind::kInterrupted);  // The host enters the TD again.
    }
    if (!is_ram(PhysRange::page(outcome.gpa, PageSize::k4K))) {
      return end_with(AcceptOutcomeKind::kNotRam);
    }
    if (attributes_.get(outcome.gpa) == PageAttribute::kShared) {
      return end_with(AcceptOutcomeKind::kSharedPage);
    }
    const EntryView entry{
        .state = call.exit.error_state, .level = call.exit.error_level, .hpa = {}};
    switch (resolve(outcome.gpa, outcome.size, entry, hooks)) {
      case Step::kDone:
        break;
      case Step::kBusy:
      case Step::kRetry:
        return end_with(AcceptOutcomeKind::kInterrupted);
      case Step::kOutOfStorage:
        return end_with(AcceptOutcomeKind::kOutOfStorage);
    }
  }
  return end_with(AcceptOutcomeKind::kInterrupted);
}

AcceptOutcome TdMemory::release(std::uint64_t rcx, const TdMemoryHooks& hooks) {
  AcceptOutcome outcome = outcome_for(rcx);
  const ConversionScope scope{region(outcome.gpa)};
  const GuestCallResult call = sept_.release(rcx);
  outcome.kind = call.kind == GuestCallKind::kCompleted ? AcceptOutcomeKind::kCompleted
                                                        : AcceptOutcomeKind::kOutOfStorage;
  outcome.rax = call.rax;
  outcome.rcx = call.rcx;
  if (outcome.kind == AcceptOutcomeKind::kCompleted && call.rax == 0) {
    outcome.bytes = bytes(outcome.size);
    hooks.private_gone(PhysRange::page(outcome.gpa, outcome.size));
  }
  return outcome;
}

Touch TdMemory::touch_private(PhysAddr gpa, const TdMemoryHooks& hooks) {
  Touch touch;
  if (!is_ram(PhysRange::page(gpa, PageSize::k4K))) {
    return touch;
  }
  for (unsigned tries = 0; tries < kExitTries; ++tries) {
    const Access access = sept_.access(gpa);
    if (tries == 0) {
      touch.before = access.entry;
    }
    if (attributes_.get(gpa) == PageAttribute::kShared) {
      touch.kind = TouchKind::kSharedPage;
      return touch;
    }
    switch (access.kind) {
      case AccessKind::kMapped:
        touch.kind = report_mapped(gpa, hooks) ? TouchKind::kMapped : TouchKind::kRetry;
        return touch;
      case AccessKind::kPendingExit:
        touch.kind = TouchKind::kPendingExit;
        return touch;
      case AccessKind::kPendingVe:
        touch.kind = TouchKind::kPendingVe;
        return touch;
      case AccessKind::kNotPrivate:
        return touch;
      case AccessKind::kViolationExit:
        break;
    }
    const Step step = resolve(gpa, PageSize::k2M, access.entry, hooks);
    if (step != Step::kDone) {
      touch.kind = step == Step::kOutOfStorage ? TouchKind::kOutOfStorage : TouchKind::kRetry;
      return touch;
    }
  }
  touch.kind = TouchKind::kRetry;
  return touch;
}

Touch TdMemory::touch_shared(PhysAddr gpa,
                             FunctionRef<void(PhysAddr gpa, PhysAddr hpa)> mapped_shared) {
  Touch touch;
  if (!is_ram(PhysRange::page(gpa, PageSize::k4K))) {
    return touch;
  }
  touch.before = sept_.lookup(gpa).value_or(EntryView{});
  const FaultScope scope{region(gpa)};
  if (!scope.entered()) {
    touch.kind = TouchKind::kRetry;
  } else if (attributes_.get(gpa) == PageAttribute::kPrivate) {
    touch.kind = TouchKind::kPrivatePage;
  } else {
    const PhysAddr page = gpa.align_down(4_KiB);
    mapped_shared(page, hpa_of(page));
    touch.kind = TouchKind::kShared;
  }
  return touch;
}

}  // namespace accede::host
