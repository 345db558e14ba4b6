#include "accede/inspect/release.hpp"

#include <algorithm>
#include <charconv>

namespace accede::inspect {
namespace {

constexpr std::string_view kBanner = "Linux version ";

std::string without_controls(std::string_view text) {
  std::string clean{text};
  std::erase_if(clean, [](char c) { return c < 0x20 || c > 0x7E; });
  return clean;
}

}  // namespace

std::optional<Release> parse_release(std::string_view version) {
  Release release;
  const char* const end = version.data() + version.size();
  const auto major = std::from_chars(version.data(), end, release.major);
  if (major.ec != std::errc{} || major.ptr == end || *major.ptr != '.') {
    return std::nullopt;
  }
  const auto minor = std::from_chars(major.ptr + 1, end, release.minor);
  return minor.ec == std::errc{} ? std::optional{release} : std::nullopt;
}

std::string to_string(Release release) {
  return std::to_string(release.major) + "." + std::to_string(release.minor);
}

VersionWords split_version_text(std::string_view text) {
  if (text.starts_with(kBanner)) {
    text.remove_prefix(kBanner.size());
  }
  const std::size_t hash = text.find(" #");
  return {.release = without_controls(text.substr(0, text.find(' '))),
          .uts_version = hash == text.npos ? "" : without_controls(text.substr(hash + 1))};
}

}  // namespace accede::inspect
