// SEAMCALL model: memory of a TD (MEM.*).
#include "accede/base/assert.hpp"
#include "accede/host/seam_locked.hpp"
#include "accede/host/seam_module.hpp"
#include "accede/host/sept_state.hpp"

#include <algorithm>
#include <optional>

namespace accede::host {

using abi::tdx::Operand;
using abi::tdx::PageOperand;
using abi::tdx::SeptEntry;
using abi::tdx::Status;
using abi::tdx::status;

namespace {

/// No page: SecureEpt refuses it after all its other checks, and changes nothing.
constexpr PhysAddr kNoPage{1};
constexpr std::uint64_t kRefusedPage = status(Status::kOperandInvalid, Operand::kR8);

/// CHLDCNT counts 4 KiB pages.
std::uint64_t pages_in(SeptLevel level) {
  return abi::tdx::level_bytes(level) / 4_KiB;
}

/// RDX after an error of an entry: level 2:0, state 15:8.
std::uint64_t level_and_state(SeptLevel level, SeptState state) {
  return static_cast<std::uint64_t>(level) | static_cast<std::uint64_t>(state) << 8;
}

SeptState state_in(std::uint64_t raw) {
  for (const abi::tdx::SeptStateInfo& info : abi::tdx::kSeptStates) {
    if (info.mask == (raw & SeptEntry::kStateMask)) {
      return info.state;
    }
  }
  return SeptState::kMapped;  // a leaf whose D bit is set
}

/// What SEPT.ADD would answer about the entry; kRefusedPage if nothing. SecureEpt's own tables are
/// not in pages of the host, so that it cannot be asked with a page that it refuses.
HostResult check_table_entry(const SecureEpt& sept, PhysAddr gpa, SeptLevel level) {
  HostResult result;
  const std::optional<std::uint64_t> raw = sept.raw_entry(gpa, level);
  if (!raw.has_value()) {
    const EntryView end = *sept.lookup(gpa);
    result.status = status(Status::kEptWalkFailed, Operand::kRcx);
    result.state = end.state;
    result.level = end.level;
    return result;
  }
  result.state = state_in(*raw);
  result.level = level;
  result.status = result.state == SeptState::kFree
                      ? kRefusedPage
                      : status(Status::kEptEntryStateIncorrect, Operand::kRcx);
  return result;
}

}  // namespace

/// What RCX says, or OPERAND_INVALID|RCX: reserved bits, a level outside [lowest, highest] or above
/// the root, an address that is not private or not aligned to the level. Precondition: MNG.INIT was
/// done.
auto SeamModule::target_of(const TdRecord& td, std::uint64_t rcx, SeptLevel lowest,
                           SeptLevel highest) -> Got<Target> {
  const SeptLevel root = td.sept->gpa_width() == 52 ? SeptLevel::k256T : SeptLevel::k512G;
  const auto level = static_cast<SeptLevel>(PageOperand::Level::get(rcx));
  const PhysAddr gpa = PageOperand::gpa(rcx);
  if (PageOperand::ReservedHigh::get(rcx) != 0 || PageOperand::ReservedLow::get(rcx) != 0 ||
      level < lowest || level > std::min(highest, root) ||
      !gpa.is_aligned(abi::tdx::level_bytes(level)) || gpa >= td.sept->private_end()) {
    return std::unexpected{answer(Status::kOperandInvalid, Operand::kRcx)};
  }
  return Target{gpa, level};
}

/// The answer of SecureEpt as the registers of the SEAMCALL.
SeamCall SeamModule::answer_of(const TdRecord& td, const Target& target, const HostCall& call) {
  if (!call.has_value()) {
    return std::unexpected{SeamError::kNoSeptStorage};
  }
  if (call->status == 0) {
    return success();
  }
  return SeamResult{.status = call->status,
                    .rcx = td.sept->raw_entry(target.gpa, call->level).value_or(0),
                    .rdx = level_and_state(call->level, call->state)};
}

HostCall SeamModule::put_page(TdRecord& td, const Target& target, PhysAddr page, OnPage what) {
  switch (what) {
    case OnPage::kAdd:
      return td.sept->page_add(target.gpa, page);
    case OnPage::kAug:
      return td.sept->page_aug(target.gpa, target.level, page);
    case OnPage::kSeptTable:
      break;
  }
  if (page != kNoPage) {
    return td.sept->sept_add(target.gpa, target.level);
  }
  return check_table_entry(*td.sept, target.gpa, target.level);
}

SeamCall SeamModule::take_page(std::uint64_t rcx, PhysAddr tdr, PhysAddr page, OnPage what) {
  const TdOpState first = what == OnPage::kAug ? TdOpState::kRunnable : TdOpState::kInitialized;
  const TdOpState last = what == OnPage::kAdd ? TdOpState::kInitialized : TdOpState::kRunnable;
  const PamtLock lock = what == OnPage::kAdd ? PamtLock::kExclusive : PamtLock::kShared;
  Got<LockedTd> locked = lock_built_td(tdr, Operand::kRdx, lock, first, last);
  if (!locked.has_value()) {
    return locked.error();
  }
  TdRecord& td = locked->td;
  const bool table = what == OnPage::kSeptTable;
  const SeptLevel lowest = table ? SeptLevel::k2M : SeptLevel::k4K;
  const SeptLevel highest = what == OnPage::kAdd   ? SeptLevel::k4K
                            : what == OnPage::kAug ? SeptLevel::k2M
                                                   : SeptLevel::k256T;
  const Got<Target> target = target_of(td, rcx, lowest, highest);
  if (!target.has_value()) {
    return target.error();
  }
  const TryGuard tree{td.sept_lock, TryLockKind::kShared};
  if (!tree.held()) {
    return answer(Status::kOperandBusy, Operand::kSeptTree);
  }
  const SeptLevel level = table ? SeptLevel::k4K : target->level;
  Got<PamtPage> taken = lock_page(page, Operand::kR8, PamtType::kFree, PamtLock::kExclusive,
                                  static_cast<PageSize>(level));
  // The module looks at the entry before the page: what the entry answers comes first.
  const HostCall call = put_page(td, *target, taken.has_value() ? page : kNoPage, what);
  if (!taken.has_value() && call.has_value() && call->status == kRefusedPage) {
    return taken.error();
  }
  if (!call.has_value() || call->status != 0) {
    return answer_of(td, *target, call);
  }
  taken->assign(table ? PamtType::kSept : PamtType::kRegular, tdr);
  td.children += pages_in(level);
  return success();
}

SeamCall SeamModule::mem_sept_add(std::uint64_t rcx, PhysAddr tdr, PhysAddr page) {
  return take_page(rcx, tdr, page, OnPage::kSeptTable);
}
SeamCall SeamModule::mem_page_add(std::uint64_t rcx, PhysAddr tdr, PhysAddr page) {
  return take_page(rcx, tdr, page, OnPage::kAdd);
}
SeamCall SeamModule::mem_page_aug(std::uint64_t rcx, PhysAddr tdr, PhysAddr page) {
  return take_page(rcx, tdr, page, OnPage::kAug);
}

SeamCall SeamModule::change_range(std::uint64_t rcx, PhysAddr tdr, bool block) {
  Got<LockedTd> locked = lock_built_td(tdr, Operand::kRdx, PamtLock::kShared,
                                       TdOpState::kInitialized, TdOpState::kRunnable);
  if (!locked.has_value()) {
    return locked.error();
  }
  TdRecord& td = locked->td;
  const Got<Target> target = target_of(td, rcx, SeptLevel::k4K, SeptLevel::k256T);
  if (!target.has_value()) {
    return target.error();
  }
  const TryGuard tree{td.sept_lock, block ? TryLockKind::kExclusive : TryLockKind::kShared};
  if (!tree.held()) {
    return answer(Status::kOperandBusy, Operand::kSeptTree);
  }
  return answer_of(td, *target,
                   block ? td.sept->range_block(target->gpa, target->level)
                         : td.sept->range_unblock(target->gpa, target->level));
}

SeamCall SeamModule::mem_range_block(std::uint64_t rcx, PhysAddr tdr) {
  return change_range(rcx, tdr, true);
}
SeamCall SeamModule::mem_range_unblock(std::uint64_t rcx, PhysAddr tdr) {
  return change_range(rcx, tdr, false);
}

SeamCall SeamModule::mem_track(PhysAddr tdr) {
  Got<LockedTd> locked = lock_built_td(tdr, Operand::kRcx, PamtLock::kShared,
                                       TdOpState::kInitialized, TdOpState::kRunnable);
  if (!locked.has_value()) {
    return locked.error();
  }
  return SeamResult{.status = locked->td.sept->track()};
}

/// PAGE.REMOVE with everything above the entry checked and locked.
SeamCall SeamModule::remove_target(LockedTd& locked, const Target& target) {
  TdRecord& td = locked.td;
  const auto page_now = [&]() -> std::optional<PhysAddr> {
    const std::optional<EntryView> view = td.sept->lookup(target.gpa);
    return view.has_value() && view->level == target.level && internal::is_leaf(view->state)
               ? std::optional{view->hpa}
               : std::nullopt;
  };
  const std::optional<PhysAddr> page = page_now();
  if (!page.has_value()) {
    // No such page: SecureEpt says what is there instead. One that comes now is not blocked: BLOCK
    // needs the tree, PAGE.ADD the TD, for itself.
    const HostCall call = td.sept->page_remove(target.gpa, target.level);
    ACCEDE_ASSERT(!call.has_value() || call->status != 0);
    return answer_of(td, target, call);
  }
  Got<PamtPage> removed =
      walk(*page, Operand::kRcx, static_cast<PageSize>(target.level), PamtLock::kExclusive);
  if (!removed.has_value()) {
    return removed.error();
  }
  // While its metadata is locked nobody else removes this page, if it is still the one.
  if (page_now() != page) {
    return answer(Status::kOperandBusy, Operand::kRcx);
  }
  const HostCall call = td.sept->page_remove(target.gpa, target.level);
  if (!call.has_value() || call->status != 0) {
    return answer_of(td, target, call);
  }
  removed->free();
  td.children -= pages_in(target.level);
  return SeamResult{.rcx = page->value()};
}

SeamCall SeamModule::mem_page_remove(std::uint64_t rcx, PhysAddr tdr) {
  Got<LockedTd> locked = lock_built_td(tdr, Operand::kRdx, PamtLock::kShared,
                                       TdOpState::kInitialized, TdOpState::kRunnable);
  if (!locked.has_value()) {
    return locked.error();
  }
  const Got<Target> target = target_of(locked->td, rcx, SeptLevel::k4K, SeptLevel::k1G);
  if (!target.has_value()) {
    return target.error();
  }
  const TryGuard tree{locked->td.sept_lock, TryLockKind::kShared};
  if (!tree.held()) {
    return answer(Status::kOperandBusy, Operand::kSeptTree);
  }
  return remove_target(*locked, *target);
}

}  // namespace accede::host
