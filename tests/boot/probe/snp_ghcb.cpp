// The MSR protocol, whose page may be a GHCB, and how a guest asks to be ended.

#include "accede/emulator/cpu.hpp"
#include "tests/boot/probe/snp.hpp"

namespace probe {
namespace {

namespace cpu = accede::emulator::cpu;
using ghcb::CpuidRegister;
using ghcb::ExitCode;
using ghcb::MsrCode;
using ghcb::PageOp;

constexpr std::uint64_t kSevInfo =
    ghcb::sev_info_response({.max_version = 2, .min_version = 1, .c_bit = 47});
constexpr std::uint64_t kRefusedPage =
    ghcb::msr_word(MsrCode::kRegisterGhcbResponse, ghcb::kNoGhcb);

std::uint64_t code(ExitCode exit) {
  return static_cast<std::uint64_t>(exit);
}

/// What the MSR holds before anybody used it.
void msr_at_reset(Probe& probe) {
  probe.expect("SEV information", cpu::read_msr(ghcb::kMsrGhcb), kSevInfo);
}

void msr_requests(Probe& probe) {
  probe.expect("SEV information", vmgexit(ghcb::msr_word(MsrCode::kSevInfoRequest)), kSevInfo);
  probe.expect("hypervisor features: SNP", vmgexit(ghcb::msr_word(MsrCode::kHvFeaturesRequest)),
               ghcb::msr_word(MsrCode::kHvFeaturesResponse, ghcb::kHvFeatureSnp));
  probe.expect("preferred GHCB: none", vmgexit(ghcb::msr_word(MsrCode::kPreferredGhcbRequest)),
               ghcb::msr_word(MsrCode::kPreferredGhcbResponse, ghcb::kNoGhcb));
  // The MSR is the guest's own between two exits.
  constexpr std::uint64_t kAnything = 0x1234'5678'9ABC'DEF0;
  cpu::write_msr(ghcb::kMsrGhcb, kAnything);
  probe.expect("RDMSR", cpu::read_msr(ghcb::kMsrGhcb), kAnything);
}

/// The same answers as the instruction gives, a register at a time.
void msr_cpuid(Probe& probe) {
  for (const std::uint32_t leaf :
       {0U, 1U, 7U, 0xDU, 0x21U, 0x4000'0000U, 0x8000'0000U, 0x8000'0008U, 0x8000'001FU}) {
    const cpu::CpuidResult direct = cpu::cpuid(leaf, 0);
    const std::array registers{direct.eax, direct.ebx, direct.ecx, direct.edx};
    for (std::size_t i = 0; i < registers.size(); ++i) {
      const auto which = static_cast<CpuidRegister>(i);
      probe.expect("the response", vmgexit(ghcb::cpuid_request(leaf, which)),
                   ghcb::cpuid_response(registers[i], which));
    }
  }
}

/// Nothing is answered and the guest goes on.
void unknown_msr_codes(Probe& probe) {
  for (const std::uint64_t unknown : {0x001, 0x003, 0x005, 0x008, 0x016, 0x101, 0x200, 0xFFF}) {
    const std::uint64_t word = 0xABCD'0000'0000'0000 | unknown;
    probe.expect("the MSR stays", vmgexit(word), word);
  }
}

/// VMGEXIT with a page that is none, or is not the host's to read: the guest goes on as it was.
void expect_ignored(Probe& probe, std::string_view what, std::uint64_t msr) {
  probe.expect(what, vmgexit(msr), msr);
}

void registration(Probe& probe) {
  const Ghcb host{probe};
  for (const std::uint64_t gpa :
       {0ULL, 1ULL << 47, 1ULL << 51, (1ULL << 52) - 4096, 0xFFFF'FFFF'FFFF'F000ULL}) {
    probe.expect("an address that is none",
                 vmgexit(gpa | static_cast<std::uint64_t>(MsrCode::kRegisterGhcbRequest)),
                 kRefusedPage);
  }
  const GhcbAnswer answer = host.call({.code = code(ExitCode::kHvFeatures)});
  probe.expect("the page before stays registered", answer.info2, ghcb::kHvFeatureSnp);
  expect_ignored(probe, "no page", 0);
  expect_ignored(probe, "a page beyond the width", 1ULL << 47);
}

/// A page without the host's knowledge is nobody's: the host can read shared memory alone.
void private_page(Probe& probe) {
  const Ghcb host{probe};
  const PhysAddr page = take_validated_unit(probe);
  const auto field = [&](std::size_t offset) { return at_private(page + Bytes{offset}); };
  store<std::uint64_t>(field(offsetof(ghcb::GhcbPage, sw_exit_code)), code(ExitCode::kHvFeatures));
  store<std::uint64_t>(field(offsetof(ghcb::GhcbPage, valid_bitmap)), ~0ULL);
  store<std::uint64_t>(field(offsetof(ghcb::GhcbPage, valid_bitmap) + 8), ~0ULL);
  probe.expect("registered", vmgexit(ghcb::register_ghcb_request(page)),
               ghcb::register_ghcb_response(page));
  expect_ignored(probe, "a private page", page.value());
  probe.expect("sw_exit_info_2 stays",
               load<std::uint64_t>(field(offsetof(ghcb::GhcbPage, sw_exit_info_2))), 0);
  probe.expect("the valid bitmap stays",
               load<std::uint64_t>(field(offsetof(ghcb::GhcbPage, valid_bitmap))), ~0ULL);

  // Shared, it is as good as any other: also with the rest of its unit private.
  probe.expect("to shared", change_page(page, PageOp::kShared), kPageStateDone);
  expect_ignored(probe, "a shared page without a request", page.value());
  probe.expect(
      "its answer: missing input",
      load<std::uint64_t>(at_shared(page + Bytes{offsetof(ghcb::GhcbPage, sw_exit_info_2)})),
      static_cast<std::uint64_t>(ghcb::MalformedReason::kMissingInput));
}

/// The emulator's own memory is no GHCB, whatever was asked of the host before.
void emulator_page(Probe& probe) {
  const PhysAddr target = probe.emulator_unit();
  probe.expect("registered", vmgexit(ghcb::register_ghcb_request(target)),
               ghcb::register_ghcb_response(target));
  expect_ignored(probe, "private as it is", target.value());
  probe.expect("to shared", change_page(target, PageOp::kShared), kPageStateDone);
  expect_ignored(probe, "as if it were shared", target.value());
}

// --- Each of these ends the guest
// --------------------------------------------------------------------

/// A shared page that another one took the place of.
void unregistered_page(Probe& probe) {
  const Ghcb host{probe};
  const PhysAddr other = probe.take_unit();
  probe.expect("to shared", change_page(other, PageOp::kShared), kPageStateDone);
  static_cast<void>(vmgexit(other.value()));
  probe.survived();
}

/// A #VC that the guest cannot handle.
void unsupported_event(Probe& probe) {
  const Ghcb host{probe};
  host.write({.code = code(ExitCode::kUnsupported), .info1 = 0x404});
  static_cast<void>(vmgexit(host.gpa().value()));
  probe.survived();
}

/// As Linux when PVALIDATE fails.
void terminate_by_msr(Probe& probe) {
  static_cast<void>(vmgexit(ghcb::terminate_request(ghcb::kTerminateLinuxPvalidate)));
  probe.survived();
}

/// With a word for the host: Linux says which features it does not know.
void terminate_by_page(Probe& probe) {
  const Ghcb host{probe};
  const ghcb::TerminateReason reason = ghcb::kTerminateSnpFeatures;
  const std::uint64_t info =
      ghcb::TerminateInfo::Code::set(ghcb::TerminateInfo::Set::set(0, reason.set), reason.code);
  host.write({.code = code(ExitCode::kTerminate), .info1 = info, .info2 = 0xACCE'DE00});
  static_cast<void>(vmgexit(host.gpa().value()));
  probe.survived();
}

constexpr auto kScenarios = std::to_array<Scenario>({
    {"snp-msr-at-reset", msr_at_reset},
    {"snp-msr-requests", msr_requests},
    {"snp-msr-cpuid", msr_cpuid},
    {"snp-unknown-msr-codes", unknown_msr_codes},
    {"snp-registration", registration},
    {"snp-private-page", private_page},
    {"snp-emulator-page", emulator_page},
    {"snp-unregistered-page", unregistered_page},
    {"snp-unsupported-event", unsupported_event},
    {"snp-terminate-by-msr", terminate_by_msr},
    {"snp-terminate-by-page", terminate_by_page},
});

}  // namespace

std::span<const Scenario> snp_ghcb_scenarios() {
  return kScenarios;
}

}  // namespace probe
