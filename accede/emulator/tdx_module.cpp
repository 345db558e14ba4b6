#include "accede/emulator/tdx_module.hpp"

#include "accede/abi/tdx.hpp"

#include <algorithm>
#include <bit>

namespace accede::emulator {
namespace {

using abi::tdx::Operand;
using abi::tdx::Status;
using abi::tdx::status;
using abi::tdx::TdcallLeaf;

constexpr std::uint64_t kInstructionBytes = 4;
constexpr std::uint64_t kTscUnit = 25'000'000;  // TSC_FREQUENCY counts in units of 25 MHz

template <class T>
std::span<const std::byte> as_bytes(const T& object) {
  return std::as_bytes(std::span{&object, 1});
}

template <class T>
host::Sha384::Digest digest_of(const T& object) {
  host::Sha384 hash;
  hash.update(as_bytes(object));
  return hash.digest();
}

}  // namespace

Verdict TdxModule::tdcall(Vcpu& vcpu) {
  const std::uint64_t rax = vcpu.gpr[kRax];
  const std::uint64_t leaf = abi::tdx::TdcallLeafField::get(rax);
  Counters& counters = reporter_.counters();
  Reporter::add(leaf < counters.tdcall.size() ? counters.tdcall[leaf] : counters.tdcall_other);

  std::uint64_t result = status(Status::kOperandInvalid, Operand::kRax);
  const std::uint64_t version = abi::tdx::TdcallVersionField::get(rax);
  const bool is_valid =
      (rax & abi::tdx::kTdcallReservedMask) == 0 && (version == 0 || (version == 1 && leaf == 7));
  if (is_valid) {
    switch (static_cast<TdcallLeaf>(leaf)) {
      case TdcallLeaf::kVpVmcall:
        return vmcall(vcpu);
      case TdcallLeaf::kVpInfo:
        vp_info(vcpu);
        result = 0;
        break;
      case TdcallLeaf::kMrRtmrExtend:
        result = extend_rtmr(vcpu);
        break;
      case TdcallLeaf::kVpVeInfoGet:
        result = get_ve_info(vcpu);
        break;
      case TdcallLeaf::kMrReport:
        result = report(vcpu);
        break;
      case TdcallLeaf::kVpCpuidVeSet:
        vcpu.cpuid_ve = static_cast<std::uint8_t>(vcpu.gpr[kRcx] & 3);
        result = 0;
        break;
      case TdcallLeaf::kMemPageAccept: {
        const auto accepted = pages_.accept(vcpu, vcpu.gpr[kRcx]);
        if (!accepted) {
          return std::unexpected{accepted.error()};
        }
        result = *accepted;
        break;
      }
      case TdcallLeaf::kVmRd:
        result = read_field(vcpu);
        break;
      case TdcallLeaf::kVmWr:
        result = write_field(vcpu);
        break;
      default:
        count_unknown(vcpu, leaf);
        break;
    }
  } else {
    count_unknown(vcpu, leaf);
  }
  vcpu.gpr[kRax] = result;
  vcpu.advance(kInstructionBytes);
  return {};
}

void TdxModule::count_unknown(const Vcpu& vcpu, std::uint64_t leaf) {
  reporter_.violation({.gpa = leaf,
                       .rip = vcpu.save().rip,
                       .count = 1,
                       .kind = EventKind::kUnknownTdcall,
                       .fatal = 0,
                       .vcpu = vcpu.index,
                       .detail = static_cast<std::uint32_t>(leaf)});
}

/// The VMM sees zero in registers that the guest keeps to itself and cannot change them.
Verdict TdxModule::vmcall(Vcpu& vcpu) {
  const std::uint64_t mask = vcpu.gpr[kRcx];
  if (abi::tdx::VmcallMask::Reserved::get(mask) != 0 ||
      (mask & abi::tdx::VmcallMask::kForbidden) != 0) {
    vcpu.gpr[kRax] = status(Status::kOperandInvalid, Operand::kRcx);
    vcpu.advance(kInstructionBytes);
    return {};
  }
  VmcallHandler::Registers registers{};
  for (unsigned i = 0; i < registers.size(); ++i) {
    registers[i] = (mask >> i & 1) != 0 ? vcpu.gpr[i] : 0;
  }
  if (Verdict verdict = vmcalls_.answer(vcpu, registers); !verdict) {
    return verdict;
  }
  for (unsigned i = 0; i < registers.size(); ++i) {
    if ((mask >> i & 1) != 0) {
      vcpu.gpr[i] = registers[i];
    }
  }
  vcpu.gpr[kRax] = 0;
  vcpu.advance(kInstructionBytes);
  return {};
}

std::uint64_t TdxModule::attributes() const {
  return config_.sept_ve_disable ? abi::tdx::kAttributeSeptVeDisable : 0;
}

void TdxModule::vp_info(Vcpu& vcpu) const {
  vcpu.gpr[kRcx] = kGpaw;
  vcpu.gpr[kRdx] = attributes();
  vcpu.gpr[kR8] = (std::uint64_t{config_.vcpus} << 32) | config_.vcpus;
  vcpu.gpr[kR9] = vcpu.index;
  vcpu.gpr[kR10] = 0;  // TDG.SYS.RD does not exist here
  vcpu.gpr[kR11] = 0;
}

std::uint64_t TdxModule::get_ve_info(Vcpu& vcpu) {
  const VeInfo ve = vcpu.ve_pending ? vcpu.ve : VeInfo{};
  vcpu.gpr[kRcx] = ve.exit_reason;
  vcpu.gpr[kRdx] = ve.qualification;
  vcpu.gpr[kR8] = ve.linear_address;
  vcpu.gpr[kR9] = ve.gpa;
  vcpu.gpr[kR10] = ve.instruction_length;
  if (!vcpu.ve_pending) {
    return status(Status::kNoValidVeInfo);
  }
  vcpu.ve_pending = false;
  return 0;
}

std::uint64_t TdxModule::extend_rtmr(Vcpu& vcpu) {
  const std::uint64_t gpa = vcpu.gpr[kRcx];
  const std::uint64_t index = vcpu.gpr[kRdx];
  Rtmr data{};
  if (gpa % 64 != 0 || (gpa & NestedPageTable::kViewMask) != 0 ||
      !memory_.read(gpa, std::as_writable_bytes(std::span{data}))) {
    return status(Status::kOperandInvalid, Operand::kRcx);
  }
  if (index >= rtmr_.size()) {
    return status(Status::kOperandInvalid, Operand::kRdx);
  }
  const SpinGuard guard{rtmr_lock_};
  host::Sha384 hash;
  hash.update(std::as_bytes(std::span{rtmr_[index]}));
  hash.update(std::as_bytes(std::span{data}));
  rtmr_[index] = hash.digest();
  return 0;
}

std::uint64_t TdxModule::report(Vcpu& vcpu) {
  const std::uint64_t to = vcpu.gpr[kRcx];
  const std::uint64_t from = vcpu.gpr[kRdx];
  if (to % 1024 != 0 || (to & NestedPageTable::kViewMask) != 0) {
    return status(Status::kOperandInvalid, Operand::kRcx);
  }
  if (from % 64 != 0 || (from & NestedPageTable::kViewMask) != 0) {
    return status(Status::kOperandInvalid, Operand::kRdx);
  }
  if (vcpu.gpr[kR8] != 0) {
    return status(Status::kOperandInvalid, Operand::kR8);
  }
  abi::tdx::TdReport report{};
  if (!memory_.read(from, std::as_writable_bytes(std::span{report.mac.report_data}))) {
    return status(Status::kOperandInvalid, Operand::kRdx);
  }
  report.mac.report_type.type = abi::tdx::kReportTypeTdx;
  report.td_info.attributes = attributes();
  report.td_info.xfam = config_.xfam;
  report.td_info.mrtd = host::Sha384{}.digest();  // nothing is added before launch
  {
    const SpinGuard guard{rtmr_lock_};
    report.td_info.rtmr = rtmr_;
  }
  report.mac.tee_tcb_info_hash = digest_of(report.tee_tcb_info);
  report.mac.tee_info_hash = digest_of(report.td_info);
  // The MAC stays zero: there is no key, and nothing could verify it.
  if (!memory_.write(to, as_bytes(report))) {
    return status(Status::kOperandInvalid, Operand::kRcx);
  }
  return 0;
}

std::optional<std::uint64_t> TdxModule::field_value(std::uint64_t id) {
  using namespace abi::tdx;
  const auto is = [id](std::uint64_t field) { return same_field(id, field); };
  if (is(kFieldAttributes)) {
    return attributes();
  }
  if (is(kFieldXfam)) {
    return config_.xfam;
  }
  if (is(kFieldMaxVcpus) || is(kFieldNumVcpus)) {
    return config_.vcpus;
  }
  if (is(kFieldGpaw) || is(kFieldConfigFlags) || is(kFieldTopologyEnumConfigured)) {
    return 0;  // GPAW 48 bits, no optional feature
  }
  if (is(kFieldTscFrequency)) {
    return config_.tsc_hz / kTscUnit;
  }
  if (is(kFieldTdCtls)) {
    return config_.sept_ve_disable ? kTdCtlsPendingVeDisable : 0;
  }
  if (is(kFieldNotifyEnables)) {
    return notify_enables_.load(std::memory_order_relaxed);
  }
  return std::nullopt;
}

std::uint64_t TdxModule::read_field(Vcpu& vcpu) {
  vcpu.gpr[kR8] = 0;
  const std::uint64_t id = vcpu.gpr[kRdx];
  if (vcpu.gpr[kRcx] != 0) {
    return status(Status::kOperandInvalid, Operand::kRcx);
  }
  const std::optional<std::uint64_t> value =
      (id & abi::tdx::FieldId::kSingleElementZeroMask) == 0 ? field_value(id) : std::nullopt;
  if (!value) {
    return status(Status::kMetadataFieldIdIncorrect, Operand::kRdx);
  }
  vcpu.gpr[kR8] = *value;
  return 0;
}

/// Write rule (reference: TDX 1.2): the caller's mask is cut to the writable bits; a changed bit
/// outside them is an error, an unchanged one is not.
std::uint64_t TdxModule::write_field(Vcpu& vcpu) {
  const std::uint64_t id = vcpu.gpr[kRdx];
  const std::uint64_t value = vcpu.gpr[kR8];
  const std::uint64_t mask = vcpu.gpr[kR9];
  vcpu.gpr[kR8] = 0;
  if (vcpu.gpr[kRcx] != 0) {
    return status(Status::kOperandInvalid, Operand::kRcx);
  }
  const std::optional<std::uint64_t> old =
      (id & abi::tdx::FieldId::kSingleElementZeroMask) == 0 ? field_value(id) : std::nullopt;
  if (!old) {
    return status(Status::kMetadataFieldIdIncorrect, Operand::kRdx);
  }
  constexpr std::uint64_t kSingleStepNotification = 1;
  const bool is_notify = abi::tdx::same_field(id, abi::tdx::kFieldNotifyEnables);
  const bool is_td_ctls = abi::tdx::same_field(id, abi::tdx::kFieldTdCtls);
  const std::uint64_t writable = is_notify ? kSingleStepNotification : 0;
  if (!is_notify && !is_td_ctls) {
    return status(Status::kMetadataFieldNotWritable, Operand::kRdx);
  }
  if (((value ^ *old) & mask & ~writable) != 0) {
    return status(Status::kMetadataFieldValueNotValid, Operand::kRdx);
  }
  if (is_notify) {
    notify_enables_.store((*old & ~(mask & writable)) | (value & mask & writable),
                          std::memory_order_relaxed);
  }
  vcpu.gpr[kR8] = *old;
  return 0;
}

}  // namespace accede::emulator
