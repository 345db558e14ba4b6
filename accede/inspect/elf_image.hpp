// The ELF side of a kernel image.
#pragma once

#include "accede/inspect/report.hpp"

#include <cstddef>
#include <expected>
#include <optional>
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

/// Where the first loadable segment ends in a 64-bit, little-endian ELF file of `file_size` bytes
/// that begins with `beginning`, any bytes. Nothing when the table of segments is not wholly in the
/// beginning, or when segments or the table of sections do not lie in the file.
[[nodiscard]] std::optional<std::size_t> end_of_first_segment(std::span<const std::byte> beginning,
                                                              std::size_t file_size);

}  // namespace accede::inspect
