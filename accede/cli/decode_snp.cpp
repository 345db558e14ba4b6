#include "accede/abi/efi_status_names.hpp"
#include "accede/abi/rmp.hpp"
#include "accede/abi/snp_firmware_status.hpp"
#include "accede/cli/decode_reading.hpp"
#include "accede/cli/size_text.hpp"

#include <array>

namespace accede::cli {
namespace {

constexpr std::string_view kSuccessMeaning = "the instruction did what was asked";
constexpr std::string_view kHostRace = "another CPU works on the same entry: Linux retries";

/// A code of an instruction and its text.
struct InstructionText {
  std::uint64_t code;
  CodeText text;
};

std::optional<Reading> find(std::span<const InstructionText> texts, std::uint64_t code,
                            std::string_view family, std::string_view kind,
                            std::string_view operand = {}) {
  for (const InstructionText& entry : texts) {
    if (entry.code == code) {
      return Reading{.family = std::string{family},
                     .code = format_hex(code),
                     .name = std::string{entry.text.name},
                     .kind = std::string{kind},
                     .operand = std::string{operand},
                     .meaning = std::string{entry.text.meaning},
                     .usual_cause = std::string{entry.text.usual_cause}};
    }
  }
  return std::nullopt;
}

/// A reading whose name has its text in a list.
std::optional<Reading> named(std::optional<std::string_view> name, std::span<const CodeText> texts,
                             std::uint64_t code, std::string_view family, std::string_view kind) {
  const auto text = name ? find_text(texts, *name) : std::nullopt;
  if (!text) {
    return std::nullopt;
  }
  const std::array one{InstructionText{.code = code, .text = *text}};
  return find(one, code, family, kind);
}

}  // namespace

std::optional<Reading> read_pvalidate(std::uint64_t code, bool /*asked*/) {
  using enum abi::rmp::PvalidateCode;
  static constexpr auto kTexts = std::to_array<InstructionText>({
      {0,
       {name_of(kSuccess), "the page is as asked, if the carry flag is clear",
        "nothing is wrong; with the carry flag set nothing changed: the page was so already"}},
      {1,
       {name_of(kFailInput), "an operand is wrong",
        "a size other than 0 or 1 in ECX, or an address not aligned to the size"}},
      {6,
       {name_of(kFailSizeMismatch), "2 MiB asked for, but the RMP entry is 4 KiB",
        "the host backs memory in 4K pages, or smashed the entry: validate each 4K page"}},
      {abi::rmp::kPvalidateNoUpdate,
       {"FAIL_NOUPDATE", "software's code for success with the carry flag set; never in EAX",
        "the page was validated already: a double validation. Linux ends the guest with 1:2"}},
  });
  return find(kTexts, code, "pvalidate", "PVALIDATE (EAX)", code == 6 ? "ECX (size)" : "");
}

std::optional<Reading> read_rmpadjust(std::uint64_t code, bool /*asked*/) {
  using enum abi::rmp::RmpAdjustCode;
  static constexpr auto kTexts = std::to_array<InstructionText>({
      {0, {name_of(kSuccess), kSuccessMeaning, "nothing is wrong"}},
      {1, {name_of(kFailInput), "an operand is wrong", "a wrong size, alignment or VMPL in RDX"}},
      {2,
       {name_of(kFailPermission), "the VMPL may not do that",
        "its own or a more privileged VMPL as target, or rights that it lacks; Linux not at VMPL 0 "
        "without an SVSM ends with 1:3"}},
      {3,
       {name_of(kFailInUse), "the page is in use",
        "the VMSA bit of a page that a vCPU runs on (not confirmed by the manual)"}},
      {6,
       {name_of(kFailSizeMismatch), "2 MiB asked for, but the RMP entry is 4 KiB",
        "the host backs memory in 4K pages"}},
  });
  return find(kTexts, code, "rmpadjust", "RMPADJUST (EAX)");
}

std::optional<Reading> read_rmpupdate(std::uint64_t code, bool /*asked*/) {
  using enum abi::rmp::RmpUpdateCode;
  static constexpr auto kTexts = std::to_array<InstructionText>({
      {0, {name_of(kSuccess), kSuccessMeaning, "nothing is wrong"}},
      {1,
       {name_of(kFailInput), "an operand is wrong",
        "an address that is not aligned or that the RMP does not cover; reserved bits; an ASID or "
        "GPA out of range"}},
      {2,
       {name_of(kFailPermission), "the entry is immutable",
        "the firmware owns the page: SNP_PAGE_RECLAIM first"}},
      {3,
       {name_of(kFailInUse), "the page or its entry is in use",
        "a VMSA, VMCB or AVIC page of a vCPU that runs, or another CPU on the same entry"}},
      {4,
       {name_of(kFailOverlap), "a 4 KiB entry lies in a 2 MiB one, or the other way round",
        "2M asked for while a page of it is assigned in 4K, or a race with PSMASH: Linux retries"}},
  });
  return find(kTexts, code, "rmpupdate", "RMPUPDATE (EAX)");
}

std::optional<Reading> read_psmash(std::uint64_t code, bool /*asked*/) {
  using enum abi::rmp::PsmashCode;
  static constexpr auto kTexts = std::to_array<InstructionText>({
      {0, {name_of(kSuccess), "the 2 MiB entry became 512 entries of 4 KiB", "nothing is wrong"}},
      {1, {name_of(kFailInput), "an operand is wrong", "an address that is not 2M-aligned"}},
      {2, {name_of(kFailPermission), "the entry is immutable", "the firmware owns the page"}},
      {3, {name_of(kFailInUse), "the entry is in use", kHostRace}},
      {4,
       {"FAIL_BADADDR", "there is no 2 MiB entry at the address (an early document; unconfirmed)",
        "the entry was smashed before"}},
      {7,
       {"FAIL_PAGE_UNSUITABLE",
        "there is no 2 MiB entry at the address (a later document; unconfirmed)",
        "the entry was smashed before"}},
  });
  return find(kTexts, code, "psmash", "PSMASH (EAX)");
}

std::optional<Reading> read_snp_firmware(std::uint64_t code, bool /*asked*/) {
  return named(abi::rmp::firmware_status_name(code), snp_firmware_texts(), code, "snp-fw",
               "SEV firmware status");
}

std::optional<Reading> read_efi(std::uint64_t code, bool /*asked*/) {
  return named(abi::efi::status_name(code), efi_texts(), code, "efi",
               (code & abi::efi::kStatusError) != 0 ? "EFI status, error" : "EFI status, no error");
}

}  // namespace accede::cli
