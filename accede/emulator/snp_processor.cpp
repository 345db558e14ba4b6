#include "accede/emulator/snp_processor.hpp"

#include "accede/abi/rmp.hpp"
#include "accede/abi/sev.hpp"
#include "accede/emulator/cpuid.hpp"
#include "accede/emulator/exception_frame.hpp"

namespace accede::emulator {

using namespace std::string_view_literals;
namespace {

using svm::Exit;
using Code = std::array<std::byte, 4>;

constexpr Code code(unsigned prefix, unsigned last) {
  return {std::byte(prefix), std::byte{0x0F}, std::byte{0x01}, std::byte(last)};
}
constexpr Code kPvalidate = code(0xF2, 0xFF);
constexpr Code kRmpAdjust = code(0xF3, 0xFE);
constexpr Code kRmpQuery = code(0xF3, 0xFD);
constexpr Code kVmgexit = code(0xF3, 0xD9);
constexpr std::uint64_t kCodeBytes = 4;

/// #PF error codes of an operand's page (reference: SEV-SNP 1). A leaf without the C-bit counts as
/// one with a reserved bit; the exact code is UNCONFIRMED.
constexpr std::uint32_t kNotPresent = 0;
constexpr std::uint32_t kReservedBit = 0x9;

/// What hardware shows of SEV; bits of SEV_STATUS.
constexpr std::uint64_t kSevStatus =
    abi::sev::kStatusSev | abi::sev::kStatusSevEs | abi::sev::kStatusSevSnp;

/// EAX and the flags that go with it. RIP moves on.
void finish(Vcpu& vcpu, std::uint32_t eax, bool carry = false) {
  vcpu.gpr[kRax] = eax;
  std::uint64_t& flags = vcpu.save().rflags;
  flags = (flags & ~abi::rmp::kFlagsWritten) | abi::rmp::flags_of(eax, carry);
  vcpu.advance(kCodeBytes);
}

/// Whether #VC is to be injected.
bool is_vc(std::uint64_t event) {
  constexpr std::uint64_t kVc =
      svm::kEventValid | svm::kEventTypeException | svm::kEventHasError | Vcpu::kVmmCommunication;
  return (event & 0xFFFF'FFFF) == kVc;
}

Code instruction(const GuestMemory& memory, const Vcpu& vcpu) {
  Code bytes{};
  static_cast<void>(memory.fetch(vcpu.save(), bytes));
  return bytes;
}

}  // namespace

bool SnpProcessor::is_accept(const Vcpu& /*vcpu*/, Exit exit) {
  return exit == Exit::kExceptionUd || exit == Exit::kVmmcall || exit == Exit::kMsr;
}

/// A linear address that names the byte at `gpa` (with its C-bit) and that the instruction may well
/// have used: SVM does not tell. What a register points into, or the same address.
std::optional<std::uint64_t> SnpProcessor::find_linear(const Vcpu& vcpu, std::uint64_t gpa) const {
  constexpr std::uint64_t kInPage = 0xFFF;
  const auto names_it = [&](std::uint64_t pointer) {
    return memory_.translate(vcpu.save(), (pointer & ~kInPage) | (gpa & kInPage)) == gpa;
  };
  for (const std::uint64_t pointer : vcpu.gpr) {
    if (names_it(pointer)) {
      return (pointer & ~kInPage) | (gpa & kInPage);
    }
  }
  const std::uint64_t identity = gpa & ~NestedPageTable::kViewMask;
  return names_it(identity) ? std::optional{identity} : std::nullopt;
}

/// The linear address of a fetch from the page at `gpa`: of the instruction, or of its part on the
/// next page.
std::uint64_t SnpProcessor::fetched_from(const Vcpu& vcpu, std::uint64_t gpa) const {
  const VmcbSave& save = vcpu.save();
  const std::uint64_t rip =
      vcpu.in_64bit_mode() ? save.rip : (save.cs.base + save.rip) & 0xFFFF'FFFF;
  const std::optional<std::uint64_t> first = memory_.translate(save, rip);
  const bool on_this_page = !first || ((*first ^ gpa) & ~NestedPageTable::kViewMask) >> 12 == 0;
  return on_this_page ? rip : (rip | 0xFFF) + 1;
}

Verdict SnpProcessor::touch(Vcpu& vcpu, std::uint64_t gpa, std::uint64_t error) {
  const Verdict verdict = pages_.touch(vcpu, gpa, error);
  if (!verdict || !is_vc(vcpu.vmcb->control.event_injection)) {
    return verdict;
  }
  if ((error & svm::kNpfFetch) != 0) {
    vcpu.save().cr2 = fetched_from(vcpu, gpa);
  } else if ((error & svm::kNpfTableWalk) == 0) {
    vcpu.save().cr2 = find_linear(vcpu, gpa).value_or(vcpu.save().cr2);
  }
  return verdict;
}

void SnpProcessor::before_entry(Vcpu& vcpu) {
  std::uint64_t& event = vcpu.vmcb->control.event_injection;
  if (is_vc(event)) {
    const auto error = static_cast<std::uint32_t>(event >> 32);
    event = 0;
    deliver_with_error(memory_, vcpu, Vcpu::kVmmCommunication, error);
  }
}

Verdict SnpProcessor::invalid_opcode(Vcpu& vcpu) {
  const Code bytes = instruction(memory_, vcpu);
  const bool is_pvalidate = bytes == kPvalidate;
  const bool is_64bit = (bytes == kRmpAdjust || bytes == kRmpQuery) && vcpu.in_64bit_mode();
  if (!is_pvalidate && !is_64bit) {
    Reporter::add(view().reporter().counters().exits_other);
    vcpu.inject(Vcpu::kInvalidOpcode);
    return {};
  }
  if (vcpu.save().cpl != 0) {
    vcpu.inject_with_error(Vcpu::kGeneralProtection, 0);
    return {};
  }
  return is_pvalidate ? pvalidate(vcpu) : bytes == kRmpAdjust ? rmpadjust(vcpu) : rmpquery(vcpu);
}

/// The guest physical address (without the C-bit) of what RAX points to; else the exception is in
/// `vcpu`.
std::optional<PhysAddr> SnpProcessor::private_page(Vcpu& vcpu) {
  const std::uint64_t rax = vcpu.gpr[kRax];
  const std::uint64_t linear = vcpu.in_64bit_mode() ? rax : rax & 0xFFFF'FFFF;
  const std::optional<std::uint64_t> gpa = memory_.translate(vcpu.save(), linear);
  if (!gpa) {
    // Linux relies on it: during early boot it validates through mappings that its handler makes.
    vcpu.inject_page_fault(linear, kNotPresent);
    return std::nullopt;
  }
  if (view().tables().view_of(*gpa) != View::kPrivate) {
    view().reporter().violation({.gpa = *gpa,
                                 .rip = vcpu.save().rip,
                                 .count = 1,
                                 .kind = EventKind::kWrongCBit,
                                 .fatal = 0,
                                 .vcpu = vcpu.index,
                                 .detail = 0});
    vcpu.inject_page_fault(linear, kReservedBit);
    return std::nullopt;
  }
  return PhysAddr{*gpa & ~NestedPageTable::kViewMask};
}

Verdict SnpProcessor::pvalidate(Vcpu& vcpu) {
  const std::optional<PhysAddr> page = private_page(vcpu);
  if (!page) {
    return {};
  }
  const auto result = pages_.pvalidate(vcpu, *page, static_cast<std::uint32_t>(vcpu.gpr[kRcx]),
                                       (vcpu.gpr[kRdx] & 1) != 0);
  if (!result) {
    return std::unexpected{result.error()};
  }
  finish(vcpu, result->code, result->carry);
  return {};
}

Verdict SnpProcessor::rmpadjust(Vcpu& vcpu) {
  Reporter::add(view().reporter().counters().rmpadjust_calls);
  const std::optional<PhysAddr> page = private_page(vcpu);
  if (!page) {
    return {};
  }
  const auto result = pages_.rmpadjust(vcpu, *page, vcpu.gpr[kRcx], vcpu.gpr[kRdx]);
  if (!result) {
    return std::unexpected{result.error()};
  }
  if (*result) {
    finish(vcpu, static_cast<std::uint32_t>((*result)->code));
  } else {
    vcpu.save().cr2 = vcpu.gpr[kRax];
  }
  return {};
}

Verdict SnpProcessor::rmpquery(Vcpu& vcpu) {
  const std::optional<PhysAddr> page = private_page(vcpu);
  if (!page) {
    return {};
  }
  const auto result = pages_.rmpquery(vcpu, *page, vcpu.gpr[kRdx]);
  if (!result) {
    return std::unexpected{result.error()};
  }
  if (const auto& outcome = *result; outcome) {
    if (outcome->code == abi::rmp::RmpAdjustCode::kSuccess) {
      vcpu.gpr[kRcx] = outcome->rcx;
      vcpu.gpr[kRdx] = outcome->rdx;
    }
    finish(vcpu, static_cast<std::uint32_t>(outcome->code));
  } else {
    vcpu.save().cr2 = vcpu.gpr[kRax];
  }
  return {};
}

void SnpProcessor::cpuid(Vcpu& vcpu) {
  const auto leaf = static_cast<std::uint32_t>(vcpu.gpr[kRax]);
  const auto subleaf = static_cast<std::uint32_t>(vcpu.gpr[kRcx]);
  const cpu::CpuidResult answer = snp_cpuid(leaf, subleaf, vcpu.save().cr4);
  vcpu.gpr[kRax] = answer.eax;
  vcpu.gpr[kRbx] = answer.ebx;
  vcpu.gpr[kRcx] = answer.ecx;
  vcpu.gpr[kRdx] = answer.edx;
  constexpr std::uint64_t kCpuidBytes = 2;
  vcpu.advance(kCpuidBytes);
}

bool SnpProcessor::msr(Vcpu& vcpu, std::uint32_t index, bool is_write) {
  constexpr std::uint64_t kMsrBytes = 2;
  std::uint64_t& ghcb_msr = vcpus_[vcpu.index]->ghcb_msr;
  if (is_write && index == abi::ghcb::kMsrGhcb) {
    ghcb_msr = (vcpu.gpr[kRdx] << 32) | (vcpu.gpr[kRax] & 0xFFFF'FFFF);
  } else if (!is_write && (index == abi::ghcb::kMsrGhcb || index == abi::sev::kMsrSevStatus)) {
    const std::uint64_t value = index == abi::ghcb::kMsrGhcb ? ghcb_msr : kSevStatus;
    vcpu.gpr[kRax] = value & 0xFFFF'FFFF;
    vcpu.gpr[kRdx] = value >> 32;
  } else {
    return false;
  }
  vcpu.advance(kMsrBytes);
  return true;
}

std::expected<bool, Fault> SnpProcessor::vmmcall(Vcpu& vcpu) {
  if (instruction(memory_, vcpu) != kVmgexit) {
    return false;
  }
  SnpVcpu& own = *vcpus_[vcpu.index];
  own.calls.count(own.ghcb_msr);
  const host::GhcbOutcome outcome = own.ghcb.exit(own.ghcb_msr);
  if (view().exhausted()) {
    return std::unexpected{
        GuestView::out_of_storage(PhysAddr{own.ghcb_msr & ~0xFFFULL}, "VMGEXIT"sv)};
  }
  if (Verdict verdict = go_on(vcpu, outcome); !verdict) {
    return std::unexpected{verdict.error()};
  }
  return true;
}

Verdict SnpProcessor::go_on(Vcpu& vcpu, const host::GhcbOutcome& outcome) {
  SnpVcpu& own = *vcpus_[vcpu.index];
  switch (outcome.next) {
    case host::GhcbNext::kHold:
      return std::unexpected{
          Fault{.kind = EventKind::kHaltedForEver,
                .state = "AP reset hold"sv,
                .message = "the guest's only processor waits for another one to start it"sv}};
    case host::GhcbNext::kResume:
      break;
    case host::GhcbNext::kTerminate:
      return std::unexpected{
          Fault{.kind = EventKind::kGuestTermination,
                .state = name_of(outcome.reason),
                .message = describe(outcome, own.last_words),
                .detail = std::uint32_t{outcome.reason.set} << 8 | outcome.reason.code}};
    case host::GhcbNext::kStop:
      return std::unexpected{Fault{.kind = EventKind::kBadGhcb,
                                   .gpa = own.ghcb_msr,
                                   .state = host::name(outcome.mistake),
                                   .message = describe(outcome, own.last_words),
                                   .detail = static_cast<std::uint32_t>(outcome.mistake) << 8}};
  }
  own.ghcb_msr = outcome.msr;
  vcpu.advance(kCodeBytes);
  return {};
}

}  // namespace accede::emulator
