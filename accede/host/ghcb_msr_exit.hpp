// The MSR protocol: members of Ghcb. Included by ghcb.hpp.
#pragma once

#include "accede/host/ghcb.hpp"

namespace accede::host {

template <GhcbHost Host>
GhcbOutcome Ghcb<Host>::msr_exit(std::uint64_t msr) {
  using abi::ghcb::MsrCode;
  const MsrCode code = abi::ghcb::code_of(msr);
  const bool is_snp_code = code == MsrCode::kPreferredGhcbRequest ||
                           code == MsrCode::kRegisterGhcbRequest ||
                           code == MsrCode::kPageStateRequest;
  if (is_snp_code && !config_.is_snp) {
    report(GhcbMistakeKind::kSnpOnly, msr);
    return {.next = GhcbNext::kTerminate, .msr = msr, .reason = abi::ghcb::kTerminateGeneral};
  }
  switch (code) {
    case MsrCode::kSevInfoRequest:
      return {.msr = abi::ghcb::sev_info_response(config_.info)};
    case MsrCode::kCpuidRequest:
      return {.msr = msr_cpuid(msr)};
    case MsrCode::kApResetHoldRequest:
      hold_ = Hold::kMsr;
      return {.next = GhcbNext::kHold, .msr = abi::ghcb::ap_reset_hold_response(false)};
    case MsrCode::kPreferredGhcbRequest:
      return {.msr = abi::ghcb::msr_word(MsrCode::kPreferredGhcbResponse, abi::ghcb::kNoGhcb)};
    case MsrCode::kRegisterGhcbRequest:
      return {.msr = register_page(msr)};
    case MsrCode::kPageStateRequest:
      return {.msr = msr_page_state(msr)};
    case MsrCode::kHvFeaturesRequest:
      return {.msr = abi::ghcb::msr_word(MsrCode::kHvFeaturesResponse,
                                         config_.hv_features & abi::ghcb::MsrWord::Payload::kMax)};
    case MsrCode::kTerminateRequest:
      return {
          .next = GhcbNext::kTerminate, .msr = msr, .reason = abi::ghcb::terminate_reason_of(msr)};
    default:
      report(GhcbMistakeKind::kUnknownMsrCode, msr);
      return {.msr = msr};
  }
}

/// Bits 31:12 come back as they went in: KVM replaces the value and the code only.
template <GhcbHost Host>
std::uint64_t Ghcb<Host>::msr_cpuid(std::uint64_t msr) {
  using abi::ghcb::MsrWord;
  const auto leaf = static_cast<std::uint32_t>(MsrWord::CpuidFunction::get(msr));
  const GhcbCpuidResult result = host_.cpuid({.leaf = leaf, .subleaf = 0, .xcr0 = {}, .xss = {}});
  const std::array registers{result.eax, result.ebx, result.ecx, result.edx};
  const std::uint32_t value = registers[MsrWord::CpuidRegister::get(msr)];
  return MsrWord::Code::set(MsrWord::CpuidFunction::set(msr, value),
                            static_cast<std::uint64_t>(abi::ghcb::MsrCode::kCpuidResponse));
}

template <GhcbHost Host>
std::uint64_t Ghcb<Host>::register_page(std::uint64_t msr) {
  using abi::ghcb::MsrCode;
  const std::uint64_t gpa = msr & ~std::uint64_t{0xFFF};
  if (!is_page(gpa) || !host_.may_register(PhysAddr{gpa})) {
    report(GhcbMistakeKind::kBadRegistration, msr);
    return abi::ghcb::msr_word(MsrCode::kRegisterGhcbResponse, abi::ghcb::kNoGhcb);
  }
  registered_ = PhysAddr{gpa};
  return abi::ghcb::register_ghcb_response(*registered_);
}

template <GhcbHost Host>
std::uint64_t Ghcb<Host>::msr_page_state(std::uint64_t msr) {
  using abi::ghcb::PageOp;
  const PageOp op = abi::ghcb::page_state_op(msr);
  if (op != PageOp::kPrivate && op != PageOp::kShared) {
    report(GhcbMistakeKind::kPageOperation, msr);
    return abi::ghcb::page_state_response(abi::ghcb::kPageStateErrorKvm);
  }
  const GhcbPageStateAnswer answer = host_.change_page_state(
      {.range = PhysRange::page(abi::ghcb::page_state_gpa(msr), PageSize::k4K), .op = op});
  const bool done = !answer.refused && answer.done != PageCount{};
  return abi::ghcb::page_state_response(done ? 0 : abi::ghcb::kPageStateErrorKvm);
}

}  // namespace accede::host
