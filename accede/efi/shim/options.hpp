// What the shim is told: which image to start, and with which load options.
#pragma once

#include "accede/abi/efi.hpp"
#include "accede/base/text_buffer.hpp"
#include "accede/efi/boot_volume.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

namespace accede::efi::shim {

using abi::efi::Char16;

/// A path on the volume that the shim was started from: ASCII with backslashes, from the root.
using Path = TextBuffer<BootVolume::kMostPath>;

enum class OptionsError : std::uint8_t {
  kBadPath,     ///< an image's path that is empty, too long or not printable ASCII
  kBadLine,     ///< a line of the configuration that is not key=value
  kUnknownKey,  ///< a key of the configuration that there is not
};
[[nodiscard]] std::string_view to_string(OptionsError error);

/// The load options: `[NAME.efi] [image=PATH] [OPTIONS]`. The first word may be the shim's own
/// name, which the UEFI shell puts there.
struct LoadOptions {
  Path image{};                     ///< empty: not given
  std::span<const Char16> options;  ///< for the image; as they came, without a zero at the end
};
/// Up to the first zero or the end; an odd byte at the end is not there. The result points into
/// `utf16`, which must be aligned for Char16. Errors: kBadPath.
[[nodiscard]] std::expected<LoadOptions, OptionsError> parse_load_options(
    std::span<const std::byte> utf16);

/// The configuration file: lines `image=PATH` and `options=TEXT`, comments with #, the last of
/// several equal keys counts. A path without a leading backslash begins in the shim's directory.
struct Configuration {
  std::string_view image;    ///< empty: not given
  std::string_view options;  ///< bytes; the result points into the file
};
/// Errors: kBadLine, kUnknownKey.
[[nodiscard]] std::expected<Configuration, OptionsError> parse_configuration(std::string_view text);

/// `path`, begun in `directory` when it does not begin at the root. Errors: kBadPath.
[[nodiscard]] std::expected<Path, OptionsError> resolve(std::string_view directory,
                                                        std::string_view path);

/// The directory, with a backslash at its end, of the file that a device path ends with; `\` when
/// it has no file, or none that is ASCII. `path`: nullptr or a device path of the firmware's.
[[nodiscard]] Path directory_of(const abi::efi::DevicePath* path);

}  // namespace accede::efi::shim
