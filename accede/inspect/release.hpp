// Release numbers of Linux.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace accede::inspect {

/// The numbers that name a series: 6.12 of "6.12.117+deb12-cloud-amd64".
struct Release {
  std::uint32_t major = 0;
  std::uint32_t minor = 0;

  friend auto operator<=>(const Release&, const Release&) = default;
};

/// Of the text that uname -r prints, or of its beginning; nothing when it begins otherwise.
[[nodiscard]] std::optional<Release> parse_release(std::string_view version);

/// "6.12"
[[nodiscard]] std::string to_string(Release release);

/// What a version text says, as Linux writes it ("6.12.1 (user@host) #1 SMP ...", with or without
/// "Linux version " before it). Either may be empty. Control characters are left out.
struct VersionWords {
  std::string release;
  std::string uts_version;  ///< from '#' on
};
[[nodiscard]] VersionWords split_version_text(std::string_view text);

}  // namespace accede::inspect
