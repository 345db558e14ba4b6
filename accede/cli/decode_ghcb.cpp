#include "accede/abi/ghcb_exits.hpp"
#include "accede/abi/ghcb_psc.hpp"
#include "accede/cli/decode_reading.hpp"
#include "accede/cli/size_text.hpp"

#include <array>

namespace accede::cli {
namespace {

namespace ghcb = abi::ghcb;

constexpr std::string_view kIntercepted = "the host intercepts it, the guest's #VC handler asks";
constexpr std::string_view kSvsm = "a guest with an SVSM or restricted injection";

constexpr auto kExits = std::to_array<CodeText>({
    {"DR7 read", "the guest reads DR7", "debugging"},
    {"DR7 write", "the guest writes DR7", "debugging"},
    {"RDTSC", "the guest reads the time-stamp counter", kIntercepted},
    {"RDPMC", "the guest reads a performance counter", kIntercepted},
    {"CPUID", "the guest asks for a CPUID leaf", "every CPUID raises #VC in an SNP guest"},
    {"INVD", "the guest drops caches", "firmware code; Linux refuses"},
    {"IOIO", "the guest does port I/O", "every IN and OUT raises #VC: serial console, PCI"},
    {"MSR", "the guest reads or writes an MSR", kIntercepted},
    {"VMMCALL", "the guest calls the host", "paravirtual calls"},
    {"RDTSCP", "the guest reads time-stamp counter and CPU number", kIntercepted},
    {"WBINVD", "the guest writes caches back", kIntercepted},
    {"MONITOR", "the guest watches an address", kIntercepted},
    {"MWAIT", "the guest waits for a write", kIntercepted},
    {"MMIO read", "the guest reads a device's memory", "#VC of an access to MMIO"},
    {"MMIO write", "the guest writes a device's memory", "#VC of an access to MMIO"},
    {"NMI complete", "the guest is done with an NMI", "the end of an NMI handler"},
    {"AP HLT loop", "a secondary CPU waits for its start", "firmware, CPU hot-unplug, kexec"},
    {"AP jump table", "address of the secondary CPUs' start code", "SEV-ES; SNP reads secrets"},
    {"page state change", "a list of pages becomes private or shared",
     "accepting memory, shared buffers (swiotlb)"},
    {"guest request", "a message to the SEV firmware", "attestation: the device sev-guest"},
    {"extended guest request", "a message to the SEV firmware, with certificates",
     "attestation: the device sev-guest"},
    {"AP creation", "a vCPU is created or destroyed", "Linux starts its secondary CPUs"},
    {"#HV doorbell", "the guest tells where the host rings", kSvsm},
    {"#HV IPI", "the guest sends an interrupt to another vCPU", kSvsm},
    {"APIC ID list", "the guest asks for the list of vCPUs", kSvsm},
    {"run VMPL", "the guest goes on at another VMPL", kSvsm},
    {"hypervisor features", "the guest asks for the host's features", "once, at start"},
    {"termination", "the guest asks to be ended",
     "a fatal error in the guest: decode sw_exit_info_1 as sev-term"},
    {"unsupported event", "the guest met a #VC that it cannot handle",
     "an intercept that the guest does not know; sw_exit_info_1 has its code"},
});

struct ErrorText {
  std::uint64_t code;
  CodeText text;
};
constexpr std::uint64_t kVmmErrorShift = 32;
constexpr auto kErrors = std::to_array<ErrorText>({
    {1,
     {"GHCB not registered", "the host does not know this GHCB page",
      "an exit by page before the registration by MSR word 0x012"}},
    {2,
     {"bad usage", "ghcb_usage is not 0, or the request does not fit",
      "memory of the page overwritten, or a vCPU created with wrong data"}},
    {3,
     {"bad scratch area", "sw_scratch points to memory that cannot be used",
      "outside of the GHCB's shared buffer and private, or too long"}},
    {4,
     {"missing input", "a register that the request needs is not marked valid",
      "the guest did not set its bit in valid_bitmap"}},
    {5, {"invalid input", "a register has a value that the request refuses", "a wrong operand"}},
    {6,
     {"invalid event", "the host does not know the exit code",
      "an optional request under a host without it"}},
    {std::uint64_t{ghcb::kVmmErrorBufferTooSmall} << kVmmErrorShift,
     {"buffer too small", "extended guest request: RBX has the pages needed",
      "normal for the first request: retry with a larger buffer"}},
    {std::uint64_t{ghcb::kVmmErrorBusy} << kVmmErrorShift,
     {"busy", "guest request: the host is busy or limits the rate", "retry later"}},
    {static_cast<std::uint64_t>(ghcb::PscResult::kBadHeader),
     {"bad header", "page state change: the header of the list is wrong",
      "an end entry beyond 252, or before the current one"}},
    {static_cast<std::uint64_t>(ghcb::PscResult::kBadEntry),
     {"bad entry", "page state change: an entry of the list is wrong",
      "an unknown operation, or a 2M entry that is not 2M-aligned"}},
    {static_cast<std::uint64_t>(ghcb::PscResult::kGeneric),
     {"refused by the host", "page state change: the host could not do it",
      "no memory left, or the VMM does not handle page conversion (KVM_CAP_EXIT_HYPERCALL)"}},
    {ghcb::EventInjection::exception(6),
     {"inject #UD", "the host wants the guest to take #UD", "an instruction the host lacks"}},
    {ghcb::EventInjection::exception(ghcb::kVectorGeneralProtection),
     {"inject #GP", "the host wants the guest to take #GP",
      "an MSR that the host does not know: Linux prints unchecked MSR access"}},
});

constexpr auto kReasons = std::to_array<CodeText>({
    {"general failure", "something failed for which there is no code",
     "Linux: a #VC that it could not handle (touch of unaccepted memory, an instruction it does "
     "not "
     "emulate), a malformed answer of the host; EDK II: a page state change failed"},
    {"unsupported protocol version", "guest and host have no GHCB protocol version in common",
     "a host that offers only version 1, or a guest newer than the host"},
    {"SNP features unsupported",
     "the platform has features that the guest does not know, or lacks SNP",
     "SEV_STATUS bits that this kernel does not know (secure TSC, restricted injection, ...): a "
     "newer "
     "kernel or fewer features; hypervisor features without SNP"},
    {"GHCB registration failed", "the host did not accept the GHCB's address", "a host fault"},
    {"page state change failed", "the host did not make pages private or shared",
     "the host is out of memory or does not handle conversions; or it changed the list wrongly"},
    {"PVALIDATE failed", "PVALIDATE did not change a page as asked",
     "the page was validated before (double accept, kexec, a host that replays), or not assigned"},
    {"not at VMPL 0", "the kernel runs at a VMPL other than 0 and there is no SVSM",
     "a paravisor or SVSM that the kernel does not know"},
    {"CPUID table missing or bad", "the CPUID page cannot be used",
     "the VMM gave none, or with more than 64 entries; firmware without the SNP metadata"},
    {"CPUID by the hypervisor failed", "the host did not answer a CPUID leaf",
     "a host without CPUID by MSR protocol"},
    {"secrets page invalid", "the secrets page cannot be used",
     "firmware without the SNP metadata"},
    {"no SVSM", "the kernel is not at VMPL 0 and finds no SVSM",
     "no calling area in the secrets page"},
    {"SVSM at VMPL 0", "an SVSM is announced, but the kernel is at VMPL 0", "a wrong secrets page"},
    {"SVSM calling area misaligned", "the SVSM's calling area is not page-aligned",
     "a wrong secrets page"},
});

Reading reading_of(std::string_view family, std::string code, std::string_view kind,
                   const CodeText& text) {
  return {.family = std::string{family},
          .code = std::move(code),
          .name = std::string{text.name},
          .kind = std::string{kind},
          .operand = {},
          .meaning = std::string{text.meaning},
          .usual_cause = std::string{text.usual_cause}};
}

}  // namespace

std::optional<Reading> read_ghcb_exit(std::uint64_t code, bool /*asked*/) {
  const auto text = find_text(kExits, name_of(static_cast<ghcb::ExitCode>(code)));
  if (!text) {
    return std::nullopt;
  }
  return reading_of("ghcb-exit", format_hex(code), "GHCB exit code (sw_exit_code)", *text);
}

std::optional<Reading> read_ghcb_error(std::uint64_t code, bool /*asked*/) {
  for (const ErrorText& entry : kErrors) {
    if (entry.code == code) {
      return reading_of("ghcb-error", format_hex(code), "GHCB error (sw_exit_info_2)", entry.text);
    }
  }
  return std::nullopt;
}

std::optional<Reading> read_termination_reason(std::uint8_t set, std::uint8_t code) {
  const auto text = find_text(kReasons, name_of(ghcb::TerminateReason{.set = set, .code = code}));
  if (!text) {
    return std::nullopt;
  }
  return reading_of("sev-term", std::to_string(set) + ":" + std::to_string(code),
                    set == 0 ? "SEV termination, general" : "SEV termination, Linux", *text);
}

/// The MSR word (code 0x100) and sw_exit_info_1 of a termination hold the reason in other places.
/// Without a prefix the word is read as a word of the MSR protocol.
std::optional<Reading> read_sev_termination(std::uint64_t code, bool asked) {
  if (!asked) {
    return std::nullopt;
  }
  const bool is_word = ghcb::code_of(code) == ghcb::MsrCode::kTerminateRequest;
  if (code >> (is_word ? 24 : 12) != 0) {
    return std::nullopt;
  }
  const ghcb::TerminateReason reason =
      is_word ? ghcb::terminate_reason_of(code) : ghcb::TerminateInfo::reason(code);
  return read_termination_reason(reason.set, reason.code);
}

}  // namespace accede::cli
