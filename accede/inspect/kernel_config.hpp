// The configuration that a kernel may hold (CONFIG_IKCONFIG).
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace accede::inspect {

/// The options of a configuration: name without CONFIG_, and value. An option that is not set is
/// not there.
using KernelConfig = std::map<std::string, std::string>;

/// Reads "CONFIG_NAME=value" lines; every other line is passed over.
[[nodiscard]] KernelConfig parse_kernel_config(std::string_view text);

/// The configuration behind the mark "IKCFG_ST" at `mark` in `kernel`. The error says in a phrase
/// why there is none.
[[nodiscard]] std::expected<KernelConfig, std::string> read_kernel_config(
    std::span<const std::byte> kernel, std::size_t mark);

}  // namespace accede::inspect
