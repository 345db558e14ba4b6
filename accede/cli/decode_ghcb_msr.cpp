#include "accede/abi/ghcb_msr.hpp"
#include "accede/cli/decode_reading.hpp"
#include "accede/cli/size_text.hpp"

#include <array>

namespace accede::cli {
namespace {

namespace ghcb = abi::ghcb;
using ghcb::MsrCode;
using ghcb::MsrWord;

constexpr std::string_view kNormal = "a normal step of the guest's start";
constexpr std::string_view kMultiVmpl = "an SVSM hands over";

constexpr auto kTexts = std::to_array<CodeText>({
    {"SEV information response", "protocol versions and the C-bit, by the host or from reset",
     kNormal},
    {"SEV information request", "the guest asks for protocol versions and the C-bit", kNormal},
    {"CPUID request", "the guest asks for one register of a CPUID leaf",
     "no GHCB page yet, or a leaf that the CPUID page leaves to the host"},
    {"CPUID response", "the host's value of the register", kNormal},
    {"AP reset hold request", "a processor waits for its start", "a secondary CPU in the firmware"},
    {"AP reset hold response", "the processor may start", "a secondary CPU in the firmware"},
    {"preferred GHCB request", "the guest asks where its GHCB shall be", kNormal},
    {"preferred GHCB response", "where the host wants the GHCB", kNormal},
    {"register GHCB request", "the guest tells where its GHCB is", kNormal},
    {"register GHCB response", "the host accepts the address, or refuses with another one",
     "all ones: the host refuses; Linux then ends with 1:0"},
    {"page state change request", "the guest wants a 4 KiB page private or shared",
     "firmware and early kernel, before the GHCB page works"},
    {"page state change response", "0: done; else the host's error",
     "an error: the host has no memory for the page, or did not enable page conversion"},
    {"run VMPL request", "the guest wants to go on at another VMPL", kMultiVmpl},
    {"run VMPL response", "the host's answer: 0 is success", kMultiVmpl},
    {"hypervisor features request", "the guest asks for the host's features", kNormal},
    {"hypervisor features response", "the host's features as bits", kNormal},
});

std::string hex_field(std::string_view what, std::uint64_t value) {
  return std::string{what} + " " + format_hex(value);
}

/// Whether the bits of a word make sense under its code: most numbers are no words.
bool plausible(std::uint64_t word) {
  const std::uint64_t payload = MsrWord::Payload::get(word);
  const bool is_page_number = payload >> 40 == 0 || payload == ghcb::kNoGhcb;
  switch (ghcb::code_of(word)) {
    case MsrCode::kSevInfoResponse: {
      const ghcb::SevInfo info = ghcb::sev_info_of(word).value();
      return info.min_version >= 1 && info.min_version <= info.max_version &&
             info.max_version <= 0xFF && info.c_bit >= 32 && info.c_bit < 64;
    }
    case MsrCode::kCpuidRequest:
    case MsrCode::kCpuidResponse:
      return MsrWord::CpuidReserved::get(word) == 0;
    case MsrCode::kApResetHoldResponse:
      return payload <= 1;
    case MsrCode::kPreferredGhcbResponse:
    case MsrCode::kRegisterGhcbRequest:
    case MsrCode::kRegisterGhcbResponse:
      return is_page_number;
    case MsrCode::kPageStateRequest:
      return MsrWord::PageStateReserved::get(word) == 0 &&
             name_of(ghcb::page_state_op(word)) != "unknown";
    case MsrCode::kPageStateResponse:
      return ghcb::page_state_error_of(word).has_value();
    case MsrCode::kRunVmplRequest:
      return MsrWord::RunVmpl::set(word, 0) == static_cast<std::uint64_t>(MsrCode::kRunVmplRequest);
    case MsrCode::kRunVmplResponse:
      return (payload & 0xF'FFFF) == 0;
    case MsrCode::kHvFeaturesResponse:
      return payload >> 16 == 0;
    case MsrCode::kTerminateRequest:
      return payload >> 12 == 0;
    default:
      return payload == 0;
  }
}

std::string cpuid_operand(std::uint64_t word, std::string_view what) {
  constexpr std::array kRegisters{"EAX", "EBX", "ECX", "EDX"};
  return hex_field(what, MsrWord::CpuidFunction::get(word)) + ", register " +
         kRegisters[MsrWord::CpuidRegister::get(word)];
}

/// What the word carries besides its code.
std::string operand_of(std::uint64_t word) {
  const std::uint64_t payload = MsrWord::Payload::get(word);
  switch (ghcb::code_of(word)) {
    case MsrCode::kSevInfoResponse: {
      const ghcb::SevInfo info = ghcb::sev_info_of(word).value();
      return "versions " + std::to_string(info.min_version) + " to " +
             std::to_string(info.max_version) + ", C-bit " + std::to_string(info.c_bit);
    }
    case MsrCode::kCpuidRequest:
      return cpuid_operand(word, "leaf");
    case MsrCode::kCpuidResponse:
      return cpuid_operand(word, "value");
    case MsrCode::kApResetHoldResponse:
      return "started " + std::to_string(payload);
    case MsrCode::kPreferredGhcbResponse:
    case MsrCode::kRegisterGhcbResponse:
      return payload == ghcb::kNoGhcb ? "none (all ones)" : hex_field("GPA", payload << 12);
    case MsrCode::kRegisterGhcbRequest:
      return hex_field("GPA", payload << 12);
    case MsrCode::kPageStateRequest:
      return hex_field("GPA", ghcb::page_state_gpa(word).value()) + ", to " +
             std::string{name_of(ghcb::page_state_op(word))};
    case MsrCode::kPageStateResponse:
      return hex_field("error", MsrWord::PageStateError::get(word));
    case MsrCode::kRunVmplRequest:
      return "VMPL " + std::to_string(MsrWord::RunVmpl::get(word));
    case MsrCode::kRunVmplResponse:
      return hex_field("error", MsrWord::PageStateError::get(word));
    case MsrCode::kHvFeaturesResponse:
      return hex_field("bits", payload);
    default:
      return "";
  }
}

/// A termination request says most by its reason.
Reading termination_request(std::uint64_t word) {
  const ghcb::TerminateReason reason = ghcb::terminate_reason_of(word);
  const auto known = read_termination_reason(reason.set, reason.code);
  const std::string numbers = std::to_string(reason.set) + ":" + std::to_string(reason.code);
  return {.family = "ghcb-msr",
          .code = format_hex(word),
          .name = std::string{name_of(MsrCode::kTerminateRequest)},
          .kind = "GHCB MSR word",
          .operand = "set:code " + numbers + " (" + std::string{name_of(reason)} + ")",
          .meaning = known ? "the guest asks to be ended: " + known->meaning
                           : "the guest asks to be ended, for a reason of its own list",
          .usual_cause = known ? known->usual_cause : "look into the source of the guest"};
}

}  // namespace

std::optional<Reading> read_ghcb_msr(std::uint64_t code, bool asked) {
  const MsrCode kind = ghcb::code_of(code);
  if (asked && static_cast<std::uint64_t>(kind) == 0 && code != 0) {
    return Reading{.family = "ghcb-msr",
                   .code = format_hex(code),
                   .name = "GHCB address",
                   .kind = "GHCB MSR word",
                   .operand = hex_field("GPA", code),
                   .meaning = "no protocol word: the request is in the GHCB page at this address",
                   .usual_cause = "every exit of a guest with a GHCB page"};
  }
  if (name_of(kind) == "unknown" || (!asked && !plausible(code))) {
    return std::nullopt;
  }
  if (kind == MsrCode::kTerminateRequest) {
    return termination_request(code);
  }
  const CodeText text = find_text(kTexts, name_of(kind)).value_or(CodeText{});
  return Reading{.family = "ghcb-msr",
                 .code = format_hex(code),
                 .name = std::string{name_of(kind)},
                 .kind = "GHCB MSR word",
                 .operand = operand_of(code),
                 .meaning = std::string{text.meaning},
                 .usual_cause = std::string{text.usual_cause}};
}

}  // namespace accede::cli
