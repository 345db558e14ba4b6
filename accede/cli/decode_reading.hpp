// What `accede decode` says about a code, and the texts that it says it with.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace accede::cli {

/// One way to read a code.
struct Reading {
  std::string family;  ///< the prefix that chooses this reading, for example "rmpupdate"
  std::string code;    ///< as a person writes it: hexadecimal, or set:code
  std::string name;
  std::string kind;     ///< what sort of code it is, in words: "class" in JSON
  std::string operand;  ///< what the code points at; empty when it points at nothing
  std::string meaning;
  std::string usual_cause;
};

/// What a named code means and where it usually comes from, each a sentence without a full stop.
struct CodeText {
  std::string_view name;
  std::string_view meaning;
  std::string_view usual_cause;
};

/// Nothing for a name without a text.
[[nodiscard]] std::optional<CodeText> find_text(std::span<const CodeText> texts,
                                                std::string_view name);

/// The texts of each family's names.
[[nodiscard]] std::span<const CodeText> tdx_guest_texts();  ///< tdx::kStatusNames
[[nodiscard]] std::span<const CodeText> tdx_host_texts();   ///< tdx::kOtherStatusNames, platform
[[nodiscard]] std::span<const CodeText> tdx_migration_texts();  ///< the others of kOtherStatusNames
[[nodiscard]] std::span<const CodeText> snp_firmware_texts();
[[nodiscard]] std::span<const CodeText> efi_texts();

/// The readers: nothing when `code` is no code of the family. `asked`: the user named the family,
/// so that a reading too common to be offered for every number is given, too.
[[nodiscard]] std::optional<Reading> read_tdx(std::uint64_t code, bool asked);
[[nodiscard]] std::optional<Reading> read_vmcall(std::uint64_t code, bool asked);
[[nodiscard]] std::optional<Reading> read_pvalidate(std::uint64_t code, bool asked);
[[nodiscard]] std::optional<Reading> read_rmpadjust(std::uint64_t code, bool asked);
[[nodiscard]] std::optional<Reading> read_rmpupdate(std::uint64_t code, bool asked);
[[nodiscard]] std::optional<Reading> read_psmash(std::uint64_t code, bool asked);
[[nodiscard]] std::optional<Reading> read_snp_firmware(std::uint64_t code, bool asked);
[[nodiscard]] std::optional<Reading> read_ghcb_msr(std::uint64_t code, bool asked);
[[nodiscard]] std::optional<Reading> read_ghcb_exit(std::uint64_t code, bool asked);
[[nodiscard]] std::optional<Reading> read_ghcb_error(std::uint64_t code, bool asked);
[[nodiscard]] std::optional<Reading> read_sev_termination(std::uint64_t code, bool asked);
[[nodiscard]] std::optional<Reading> read_efi(std::uint64_t code, bool asked);

/// A termination's set and code, as logs print it (`1:2`).
[[nodiscard]] std::optional<Reading> read_termination_reason(std::uint8_t set, std::uint8_t code);

}  // namespace accede::cli
