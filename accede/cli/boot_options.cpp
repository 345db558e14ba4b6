#include "accede/cli/boot_options.hpp"

#include "accede/cli/boot_option_values.hpp"
#include "accede/cli/option_combinations.hpp"

#include <algorithm>
#include <initializer_list>
#include <utility>

namespace accede::cli {
namespace {

using Text = RawBootOptions::Text;

/// One word of `known`, or of `later`, which is valid but not built.
Check check_word(std::string_view option, const Text& value,
                 std::initializer_list<std::string_view> known,
                 std::initializer_list<std::string_view> later = {}) {
  if (!value || std::ranges::find(known, *value) != known.end()) {
    return {};
  }
  if (std::ranges::find(later, *value) != later.end()) {
    return not_yet(std::string{option} + " " + *value);
  }
  std::string words;
  for (const auto list : {known, later}) {
    for (const std::string_view word : list) {
      words += words.empty() ? "" : ", ";
      words += word;
    }
  }
  return bad(option, *value, words);
}

Check check_words(const RawBootOptions& raw) {
  for (Check check : {
           check_word("--platform", raw.platform, {"tdx", "snp", "none"}),
           check_word("--firmware", raw.firmware, {"never", "accept-all", "handshake"}),
           check_word("--backing", raw.backing, {"2m", "4k"}),
           check_word("--loader", raw.loader, {"stub", "accede"}),
           check_word("--work", raw.work, {"touch", "random", "fill"}),
           check_word("--accel", raw.accel, {"auto", "tcg"}, {"kvm"}),
           check_word("--unaccepted-touch", raw.unaccepted_touch, {"stop", "exception"}),
           check_word("--map-lie", raw.map_lie,
                      {"none", "overlap", "wrap", "unaligned", "restless", "grow", "no-table"}),
       }) {
    if (!check) {
      return check;
    }
  }
  return {};
}

Check check_later(const RawBootOptions& raw) {
  const std::pair<bool, std::string_view> later[] = {
      {raw.strict.has_value(), "--strict"},
      {raw.report.has_value(), "--report"},
  };
  for (const auto& [given, option] : later) {
    if (given) {
      return not_yet(option);
    }
  }
  return {};
}

Check check_all(const RawBootOptions& raw) {
  for (Check (*check)(const RawBootOptions&) : {&check_words, &check_later, &check_combinations}) {
    if (Check result = check(raw); !result) {
      return result;
    }
  }
  return check_vcpus(raw.vcpus);
}

/// Precondition: a word that `check_words` knows, or nothing.
Platform platform_of(const Text& word) {
  if (word == "snp") {
    return Platform::kSnp;
  }
  return word == "none" ? Platform::kNone : Platform::kTdx;
}

/// Precondition: a word that `check_words` knows, or nothing.
FirmwareKind firmware_of(const Text& word, Platform platform) {
  if (!word) {
    return default_firmware(platform);
  }
  for (const FirmwareKind kind : {FirmwareKind::kAcceptAll, FirmwareKind::kHandshake}) {
    if (*word == name(kind)) {
      return kind;
    }
  }
  return FirmwareKind::kNever;
}

}  // namespace

FirmwareKind default_firmware(Platform platform) {
  return platform == Platform::kSnp ? FirmwareKind::kHandshake : FirmwareKind::kNever;
}

std::vector<std::string> split_list(std::string_view list) {
  std::vector<std::string> parts;
  for (;;) {
    const std::size_t comma = list.find(',');
    parts.emplace_back(list.substr(0, comma));
    if (comma == std::string_view::npos) {
      return parts;
    }
    list.remove_prefix(comma + 1);
  }
}

std::expected<BootOptions, Failure> check_boot_options(const RawBootOptions& raw) {
  BootOptions options;
  if (Check check = check_all(raw); !check) {
    return std::unexpected{std::move(check.error())};
  }
  if (Check check = check_values(raw, options); !check) {
    return std::unexpected{std::move(check.error())};
  }
  if (Check check = check_kernels_fit(options, raw); !check) {
    return std::unexpected{std::move(check.error())};
  }
  options.platform = platform_of(raw.platform);
  options.firmware = firmware_of(raw.firmware, options.platform);
  options.hide_handshake = raw.hide_handshake;
  options.force_accept = raw.force_accept;
  options.backing = raw.backing.value_or("2m");
  options.unaccepted_touch =
      raw.unaccepted_touch == "exception" ? UnacceptedTouch::kException : UnacceptedTouch::kStop;
  options.map_lie = raw.map_lie.value_or("none");
  options.initrd = raw.initrd;
  options.loader = raw.loader == "accede" ? LoaderKind::kAccede : LoaderKind::kStub;
  options.shim = raw.shim;
  options.variables = raw.variables;
  options.work = raw.work;
  options.kexec = raw.kexec;
  options.steps = raw.steps;
  options.console_file = raw.console;
  options.events_file = raw.events;
  options.events = !raw.no_events;
  options.json = raw.json;
  return options;
}

}  // namespace accede::cli
