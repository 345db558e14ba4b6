// The loader's load options: words for the loader, then the kernel's command line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

namespace accede::efi::loader {

/// `kernel=PATH initrd=PATH accede.place=WAY` in any order at the begin; from the first other word
/// on everything is the kernel's command line, as it is, except that `accede.place=` counts there
/// too and is taken out. Paths have backslashes and no spaces.
struct LoaderOptions {
  std::string_view kernel;
  std::string_view initrd;  ///< empty: none
  std::string_view command_line;
  /// Kernel and initrd go into memory that the loader accepts, even if the firmware has room.
  bool place_high = false;
};

struct OptionsError {
  enum class Kind : std::uint8_t {
    kTooLong,   ///< `value` characters, most `limit`
    kNotAscii,  ///< the character at index `value`
    kNoKernel,
    kTwice,      ///< a word for the loader comes twice
    kEmptyPath,  ///< a path is empty
    kBadPlace,   ///< accede.place= with something that is neither `high` nor `auto`
  };
  Kind kind;
  std::uint64_t value = 0;
  std::uint64_t limit = 0;

  friend bool operator==(const OptionsError&, const OptionsError&) = default;
};
[[nodiscard]] std::string_view to_string(OptionsError::Kind kind);

inline constexpr std::size_t kMostOptionCharacters = 8192;

/// UTF-16 load options up to the first zero or the end, as ASCII in `storage`. An odd byte at the
/// end is not there. Errors: kTooLong, kNotAscii.
[[nodiscard]] std::expected<std::span<char>, OptionsError> to_ascii(
    std::span<const std::byte> utf16, std::span<char, kMostOptionCharacters> storage);

/// The result points into `text`, whose end is moved where a word is taken out. Errors: all but
/// kTooLong and kNotAscii.
[[nodiscard]] std::expected<LoaderOptions, OptionsError> parse_options(std::span<char> text);

/// True when the kernel's command line has efi=nosoftreserve: special-purpose memory is RAM to it.
[[nodiscard]] bool refuses_soft_reserve(std::string_view command_line);

}  // namespace accede::efi::loader
