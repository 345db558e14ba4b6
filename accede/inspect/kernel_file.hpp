// Kernels in their containers.
#pragma once

#include "accede/inspect/inspect.hpp"

#include <cstddef>
#include <expected>
#include <optional>
#include <span>

namespace accede::inspect {

/// A kernel in any container that begins like one: bzImage, zboot, UKI, flat image, vmlinux.
/// Nothing when `file` begins like none of them.
[[nodiscard]] std::optional<std::expected<Report, InspectError>> inspect_kernel(
    std::span<const std::byte> file);

}  // namespace accede::inspect
