// Which of a distribution's packages holds the kernel that was asked for by name.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace accede::cli {

/// Package names in the output of `apt-cache search --names-only`: `name - description` lines.
[[nodiscard]] std::vector<std::string> parse_package_list(std::string_view apt_output);

/// True for a name that stands for a kernel package: `linux`, `debian-6.12`.
[[nodiscard]] bool is_kernel_name(std::string_view name);

/// Orders version texts the way people do: numbers as numbers, the rest as text.
[[nodiscard]] bool version_less(std::string_view a, std::string_view b);

/// The newest package of `packages` that `name` stands for:
///   debian-X.Y  Debian's cloud kernel of that series
///   linux       debian-6.12 when there is one; else the newest cloud or generic kernel of any
///               distribution that knows unaccepted memory (Linux 6.5 and later)
/// Precondition: `is_kernel_name(name)`.
[[nodiscard]] std::optional<std::string> choose_kernel_package(
    std::string_view name, std::span<const std::string> packages);

/// What `choose_kernel_package` looks for, for a message.
[[nodiscard]] std::string wanted_package(std::string_view name);

}  // namespace accede::cli
