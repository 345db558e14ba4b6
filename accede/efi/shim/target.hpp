// The image that the shim starts: finding it, loading it, telling it its options.
#pragma once

#include "accede/efi/firmware.hpp"
#include "accede/efi/shim/options.hpp"

#include <expected>
#include <span>
#include <string_view>

namespace accede::efi::shim {

/// What to start.
struct Target {
  Path path{};
  std::span<const Char16> options{};  ///< without a zero at the end
};

/// From the load options, else from the configuration beside the shim, else the first default path
/// at which there is a file. Options without an image are for whatever image that is. Errors: a
/// configuration that makes no sense, options that make none, nothing to start.
[[nodiscard]] Result<Target> choose_target(const Firmware& firmware);

/// The file in pool memory. Errors: the firmware's.
[[nodiscard]] Result<std::span<std::byte>> read_target(const Firmware& firmware,
                                                       const Target& target);

/// Loads `file`, which lies at the target's path, and gives it its options. The firmware checks
/// signatures as for any image. Errors: the firmware's.
[[nodiscard]] Result<abi::efi::Handle> load_target(const Firmware& firmware, const Target& target,
                                                   std::span<const std::byte> file);

}  // namespace accede::efi::shim
