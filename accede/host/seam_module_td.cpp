// SEAMCALL model: building TDs and vCPUs (MNG.*, VP.*, MR.FINALIZE).
#include "accede/base/assert.hpp"
#include "accede/host/seam_locked.hpp"
#include "accede/host/seam_module.hpp"

#include <algorithm>
#include <cstddef>
#include <optional>

namespace accede::host {

using abi::tdx::Operand;
using abi::tdx::Status;

namespace {

/// Takes a record that nobody uses.
template <class Record>
std::optional<std::size_t> take_record(std::span<Record> records) {
  const auto found =
      std::ranges::find_if(records, [](Record& record) { return !record.used.exchange(true); });
  if (found == records.end()) {
    return std::nullopt;
  }
  return static_cast<std::size_t>(found - records.begin());
}

/// VCPU_STATE of a vCPU that is ready to run, the details of VCPU_STATE_INCORRECT.
constexpr std::uint32_t kVcpuReady = 2;

}  // namespace

SeamCall SeamModule::mng_create(PhysAddr tdr, KeyId key) {
  if (!ready()) {
    return answer(Status::kSysNotReady);
  }
  if (!is_private(key)) {
    return answer(Status::kOperandInvalid, Operand::kRdx);
  }
  Got<PamtPage> page = lock_page(tdr, Operand::kRcx, PamtType::kFree, PamtLock::kExclusive);
  if (!page.has_value()) {
    return page.error();
  }
  const TryGuard keys{key_lock_, TryLockKind::kExclusive};
  if (!keys.held()) {
    return answer(Status::kOperandBusy, Operand::kKot);
  }
  if (keys_[key.value()].state != KeyState::kFree) {
    return answer(abi::tdx::kHkidNotFree);
  }
  const std::optional<std::size_t> record = take_record(tds_);
  if (!record.has_value()) {
    return std::unexpected{SeamError::kNoTdRecord};
  }
  TdRecord& td = tds_[*record];
  td.lifecycle = TdLifecycle::kKeyAssigned;
  td.op_state = TdOpState::kUninitialized;
  td.key = key;
  td.packages_with_key = 0;
  td.tdcs_pages = 0;
  td.children = 0;
  td.vcpus = 0;
  td.associated = 0;
  keys_[key.value()].state = KeyState::kAssigned;
  page->assign(PamtType::kTdr, PhysAddr{}, *record);
  return success();
}

SeamCall SeamModule::mng_key_config(ProcessorId processor, PhysAddr tdr) {
  const std::uint32_t package = 1U << package_of(processor);
  Got<LockedTd> locked = lock_td(tdr, Operand::kRcx, PamtLock::kExclusive);
  if (!locked.has_value()) {
    return locked.error();
  }
  TdRecord& td = locked->td;
  if (td.lifecycle != TdLifecycle::kKeyAssigned) {
    return answer(Status::kLifecycleStateIncorrect);
  }
  if ((td.packages_with_key & package) != 0) {
    return answer(abi::tdx::kKeyConfigured);
  }
  td.packages_with_key |= package;
  if (td.packages_with_key == all_packages()) {
    td.lifecycle = TdLifecycle::kKeysConfigured;
  }
  return success();
}

SeamCall SeamModule::mng_addcx(PhysAddr page, PhysAddr tdr) {
  Got<LockedTd> locked = lock_td(tdr, Operand::kRdx, PamtLock::kExclusive);
  if (!locked.has_value()) {
    return locked.error();
  }
  TdRecord& td = locked->td;
  if (td.lifecycle != TdLifecycle::kKeysConfigured) {
    return answer(abi::tdx::kTdKeysNotConfigured);
  }
  if (td.tdcs_pages == kMostTdcsPages) {
    return answer(abi::tdx::kTdcxNumIncorrect);
  }
  Got<PamtPage> added = lock_page(page, Operand::kRcx, PamtType::kFree, PamtLock::kExclusive);
  if (!added.has_value()) {
    return added.error();
  }
  // The state is in pages that are there only now.
  if (td.tdcs_pages >= kLeastTdcsPages && td.op_state != TdOpState::kUninitialized) {
    return answer(Status::kOpStateIncorrect);
  }
  ++td.tdcs_pages;
  ++td.children;
  added->assign(PamtType::kTdcx, tdr);
  return success();
}

SeamCall SeamModule::mng_init(PhysAddr tdr, const TdParams& params,
                              std::span<std::byte> sept_storage) {
  Got<LockedTd> locked = lock_built_td(tdr, Operand::kRcx, PamtLock::kExclusive,
                                       TdOpState::kUninitialized, TdOpState::kUninitialized);
  if (!locked.has_value()) {
    return locked.error();
  }
  if (params.max_vcpus == 0) {
    return answer(Status::kOperandInvalid, Operand::kMaxVcpus);
  }
  if (params.sept.gpa_width != 48 && params.sept.gpa_width != 52) {
    return answer(Status::kOperandInvalid, Operand::kEptpControls);
  }
  TdRecord& td = locked->td;
  td.max_vcpus = params.max_vcpus;
  td.sept.emplace(params.sept, sept_storage);
  td.op_state = TdOpState::kInitialized;
  return success();
}

SeamCall SeamModule::vp_create(PhysAddr tdvpr, PhysAddr tdr) {
  Got<LockedTd> locked = lock_built_td(tdr, Operand::kRdx, PamtLock::kShared,
                                       TdOpState::kInitialized, TdOpState::kInitialized);
  if (!locked.has_value()) {
    return locked.error();
  }
  Got<PamtPage> page = lock_page(tdvpr, Operand::kRcx, PamtType::kFree, PamtLock::kExclusive);
  if (!page.has_value()) {
    return page.error();
  }
  const std::optional<std::size_t> record = take_record(vcpus_);
  if (!record.has_value()) {
    return std::unexpected{SeamError::kNoVcpuRecord};
  }
  VcpuRecord& vcpu = vcpus_[*record];
  vcpu.initialized = false;
  vcpu.pages = 1;
  vcpu.associated.reset();
  ++locked->td.children;
  page->assign(PamtType::kTdvpr, tdr, *record);
  return success();
}

SeamCall SeamModule::vp_addcx(PhysAddr page, PhysAddr tdvpr) {
  if (!ready()) {
    return answer(Status::kSysNotReady);
  }
  Got<PamtPage> root = lock_page(tdvpr, Operand::kRdx, PamtType::kTdvpr, PamtLock::kExclusive);
  if (!root.has_value()) {
    return root.error();
  }
  const PhysAddr tdr = root->owner();
  Got<LockedTd> locked = lock_built_td(tdr, Operand::kTdr, PamtLock::kShared,
                                       TdOpState::kInitialized, TdOpState::kInitialized);
  if (!locked.has_value()) {
    return locked.error();
  }
  VcpuRecord& vcpu = vcpus_[root->record()];
  if (vcpu.initialized) {
    return answer(Status::kVcpuStateIncorrect, kVcpuReady);
  }
  if (vcpu.pages == kMostTdvpsPages) {
    return answer(abi::tdx::kTdcxNumIncorrect);
  }
  Got<PamtPage> added = lock_page(page, Operand::kRcx, PamtType::kFree, PamtLock::kExclusive);
  if (!added.has_value()) {
    return added.error();
  }
  ++vcpu.pages;
  ++locked->td.children;
  added->assign(PamtType::kTdcx, tdr);
  return success();
}

SeamCall SeamModule::vp_init(ProcessorId processor, PhysAddr tdvpr) {
  (void)package_of(processor);
  if (!ready()) {
    return answer(Status::kSysNotReady);
  }
  Got<PamtPage> root = lock_page(tdvpr, Operand::kRcx, PamtType::kTdvpr, PamtLock::kExclusive);
  if (!root.has_value()) {
    return root.error();
  }
  Got<LockedTd> locked = lock_built_td(root->owner(), Operand::kTdr, PamtLock::kShared,
                                       TdOpState::kInitialized, TdOpState::kInitialized);
  if (!locked.has_value()) {
    return locked.error();
  }
  VcpuRecord& vcpu = vcpus_[root->record()];
  if (vcpu.pages < kLeastTdvpsPages) {
    return answer(abi::tdx::kTdcxNumIncorrect);
  }
  if (vcpu.initialized) {
    return answer(Status::kVcpuStateIncorrect, kVcpuReady);
  }
  TdRecord& td = locked->td;
  const std::uint32_t index = td.vcpus.fetch_add(1);
  if (index >= td.max_vcpus) {
    --td.vcpus;
    return answer(Status::kMaxVcpusExceeded);
  }
  vcpu.index = index;
  vcpu.initialized = true;
  vcpu.associated = processor;
  ++td.associated;
  return success();
}

SeamCall SeamModule::mr_finalize(PhysAddr tdr) {
  Got<LockedTd> locked = lock_built_td(tdr, Operand::kRcx, PamtLock::kExclusive,
                                       TdOpState::kInitialized, TdOpState::kInitialized);
  if (!locked.has_value()) {
    return locked.error();
  }
  TdRecord& td = locked->td;
  if (td.vcpus == 0) {
    return answer(Status::kNoVcpus);
  }
  const std::uint64_t done = td.sept->finalize();
  ACCEDE_ASSERT(done == 0);
  td.op_state = TdOpState::kRunnable;
  return success();
}

}  // namespace accede::host
