#include "accede/cli/kernel_packages.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <utility>

namespace accede::cli {
namespace {

constexpr std::string_view kDefaultSeries = "6.12";
constexpr std::string_view kDebianName = "debian-";
constexpr std::string_view kDebianPrefix = "linux-image-";
constexpr std::string_view kDebianSuffix = "-cloud-amd64-unsigned";
constexpr std::string_view kUbuntuPrefix = "linux-image-unsigned-";
constexpr std::string_view kUbuntuSuffix = "-generic";
constexpr std::string_view kFirstWithUnaccepted = "6.5";

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// Takes a run of digits, or of anything else, off `text`.
std::string_view take_run(std::string_view& text, bool digits) {
  const auto end = std::ranges::find_if(text, [digits](char c) { return is_digit(c) != digits; });
  const std::string_view run{text.begin(), end};
  text.remove_prefix(run.size());
  return run;
}

/// `X.Y`, digits both.
bool is_series(std::string_view text) {
  const bool major = !take_run(text, true).empty();
  const bool dot = text.starts_with('.');
  text.remove_prefix(dot ? 1 : 0);
  const bool minor = !take_run(text, true).empty();
  return major && dot && minor && text.empty();
}

/// The version inside a package name; empty when the name has another form.
std::string_view version_in(std::string_view package, std::string_view prefix,
                            std::string_view suffix) {
  if (package.size() <= prefix.size() + suffix.size() || !package.starts_with(prefix) ||
      !package.ends_with(suffix)) {
    return {};
  }
  package.remove_prefix(prefix.size());
  package.remove_suffix(suffix.size());
  return is_digit(package.front()) ? package : std::string_view{};
}

std::optional<std::string> newest(std::span<const std::string> packages, std::string_view prefix,
                                  std::string_view suffix, auto&& accepts) {
  std::optional<std::string> best;
  std::string_view best_version;
  for (const std::string& package : packages) {
    const std::string_view version = version_in(package, prefix, suffix);
    if (!version.empty() && accepts(version) && (!best || version_less(best_version, version))) {
      best = package;
      best_version = version;
    }
  }
  return best;
}

std::optional<std::string> newest_debian(std::span<const std::string> packages,
                                         std::string_view series) {
  const std::string start = std::string{series} + ".";
  return newest(packages, kDebianPrefix, kDebianSuffix,
                [&start](std::string_view version) { return version.starts_with(start); });
}

bool knows_unaccepted(std::string_view version) {
  return !version_less(version, kFirstWithUnaccepted);
}

}  // namespace

std::vector<std::string> parse_package_list(std::string_view apt_output) {
  std::vector<std::string> packages;
  while (!apt_output.empty()) {
    const std::string_view line = apt_output.substr(0, apt_output.find('\n'));
    apt_output.remove_prefix(std::min(line.size() + 1, apt_output.size()));
    const std::string_view name = line.substr(0, line.find(' '));
    if (!name.empty()) {
      packages.emplace_back(name);
    }
  }
  return packages;
}

bool is_kernel_name(std::string_view name) {
  return name == "linux" ||
         (name.starts_with(kDebianName) && is_series(name.substr(kDebianName.size())));
}

bool version_less(std::string_view a, std::string_view b) {
  while (!a.empty() && !b.empty()) {
    const std::string_view text_a = take_run(a, false);
    const std::string_view text_b = take_run(b, false);
    if (text_a != text_b) {
      return text_a < text_b;
    }
    std::string_view number_a = take_run(a, true);
    std::string_view number_b = take_run(b, true);
    number_a.remove_prefix(std::min(number_a.find_first_not_of('0'), number_a.size()));
    number_b.remove_prefix(std::min(number_b.find_first_not_of('0'), number_b.size()));
    if (number_a != number_b) {
      return std::pair{number_a.size(), number_a} < std::pair{number_b.size(), number_b};
    }
  }
  return a.empty() && !b.empty();
}

std::optional<std::string> choose_kernel_package(std::string_view name,
                                                 std::span<const std::string> packages) {
  if (name.starts_with(kDebianName)) {
    return newest_debian(packages, name.substr(kDebianName.size()));
  }
  if (auto usual = newest_debian(packages, kDefaultSeries)) {
    return usual;
  }
  if (auto cloud = newest(packages, kDebianPrefix, kDebianSuffix, knows_unaccepted)) {
    return cloud;
  }
  return newest(packages, kUbuntuPrefix, kUbuntuSuffix, knows_unaccepted);
}

std::string wanted_package(std::string_view name) {
  const bool debian = name.starts_with(kDebianName);
  const std::string series = debian ? std::string{name.substr(kDebianName.size())} + ".*" : "*";
  const std::string package = std::string{kDebianPrefix} + series + std::string{kDebianSuffix};
  return debian ? package
                : package + " or " + std::string{kUbuntuPrefix} + "*" + std::string{kUbuntuSuffix} +
                      " from 6.5 on";
}

}  // namespace accede::cli
