#include "accede/efi/launcher_config.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>

namespace accede::efi {

using namespace std::string_view_literals;
using accede::firmware::AcceptanceScope;
namespace {

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  for (const char c : text) {
    const auto digit = static_cast<std::uint64_t>(c - '0');
    if (digit > 9 || value > (std::numeric_limits<std::uint64_t>::max() - digit) / 10) {
      return std::nullopt;
    }
    value = value * 10 + digit;
  }
  return text.empty() ? std::nullopt : std::optional{value};
}

/// Where `wanted` first stands in `text`; its size when it does not. (string_view::find would call
/// memchr, which freestanding programs do not have.)
std::size_t position(std::string_view text, char wanted) {
  return static_cast<std::size_t>(std::ranges::find(text, wanted) - text.begin());
}

/// Stores whether `value` is the word `yes` (else it must be `no`).
bool parse_choice(std::string_view value, std::string_view yes, std::string_view no, bool& to) {
  to = value == yes;
  return to || value == no;
}

/// Stores the number that `value` is, at most `most`.
bool parse_bounded(std::string_view value, std::uint64_t most, std::uint64_t& to) {
  const std::optional<std::uint64_t> number = parse_number(value);
  to = number.value_or(0);
  return number && *number <= most;
}

template <class T>
using Word = std::pair<std::string_view, T>;

/// Stores what the word `value` stands for.
template <class T, std::size_t N>
bool parse_word(std::string_view value, const std::array<Word<T>, N>& words, T& to) {
  const auto found = std::ranges::find(words, value, &Word<T>::first);
  if (found != words.end()) {
    to = found->second;
  }
  return found != words.end();
}

constexpr std::array<Word<LauncherConfig::Platform>, 3> kPlatforms{
    {{"tdx"sv, LauncherConfig::Platform::kTdx},
     {"snp"sv, LauncherConfig::Platform::kSnp},
     {"none"sv, LauncherConfig::Platform::kNone}}};

constexpr std::array<Word<LauncherConfig::Firmware>, 3> kFirmwares{
    {{"never"sv, LauncherConfig::Firmware::kNever},
     {"accept-all"sv, LauncherConfig::Firmware::kAcceptAll},
     {"handshake"sv, LauncherConfig::Firmware::kHandshake}}};

constexpr std::array<Word<MapLie>, 7> kLies{{{"none"sv, MapLie::kNone},
                                             {"overlap"sv, MapLie::kOverlap},
                                             {"wrap"sv, MapLie::kWrap},
                                             {"unaligned"sv, MapLie::kUnaligned},
                                             {"restless"sv, MapLie::kRestless},
                                             {"grow"sv, MapLie::kGrow},
                                             {"no-table"sv, MapLie::kNoTable}}};

/// `all`, `below-4g`, `min:BYTES`.
bool parse_scope(std::string_view value, LauncherConfig& config) {
  constexpr std::array<Word<AcceptanceScope>, 2> kScopes{
      {{"all"sv, AcceptanceScope::kEverything}, {"below-4g"sv, AcceptanceScope::kBelow4G}}};
  constexpr std::string_view kAtLeast = "min:"sv;
  if (!value.starts_with(kAtLeast)) {
    return parse_word(value, kScopes, config.accept_scope);
  }
  config.accept_scope = AcceptanceScope::kAtLeast;
  value.remove_prefix(kAtLeast.size());
  return parse_bounded(value, std::numeric_limits<std::uint64_t>::max(), config.accept_at_least);
}

/// False when `value` is none that the key takes; nothing when the key is unknown.
std::optional<bool> apply(LauncherConfig& config, std::string_view key, std::string_view value) {
  if (key == "platform"sv) {
    return parse_word(value, kPlatforms, config.platform);
  }
  if (key == "firmware"sv) {
    return parse_word(value, kFirmwares, config.firmware);
  }
  if (key == "firmware-accept"sv) {
    return parse_scope(value, config);
  }
  if (key == "hide-handshake"sv) {
    return parse_choice(value, "on"sv, "off"sv, config.hide_handshake);
  }
  if (key == "backing"sv) {
    return parse_choice(value, "4k"sv, "2m"sv, config.back_with_4k);
  }
  if (key == "events"sv) {
    return parse_choice(value, "on"sv, "off"sv, config.log_events);
  }
  if (key == "unaccepted-touch"sv) {
    return parse_choice(value, "stop"sv, "exception"sv, config.stop_on_unaccepted);
  }
  if (key == "accept-cost-ns"sv) {
    // One second per 2 MiB is far beyond any machine; the bound keeps tick arithmetic exact.
    return parse_bounded(value, 1'000'000'000, config.accept_cost_ns);
  }
  if (key == "map-holes"sv) {
    return parse_bounded(value, kMostMapHoles, config.map_holes);
  }
  if (key == "map-lie"sv) {
    return parse_word(value, kLies, config.map_lie);
  }
  if (key == "shim"sv) {
    config.shim = value;
    return true;
  }
  if (key == "loader"sv) {
    config.loader = value;
    return true;
  }
  if (key == "volume"sv) {
    return parse_choice(value, "disk"sv, "own"sv, config.from_disk);
  }
  if (key == "kernel"sv) {
    config.kernel = value;
    return !value.empty();
  }
  if (key == "initrd"sv) {
    config.initrd = value;
    return true;
  }
  if (key == "append"sv) {
    config.append = value;
    return true;
  }
  return std::nullopt;
}

}  // namespace

std::string_view describe(ConfigError::Kind kind) {
  switch (kind) {
    case ConfigError::Kind::kNoEquals:
      return "accede.cfg: a line is not key=value"sv;
    case ConfigError::Kind::kUnknownKey:
      return "accede.cfg: unknown key"sv;
    case ConfigError::Kind::kBadValue:
      return "accede.cfg: a key has a value that it does not take"sv;
  }
  return "accede.cfg: unknown error"sv;
}

std::expected<LauncherConfig, ConfigError> parse_launcher_config(std::string_view text) {
  LauncherConfig config;
  for (std::uint32_t number = 1; !text.empty(); ++number) {
    const std::size_t end = position(text, '\n');
    std::string_view line{text.data(), end};
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) {
      line.remove_suffix(1);
    }
    if (line.empty() || line.starts_with('#')) {
      continue;
    }
    const std::size_t equals = position(line, '=');
    if (equals == line.size()) {
      return std::unexpected{ConfigError{ConfigError::Kind::kNoEquals, number}};
    }
    const std::optional<bool> good =
        apply(config, {line.data(), equals}, {line.data() + equals + 1, line.size() - equals - 1});
    if (!good) {
      return std::unexpected{ConfigError{ConfigError::Kind::kUnknownKey, number}};
    }
    if (!*good) {
      return std::unexpected{ConfigError{ConfigError::Kind::kBadValue, number}};
    }
  }
  return config;
}

}  // namespace accede::efi
