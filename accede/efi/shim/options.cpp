#include "accede/efi/shim/options.hpp"

#include "accede/efi/shim/device_path.hpp"

#include <algorithm>
#include <optional>

namespace accede::efi::shim {

using namespace std::string_view_literals;
namespace {

constexpr Char16 kSpace = u' ';

std::span<const Char16> without_leading_spaces(std::span<const Char16> text) {
  const auto first = std::ranges::find_if(text, [](Char16 c) { return c != kSpace; });
  return {first, text.end()};
}

std::span<const Char16> first_word(std::span<const Char16> text) {
  return {text.begin(), std::ranges::find(text, kSpace)};
}

char lower(Char16 c) {
  return static_cast<char>(c >= u'A' && c <= u'Z' ? c - u'A' + u'a' : c);
}

/// Whether the end (or the begin) of `text` is `ascii`, in letters of either kind.
bool ends_with(std::span<const Char16> text, std::string_view ascii) {
  return text.size() >= ascii.size() &&
         std::ranges::equal(text.last(ascii.size()), ascii, {},
                            [](Char16 c) { return c < 0x80 ? lower(c) : '\0'; });
}
bool begins_with(std::span<const Char16> text, std::string_view ascii) {
  return text.size() >= ascii.size() && ends_with(text.first(ascii.size()), ascii);
}

bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

std::string_view take_line(std::string_view& text) {
  const auto end = std::ranges::find(text, '\n');
  const auto length = static_cast<std::size_t>(end - text.begin());
  std::string_view line = text.substr(0, length);
  text.remove_prefix(std::min(length + 1, text.size()));
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) {
    line.remove_suffix(1);
  }
  return line;
}

}  // namespace

std::string_view to_string(OptionsError error) {
  switch (error) {
    case OptionsError::kBadPath:
      return "an image's path is empty, too long or not ASCII"sv;
    case OptionsError::kBadLine:
      return "a line of the configuration is not key=value"sv;
    case OptionsError::kUnknownKey:
      return "the configuration has a key that is neither image nor options"sv;
  }
  return "unknown error of the options"sv;
}

std::expected<Path, OptionsError> resolve(std::string_view directory, std::string_view path) {
  Path whole;
  if (!path.starts_with('\\')) {
    whole.text(directory);
  }
  whole.text(path);
  if (path.empty() || whole.overflowed() || !is_printable(path)) {
    return std::unexpected{OptionsError::kBadPath};
  }
  return whole;
}

std::expected<LoadOptions, OptionsError> parse_load_options(std::span<const std::byte> utf16) {
  const std::span whole{reinterpret_cast<const Char16*>(utf16.data()), utf16.size() / 2};
  const std::span<const Char16> text{whole.begin(), std::ranges::find(whole, u'\0')};
  LoadOptions options{.options = without_leading_spaces(text)};
  if (const auto name = first_word(options.options);
      ends_with(name, ".efi"sv) && !begins_with(name, "image="sv)) {
    options.options = without_leading_spaces(options.options.subspan(name.size()));
  }
  const auto word = first_word(options.options);
  if (!begins_with(word, "image="sv)) {
    return options;
  }
  options.options = without_leading_spaces(options.options.subspan(word.size()));
  std::array<char, BootVolume::kMostPath> narrow{};
  const auto path = word.subspan("image="sv.size());
  if (path.size() > narrow.size()) {
    return std::unexpected{OptionsError::kBadPath};
  }
  std::ranges::transform(path, narrow.begin(),
                         [](Char16 c) { return c < 0x80 ? static_cast<char>(c) : '\0'; });
  const auto resolved = resolve("\\"sv, {narrow.data(), path.size()});
  if (!resolved) {
    return std::unexpected{resolved.error()};
  }
  options.image = *resolved;
  return options;
}

std::expected<Configuration, OptionsError> parse_configuration(std::string_view text) {
  Configuration configuration;
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    if (line.empty() || line.starts_with('#')) {
      continue;
    }
    const auto equals = std::ranges::find(line, '=');
    if (equals == line.end()) {
      return std::unexpected{OptionsError::kBadLine};
    }
    const std::string_view key{line.begin(), equals};
    const std::string_view value{equals + 1, line.end()};
    if (std::ranges::equal(key, "image"sv)) {
      configuration.image = value;
    } else if (std::ranges::equal(key, "options"sv)) {
      configuration.options = value;
    } else {
      return std::unexpected{OptionsError::kUnknownKey};
    }
  }
  return configuration;
}

Path directory_of(const abi::efi::DevicePath* path) {
  Path whole;
  for (DevicePathReader nodes{path}; const auto node = nodes.next();) {
    if (!node->is_file()) {
      continue;
    }
    if (!whole.view().empty() && whole.view().back() != '\\') {
      whole.text("\\"sv);
    }
    for (std::size_t i = 0; i < node->characters(); ++i) {
      const Char16 c = node->character(i);
      if (c == 0) {
        break;
      }
      const char narrow = c >= ' ' && c <= '~' ? static_cast<char>(c) : '\0';
      whole.text({&narrow, 1});
    }
  }
  const std::string_view file = whole.view();
  std::size_t length = file.size();
  while (length != 0 && file[length - 1] != '\\') {
    --length;
  }
  Path directory;
  directory.text(file.substr(0, length));
  if (length == 0 || whole.overflowed() || !is_printable(directory.view())) {
    directory.clear();
    directory.text("\\"sv);
  }
  return directory;
}

}  // namespace accede::efi::shim
