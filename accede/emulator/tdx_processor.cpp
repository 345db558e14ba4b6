#include "accede/emulator/tdx_processor.hpp"

#include "accede/emulator/cpuid.hpp"

namespace accede::emulator {
namespace {

using svm::Exit;

constexpr std::uint64_t kCpuidBytes = 2;
constexpr std::array<std::byte, 4> kTdcall{std::byte{0x66}, std::byte{0x0F}, std::byte{0x01},
                                           std::byte{0xCC}};

}  // namespace

bool TdxProcessor::is_accept(const Vcpu& vcpu, Exit exit) {
  constexpr auto kAccept = static_cast<std::uint64_t>(abi::tdx::TdcallLeaf::kMemPageAccept);
  return exit == Exit::kExceptionUd && (vcpu.gpr[kRax] & 0xFFFF) == kAccept;
}

/// #UD is how TDCALL shows on a processor that has none. Everything else goes back to the guest.
Verdict TdxProcessor::invalid_opcode(Vcpu& vcpu) {
  std::array<std::byte, kTdcall.size()> code{};
  const std::size_t read = memory_.fetch(vcpu.save(), code);
  if (read != code.size() || code != kTdcall) {
    Reporter::add(view().reporter().counters().exits_other);
    vcpu.inject(Vcpu::kInvalidOpcode);
    return {};
  }
  if (!vcpu.in_64bit_mode() || vcpu.save().cpl != 0) {
    vcpu.inject_with_error(Vcpu::kGeneralProtection, 0);
    return {};
  }
  return module_.tdcall(vcpu);
}

void TdxProcessor::cpuid(Vcpu& vcpu) {
  constexpr std::uint32_t kExitReasonCpuid = 10;
  const bool user = vcpu.save().cpl != 0;
  if ((vcpu.cpuid_ve & (user ? 2 : 1)) != 0) {
    Reporter::add(view().reporter().counters().ve_injected);
    vcpu.inject_ve({.exit_reason = kExitReasonCpuid,
                    .instruction_length = kCpuidBytes,
                    .qualification = 0,
                    .linear_address = 0,
                    .gpa = 0});
    return;
  }
  const auto leaf = static_cast<std::uint32_t>(vcpu.gpr[kRax]);
  const auto subleaf = static_cast<std::uint32_t>(vcpu.gpr[kRcx]);
  const cpu::CpuidResult answer = tdx_cpuid(leaf, subleaf, vcpu.save().cr4);
  vcpu.gpr[kRax] = answer.eax;
  vcpu.gpr[kRbx] = answer.ebx;
  vcpu.gpr[kRcx] = answer.ecx;
  vcpu.gpr[kRdx] = answer.edx;
  vcpu.advance(kCpuidBytes);
}

}  // namespace accede::emulator
