// What a firmware image (OVMF .fd) can do for a confidential guest.
#pragma once

#include "accede/inspect/inspect.hpp"

#include <cstddef>
#include <expected>
#include <optional>
#include <span>

namespace accede::inspect {

/// A flash image: one that begins with a firmware volume, or ends in a table of GUIDs. Nothing for
/// any other file.
///
/// Capabilities go by the drivers in the unpacked volumes and by the protocols' GUIDs in those
/// drivers. The metadata that a launcher reads are needed too, but prove nothing alone: every
/// reset vector carries them (reference: boot flow 6.1).
[[nodiscard]] std::optional<std::expected<Report, InspectError>> inspect_firmware(
    std::span<const std::byte> file);

}  // namespace accede::inspect
