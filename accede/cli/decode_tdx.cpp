#include "accede/abi/tdx_status_names.hpp"
#include "accede/abi/tdx_vmcall.hpp"
#include "accede/base/bit_field.hpp"
#include "accede/cli/decode_reading.hpp"
#include "accede/cli/size_text.hpp"

#include <array>

namespace accede::cli {
namespace {

namespace tdx = abi::tdx;

struct ClassName {
  std::uint8_t number;
  std::string_view name;
};
constexpr auto kClasses = std::to_array<ClassName>({
    {0x00, "general"},
    {0x01, "operand"},
    {0x02, "busy"},
    {0x03, "page metadata"},
    {0x04, "associated pages"},
    {0x05, "module start"},
    {0x06, "TD state"},
    {0x07, "vCPU state"},
    {0x08, "keys"},
    {0x09, "platform"},
    {0x0A, "TDMR"},
    {0x0B, "secure EPT"},
    {0x0C, "metadata field"},
    {0x0D, "service TD"},
    {0x0E, "migration"},
    {0x10, "report"},
    {0x11, "nested VM"},
});
using ClassField = BitField<std::uint64_t, 47, 40>;

/// "TDX status: operand, error, non-recoverable".
std::string kind_of(std::uint64_t word) {
  std::string kind = "TDX status";
  for (const ClassName& entry : kClasses) {
    if (entry.number == ClassField::get(word)) {
      kind += ": " + std::string{entry.name};
    }
  }
  const bool success = tdx::code_of(word) == tdx::Status::kSuccess;
  kind += success ? "" : tdx::is_error(word) ? ", error" : ", no error";
  kind += (word >> 62 & 1) != 0 ? ", non-recoverable" : "";
  kind += (word >> 61 & 1) != 0 ? ", fatal" : "";
  return kind;
}

/// What bits 31:0 say under this code.
std::string operand_of(std::uint64_t word) {
  using enum tdx::Status;
  const std::uint32_t details = tdx::details_of(word);
  const tdx::Status code = tdx::code_of(word);
  if (code == kPageAlreadyAccepted || code == kPageSizeMismatch) {
    constexpr std::array kLevels{"level 0 (4 KiB)", "level 1 (2 MiB)", "level 2 (1 GiB)"};
    return details < kLevels.size() ? kLevels[details] : "level " + std::to_string(details);
  }
  if (code == kSuccess || code == kNonRecoverableVcpu || code == kNonRecoverableTd) {
    return details == 0 ? "" : "VMX exit reason " + std::to_string(details & 0xFFFF);
  }
  const std::uint64_t kind = ClassField::get(word);
  const bool blames_operand = kind >= 0x01 && kind <= 0x03;
  const auto name = tdx::any_name_of(static_cast<tdx::Operand>(details));
  if ((blames_operand || (details != 0 && kind != 0x09 && kind != 0x0A)) && name) {
    return std::string{*name} + " (operand id " + std::to_string(details) + ")";
  }
  return details == 0 ? "" : "details " + format_hex(details);
}

/// The words of Linux for a SEAMCALL that never reached the module.
std::optional<Reading> read_refused_seamcall(std::uint64_t code) {
  Reading reading{.family = "tdx",
                  .code = format_hex(code),
                  .name = {},
                  .kind = "Linux: a SEAMCALL that did not reach the module",
                  .operand = {},
                  .meaning = {},
                  .usual_cause = {}};
  switch (code) {
    case tdx::kSeamcallVmfailInvalid:
      reading.name = "SEAMCALL_VMFAILINVALID";
      reading.meaning = "SEAMCALL found no module";
      reading.usual_cause = "the BIOS or loader did not load the TDX module, or it was shut down";
      return reading;
    case tdx::kSeamcallUndefinedOpcode:
      reading.name = "SEAMCALL_UD";
      reading.operand = "vector 6 (#UD)";
      reading.meaning = "SEAMCALL is no instruction here";
      reading.usual_cause = "the CPU is not in VMX operation (load kvm_intel), or a VM without TDX";
      return reading;
    case tdx::kSeamcallGeneralProtection:
      reading.name = "SEAMCALL_GP";
      reading.operand = "vector 13 (#GP)";
      reading.meaning = "SEAMCALL is not allowed";
      reading.usual_cause = "TDX is not enabled in the BIOS";
      return reading;
    default:
      return std::nullopt;
  }
}

}  // namespace

std::optional<Reading> read_tdx(std::uint64_t code, bool asked) {
  if (auto refused = read_refused_seamcall(code)) {
    return refused;
  }
  const auto name = tdx::any_name_of(tdx::code_of(code));
  // Any number below 4 Gi looks like success with details.
  const bool plain_number = code != 0 && code >> 32 == 0;
  if (!name || (plain_number && !asked)) {
    return std::nullopt;
  }
  CodeText text{.name = *name, .meaning = {}, .usual_cause = {}};
  for (const auto texts : {tdx_guest_texts(), tdx_host_texts(), tdx_migration_texts()}) {
    text = find_text(texts, *name).value_or(text);
  }
  return Reading{.family = "tdx",
                 .code = format_hex(code),
                 .name = std::string{*name},
                 .kind = kind_of(code),
                 .operand = operand_of(code),
                 .meaning = std::string{text.meaning},
                 .usual_cause = std::string{text.usual_cause}};
}

std::optional<Reading> read_vmcall(std::uint64_t code, bool /*asked*/) {
  constexpr auto kTexts = std::to_array<CodeText>({
      {"SUCCESS", "the host did what was asked", "nothing is wrong"},
      {"RETRY", "the host did a part; go on where R11 says",
       "normal for MapGPA over a large range: call again from the GPA in R11"},
      {"INVALID_OPERAND", "the host refuses an operand",
       "MapGPA: no bytes, wrap, a GPA beyond GPAW, or the shared bit differs between first and "
       "last "
       "byte; an unknown sub-function under older hosts"},
      {"GPA_INUSE", "the GPA is in use", "MapGPA or GetQuote on a page that the host works on"},
      {"ALIGN_ERROR", "an address or size is not aligned", "MapGPA: not a multiple of 4 KiB"},
      {"SUBFUNC_UNSUPPORTED", "the host does not have this sub-function",
       "an optional call such as GetQuote under a host without it"},
  });
  const auto text = find_text(kTexts, name_of(static_cast<tdx::VmcallStatus>(code)));
  if (!text) {
    return std::nullopt;
  }
  return Reading{.family = "vmcall",
                 .code = format_hex(code),
                 .name = std::string{text->name},
                 .kind = "TDVMCALL status (R10)",
                 .operand = code == 1 ? "R11 (next GPA)" : "",
                 .meaning = std::string{text->meaning},
                 .usual_cause = std::string{text->usual_cause}};
}

}  // namespace accede::cli
