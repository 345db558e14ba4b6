// SEAMCALL model: ending TDs and giving pages back (VP.FLUSH, VPFLUSHDONE, KEY.FREEID, PHYMEM.*).
#include "accede/host/seam_locked.hpp"
#include "accede/host/seam_module.hpp"

#include <algorithm>

namespace accede::host {

using abi::tdx::Operand;
using abi::tdx::Status;

SeamCall SeamModule::vp_flush(ProcessorId processor, PhysAddr tdvpr) {
  (void)package_of(processor);
  if (!ready()) {
    return answer(Status::kSysNotReady);
  }
  Got<PamtPage> root = lock_page(tdvpr, Operand::kRcx, PamtType::kTdvpr, PamtLock::kExclusive);
  if (!root.has_value()) {
    return root.error();
  }
  Got<LockedTd> locked = lock_owner(*root, PamtLock::kShared);
  if (!locked.has_value()) {
    return locked.error();
  }
  if (locked->td.lifecycle != TdLifecycle::kKeysConfigured) {
    return answer(abi::tdx::kTdKeysNotConfigured);
  }
  VcpuRecord& vcpu = vcpus_[root->record()];
  if (vcpu.pages < kLeastTdvpsPages) {
    return answer(abi::tdx::kTdcxNumIncorrect);
  }
  if (vcpu.associated != processor) {
    return answer(abi::tdx::kVcpuNotAssociated);
  }
  vcpu.associated.reset();
  --locked->td.associated;
  return success();
}

SeamCall SeamModule::mng_vpflushdone(PhysAddr tdr) {
  Got<LockedTd> locked = lock_td(tdr, Operand::kRcx, PamtLock::kExclusive);
  if (!locked.has_value()) {
    return locked.error();
  }
  const TryGuard keys{key_lock_, TryLockKind::kExclusive};
  if (!keys.held()) {
    return answer(Status::kOperandBusy, Operand::kKot);
  }
  TdRecord& td = locked->td;
  if (td.lifecycle != TdLifecycle::kKeysConfigured && td.lifecycle != TdLifecycle::kKeyAssigned) {
    return answer(Status::kLifecycleStateIncorrect);
  }
  if (td.associated != 0) {
    return answer(abi::tdx::kFlushvpNotDone);
  }
  Key& key = keys_[td.key.value()];
  key.packages_to_flush = all_packages();
  key.state = KeyState::kFlushed;
  td.lifecycle = TdLifecycle::kBlocked;
  return success();
}

SeamCall SeamModule::phymem_cache_wb(ProcessorId processor) {
  const std::uint32_t package = 1U << package_of(processor);
  if (!ready()) {
    return answer(Status::kSysNotReady);
  }
  const TryGuard keys{key_lock_, TryLockKind::kShared};
  if (!keys.held()) {
    return answer(Status::kOperandBusy, Operand::kKot);
  }
  bool any = false;
  for (Key& key : keys_) {
    if (key.state == KeyState::kFlushed) {
      any = true;
      key.packages_to_flush &= ~package;
    }
  }
  return any ? success() : answer(abi::tdx::kNoHkidReadyToWbcache);
}

SeamCall SeamModule::mng_key_freeid(PhysAddr tdr) {
  Got<LockedTd> locked = lock_td(tdr, Operand::kRcx, PamtLock::kExclusive);
  if (!locked.has_value()) {
    return locked.error();
  }
  TdRecord& td = locked->td;
  if (td.lifecycle != TdLifecycle::kBlocked) {
    return answer(Status::kLifecycleStateIncorrect);
  }
  const TryGuard keys{key_lock_, TryLockKind::kExclusive};
  if (!keys.held()) {
    return answer(Status::kOperandBusy, Operand::kKot);
  }
  Key& key = keys_[td.key.value()];
  if (key.packages_to_flush != 0) {
    return answer(abi::tdx::kWbcacheNotComplete);
  }
  key.state = KeyState::kFree;
  td.lifecycle = TdLifecycle::kTeardown;
  return success();
}

SeamCall SeamModule::phymem_page_reclaim(PhysAddr page) {
  if (!ready()) {
    return answer(Status::kSysNotReady);
  }
  Got<PamtPage> found = walk(page, Operand::kRcx, PageSize::k4K, PamtLock::kExclusive);
  if (!found.has_value()) {
    return found.error();
  }
  const PamtType type = found->type();
  if (type == PamtType::kFree || type == PamtType::kReserved) {
    return answer(Status::kPageMetadataIncorrect, Operand::kRcx);
  }
  SeamResult result{.rcx = static_cast<std::uint64_t>(type),
                    .rdx = found->owner().value(),
                    .r8 = static_cast<std::uint64_t>(found->level())};
  const auto refuse = [&](std::uint64_t status) -> SeamCall {
    result.status = status;
    return result;
  };
  if (!page.is_aligned(bytes(found->level()))) {
    return refuse(status(Status::kOperandInvalid, Operand::kRcx));
  }
  if (type == PamtType::kTdr) {
    TdRecord& td = tds_[found->record()];
    if (td.lifecycle != TdLifecycle::kTeardown) {
      return refuse(status(Status::kLifecycleStateIncorrect));
    }
    if (td.children != 0) {
      return refuse(status(abi::tdx::kTdAssociatedPagesExist));
    }
    td.sept.reset();
    td.used = false;
  } else {
    Got<LockedTd> locked = lock_owner(*found, PamtLock::kShared);
    if (!locked.has_value()) {
      return locked.error().has_value() ? refuse(locked.error()->status) : locked.error();
    }
    if (locked->td.lifecycle != TdLifecycle::kTeardown) {
      return refuse(status(Status::kLifecycleStateIncorrect));
    }
    locked->td.children -= bytes(found->level()) / 4_KiB;
    if (type == PamtType::kTdvpr) {
      vcpus_[found->record()].used = false;
    }
  }
  found->free();
  return result;
}

SeamCall SeamModule::phymem_page_wbinvd(PhysAddr page) {
  if (!ready()) {
    return answer(Status::kSysNotReady);
  }
  const PhysAddr without_key{page.value() & (memory_end().value() - 1)};
  if (page.value() >> machine_.physical_bits != 0) {
    return answer(Status::kOperandInvalid, Operand::kRcx);
  }
  Got<PamtPage> found = walk(without_key, Operand::kRcx, PageSize::k4K, PamtLock::kShared);
  if (!found.has_value()) {
    return found.error();
  }
  const bool free =
      found->type() == PamtType::kFree && !(pamt_.dynamic() && pamt_.lent(without_key));
  return free ? success() : answer(Status::kPageMetadataIncorrect, Operand::kRcx);
}

SeamCall SeamModule::phymem_page_rdmd(PhysAddr page) {
  if (!ready()) {
    return answer(Status::kSysNotReady);
  }
  Got<PamtPage> found = walk(page, Operand::kRcx, PageSize::k4K, PamtLock::kShared);
  if (!found.has_value()) {
    return found.error();
  }
  return SeamResult{.rcx = static_cast<std::uint64_t>(found->type()),
                    .rdx = found->owner().value(),
                    .r8 = static_cast<std::uint64_t>(found->level())};
}

}  // namespace accede::host
