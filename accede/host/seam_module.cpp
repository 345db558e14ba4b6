// SEAMCALL model: names, bring-up (SYS.*), and locking pages and TDs for the other calls.
#include "accede/host/seam_module.hpp"

#include "accede/base/assert.hpp"
#include "accede/host/seam_locked.hpp"

#include <algorithm>

namespace accede::host {

using namespace std::string_view_literals;
using abi::tdx::Operand;
using abi::tdx::Status;
using abi::tdx::status;

std::string_view name(SeamError error) {
  switch (error) {
    case SeamError::kNoPageMetadata:
      return "page-metadata storage exhausted"sv;
    case SeamError::kNoSeptStorage:
      return "page-state storage exhausted"sv;
    case SeamError::kNoTdRecord:
      return "no record for another TD"sv;
    case SeamError::kNoVcpuRecord:
      return "no record for another vCPU"sv;
  }
  return "unknown"sv;
}

std::string_view name(TdLifecycle state) {
  switch (state) {
    case TdLifecycle::kKeyAssigned:
      return "TD_HKID_ASSIGNED"sv;
    case TdLifecycle::kKeysConfigured:
      return "TD_KEYS_CONFIGURED"sv;
    case TdLifecycle::kBlocked:
      return "TD_BLOCKED"sv;
    case TdLifecycle::kTeardown:
      return "TD_TEARDOWN"sv;
  }
  return "unknown"sv;
}

SeamModule::SeamModule(const SeamMachine& machine, const SeamStorage& storage)
    : machine_{machine}, pamt_{storage.pamt}, tds_{storage.tds}, vcpus_{storage.vcpus} {
  ACCEDE_ASSERT(machine.physical_bits <= 52 && machine.key_bits < machine.physical_bits);
  ACCEDE_ASSERT(machine.first_private_key > 0 && 1U << machine.key_bits <= kMostKeys);
  ACCEDE_ASSERT(machine.packages > 0 && machine.packages <= kMostPackages);
  ACCEDE_ASSERT(machine.processors_per_package > 0 &&
                machine.processors_per_package <= kMostProcessors / machine.packages);
}

SeamCall SeamModule::answer(Status code, Operand operand) {
  return SeamResult{.status = status(code, operand)};
}
SeamCall SeamModule::answer(Status code, std::uint32_t details) {
  return SeamResult{.status = status(code, details)};
}

PhysAddr SeamModule::memory_end() const {
  return PhysAddr{1ULL << (machine_.physical_bits - machine_.key_bits)};
}
bool SeamModule::is_private(KeyId key) const {
  return key.value() >= machine_.first_private_key && key.value() < 1U << machine_.key_bits;
}
unsigned SeamModule::package_of(ProcessorId processor) const {
  const unsigned package = processor.value() / machine_.processors_per_package;
  ACCEDE_ASSERT(package < machine_.packages);
  return package;
}
bool SeamModule::ready() const {
  return state_.load(std::memory_order_acquire) == SysState::kReady;
}

// --- Bring-up ---

SeamCall SeamModule::sys_init(std::uint64_t rcx) {
  const TryGuard global{global_lock_, TryLockKind::kExclusive};
  if (!global.held()) {
    return answer(Status::kSysBusy);
  }
  if (rcx != 0) {
    return answer(Status::kOperandInvalid, Operand::kRcx);
  }
  if (state_ != SysState::kInitPending) {
    return answer(abi::tdx::kSysInitNotPending);
  }
  const TdmrMachine machine{.cmrs = machine_.cmrs,
                            .physical_bits = machine_.physical_bits,
                            .key_bits = machine_.key_bits};
  if (const std::uint64_t refused = check_cmrs(machine); refused != 0) {
    return SeamResult{.status = refused};
  }
  state_ = SysState::kInitDone;
  return success();
}

SeamCall SeamModule::sys_lp_init(ProcessorId processor) {
  (void)package_of(processor);
  const TryGuard global{global_lock_, TryLockKind::kShared};
  if (!global.held()) {
    return answer(Status::kSysBusy);
  }
  if (state_ != SysState::kInitDone) {
    return answer(abi::tdx::kSysLpInitNotPending);
  }
  if (processor_done_[processor.value()].exchange(true)) {
    return answer(abi::tdx::kSysLpInitDone);
  }
  ++processors_done_;
  return success();
}

SeamCall SeamModule::sys_config(std::span<const abi::tdx::TdmrInfo> tdmrs, KeyId global_key,
                                bool dynamic_pamt) {
  const TryGuard global{global_lock_, TryLockKind::kExclusive};
  if (!global.held()) {
    return answer(Status::kSysBusy);
  }
  if (state_ != SysState::kInitDone ||
      processors_done_ != machine_.packages * machine_.processors_per_package) {
    return answer(Status::kSysConfigNotPending);
  }
  if (tdmrs.empty() || tdmrs.size() > abi::tdx::kMostTdmrs) {
    return answer(Status::kOperandInvalid, Operand::kRdx);
  }
  if (!is_private(global_key)) {
    return answer(Status::kOperandInvalid, Operand::kR8);
  }
  const TdmrMachine machine{.cmrs = machine_.cmrs,
                            .physical_bits = machine_.physical_bits,
                            .key_bits = machine_.key_bits,
                            .dynamic_pamt = dynamic_pamt};
  if (const std::uint64_t refused = check_tdmrs(machine, tdmrs); refused != 0) {
    return SeamResult{.status = refused};
  }
  if (!pamt_.configure(tdmrs, dynamic_pamt)) {
    return std::unexpected{SeamError::kNoPageMetadata};
  }
  keys_[global_key.value()].state = KeyState::kReserved;
  state_ = SysState::kConfigDone;
  return success();
}

SeamCall SeamModule::sys_key_config(ProcessorId processor) {
  const std::uint32_t package = 1U << package_of(processor);
  const TryGuard global{global_lock_, TryLockKind::kExclusive};
  if (!global.held()) {
    return answer(Status::kSysBusy);
  }
  if (state_ != SysState::kConfigDone) {
    return answer(abi::tdx::kSysKeyConfigNotPending);
  }
  if ((packages_done_ & package) != 0) {
    return answer(abi::tdx::kKeyConfigured);
  }
  packages_done_ |= package;
  if (packages_done_ == all_packages()) {
    state_.store(SysState::kReady, std::memory_order_release);
  }
  return success();
}

SeamCall SeamModule::sys_tdmr_init(PhysAddr tdmr) {
  if (!ready()) {
    return answer(Status::kSysNotReady);
  }
  const std::expected<PhysAddr, Pamt::InitializeError> next = pamt_.initialize(tdmr);
  if (next.has_value()) {
    return SeamResult{.rdx = next->value()};
  }
  switch (next.error()) {
    case Pamt::InitializeError::kBusy:
      return answer(Status::kOperandBusy, Operand::kRcx);
    case Pamt::InitializeError::kAlreadyDone:
      return answer(Status::kTdmrAlreadyInitialized);
    case Pamt::InitializeError::kNoSuchTdmr:
      break;
  }
  return answer(Status::kOperandInvalid, Operand::kRcx);
}

// --- Pages and TDs ---

auto SeamModule::walk(PhysAddr page, Operand operand, PageSize size, PamtLock lock)
    -> Got<PamtPage> {
  if (!page.is_aligned(bytes(size)) || page >= memory_end()) {
    return std::unexpected{answer(Status::kOperandInvalid, operand)};
  }
  std::expected<PamtPage, PamtRefusal> found = pamt_.walk(page, size, lock);
  if (found.has_value()) {
    return *std::move(found);
  }
  switch (found.error()) {
    case PamtRefusal::kOutsideTdmrs:
      return std::unexpected{answer(Status::kOperandAddrRangeError, operand)};
    case PamtRefusal::kBusy:
      return std::unexpected{answer(Status::kOperandBusy, operand)};
    case PamtRefusal::kOutOfStorage:
      break;
  }
  return std::unexpected{SeamCall{std::unexpected{SeamError::kNoPageMetadata}}};
}

auto SeamModule::lock_page(PhysAddr page, Operand operand, PamtType type, PamtLock lock,
                           PageSize size) -> Got<PamtPage> {
  Got<PamtPage> found = walk(page, operand, size, lock);
  if (!found.has_value()) {
    return found;
  }
  const bool right = found->level() == size && found->type() == type;
  const bool below_free =
      size != PageSize::k2M || type != PamtType::kFree || (right && pamt_.range_free(*found, page));
  if (pamt_.dynamic() && type == PamtType::kFree && found->type() == type &&
      size < found->level() && found->level() == PageSize::k2M) {
    return std::unexpected{answer(Status::kMissingPamtPagePair, operand)};
  }
  const bool lent = pamt_.dynamic() && right && type == PamtType::kFree && pamt_.lent(page);
  if (!right || lent || !below_free) {
    return std::unexpected{answer(Status::kPageMetadataIncorrect, operand)};
  }
  return found;
}

auto SeamModule::lock_td(PhysAddr tdr, Operand operand, PamtLock lock) -> Got<LockedTd> {
  if (!ready()) {
    return std::unexpected{answer(Status::kSysNotReady)};
  }
  Got<PamtPage> page = lock_page(tdr, operand, PamtType::kTdr, lock);
  if (!page.has_value()) {
    return std::unexpected{page.error()};
  }
  TdRecord& td = tds_[page->record()];
  return LockedTd{*std::move(page), tdr, td};
}

/// The TD that owns a locked page.
auto SeamModule::lock_owner(const PamtPage& page, PamtLock lock) -> Got<LockedTd> {
  return lock_td(page.owner(), Operand::kTdr, lock);
}

/// Success, or why the TD has no TDCS to work with.
SeamCall SeamModule::built(const TdRecord& td) {
  if (td.lifecycle != TdLifecycle::kKeysConfigured) {
    return answer(abi::tdx::kTdKeysNotConfigured);
  }
  if (td.tdcs_pages < kLeastTdcsPages) {
    return answer(abi::tdx::kTdcsNotAllocated);
  }
  return success();
}

auto SeamModule::lock_built_td(PhysAddr tdr, Operand operand, PamtLock lock, TdOpState first,
                               TdOpState last) -> Got<LockedTd> {
  Got<LockedTd> locked = lock_td(tdr, operand, lock);
  if (!locked.has_value()) {
    return locked;
  }
  if (const SeamCall refused = built(locked->td); !refused->ok()) {
    return std::unexpected{refused};
  }
  if (locked->td.op_state < first || locked->td.op_state > last) {
    return std::unexpected{answer(Status::kOpStateIncorrect)};
  }
  return locked;
}

SecureEpt* SeamModule::secure_ept(PhysAddr tdr) {
  const Got<LockedTd> locked = lock_td(tdr, Operand::kRcx, PamtLock::kShared);
  return locked.has_value() && locked->td.sept.has_value() ? &*locked->td.sept : nullptr;
}

bool SeamModule::invariants() const {
  return pamt_.invariants() && std::ranges::all_of(tds_, [](const TdRecord& td) {
           return !td.used || !td.sept.has_value() || td.sept->invariants();
         });
}

}  // namespace accede::host
