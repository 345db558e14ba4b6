// The ELF side of a kernel image.
#pragma once

#include "accede/inspect/report.hpp"

#include <cstddef>
#include <expected>
#include <span>
#include <string>

namespace accede::inspect {

struct ElfImage {
  Machine machine = Machine::kUnknown;
};

/// Whether `file` begins like an ELF file.
[[nodiscard]] bool is_elf(std::span<const std::byte> file);

/// Checks that `file`, any bytes, is an executable ELF file, whose segments and sections all lie in
/// it. The error is a phrase that follows "the file ".
[[nodiscard]] std::expected<ElfImage, std::string> parse_elf(std::span<const std::byte> file);

}  // namespace accede::inspect
