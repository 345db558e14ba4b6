#include "accede/cli/boot_option_values.hpp"

#include "accede/cli/size_text.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <utility>

namespace accede::cli {
namespace {

using Text = RawBootOptions::Text;

std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() ? std::optional{value}
                                                                  : std::nullopt;
}

std::expected<Bytes, Failure> check_memory(const Text& text) {
  const std::string value = text.value_or("4G");
  const auto memory = parse_size(value);
  if (!memory) {
    return bad("--memory", value, "a size, for example 4G or 2048M");
  }
  if (*memory < kLeastMemory) {
    return std::unexpected{usage("--memory " + value + ": less than 1G, too little for the boot")};
  }
  if (*memory > kMostMemory) {
    return std::unexpected{usage("--memory " + value + ": the machine addresses at most 500G")};
  }
  if (*memory % Bytes{1ULL << 20} != Bytes{0}) {
    return std::unexpected{usage("--memory " + value + ": must be a multiple of 1M")};
  }
  return *memory;
}

std::expected<std::vector<AcceptMode>, Failure> check_modes(const Text& text) {
  std::vector<AcceptMode> modes;
  for (const std::string& word : split_list(text.value_or("lazy"))) {
    if (word == "lazy") {
      modes.push_back(AcceptMode::kLazy);
    } else if (word == "eager") {
      modes.push_back(AcceptMode::kEager);
    } else if (word == "background") {
      modes.push_back(AcceptMode::kBackground);
    } else {
      return bad("--accept", word, "lazy, eager, background");
    }
  }
  return modes;
}

std::expected<std::vector<std::string>, Failure> check_kernels(const Text& text) {
  std::vector<std::string> kernels = split_list(text.value_or("linux"));
  for (const std::string& kernel : kernels) {
    if (kernel.empty()) {
      return bad("--kernel", *text, "files or names, separated by commas");
    }
  }
  return kernels;
}

/// Text for a line of the configuration file.
std::expected<std::string, Failure> check_append(const Text& text) {
  std::string value = text.value_or("");
  const bool one_line = std::ranges::all_of(value, [](char c) {
    return c == '\t' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7F);
  });
  if (!one_line) {
    return std::unexpected{usage("--append: a kernel command line has no control characters")};
  }
  // x86 kernels take 2047 characters; ours come first.
  constexpr std::size_t kMost = 1'500;
  if (value.size() > kMost) {
    return std::unexpected{usage("--append: longer than 1500 characters")};
  }
  return value;
}

std::expected<std::optional<std::chrono::nanoseconds>, Failure> check_cost(const Text& text) {
  if (!text || *text == "real") {
    return std::nullopt;
  }
  const auto cost = parse_duration(*text);
  if (!cost || cost->count() == 0 || *cost > std::chrono::seconds{10}) {
    return bad("--accept-cost", *text,
               "'real' or a duration per 2 MiB, for example 1400us (at most 10s)");
  }
  return *cost;
}

std::expected<std::chrono::seconds, Failure> check_timeout(const Text& text, Bytes memory,
                                                           bool kexec) {
  if (!text) {
    // Accepting and touching everything takes time that grows with the memory; with kexec two
    // kernels do it.
    const std::chrono::seconds one{120 + 2 * (memory.value() >> 30)};
    return kexec ? 2 * one : one;
  }
  const auto seconds = whole_number(*text);
  if (!seconds || *seconds == 0 || *seconds > 86'400) {
    return bad("--timeout", *text, "seconds from 1 to 86400");
  }
  return std::chrono::seconds{*seconds};
}

std::expected<std::optional<std::string>, Failure> check_touch(const Text& text, Bytes memory) {
  if (!text || *text == "all") {
    return text;
  }
  const auto size = parse_size(*text);
  if (!size || *size == Bytes{0}) {
    return bad("--touch", *text, "'all' or a size, for example 1G");
  }
  if (*size > memory) {
    return std::unexpected{usage("--touch " + *text + ": more than the VM's memory")};
  }
  return std::to_string(size->value());
}

/// Precondition: the words of `raw` are known.
std::expected<FirmwareAccept, Failure> check_firmware_accept(const RawBootOptions& raw,
                                                             Bytes memory) {
  using enum firmware::AcceptanceScope;
  const std::string value =
      raw.firmware_accept.value_or(raw.firmware == "accept-all" ? "all" : "below-4g");
  if (value == "all" || value == "below-4g") {
    return FirmwareAccept{.scope = value == "all" ? kEverything : kBelow4G, .at_least = {}};
  }
  constexpr std::string_view kAtLeastWord = "min:";
  const auto size = value.starts_with(kAtLeastWord) ? parse_size(value.substr(kAtLeastWord.size()))
                                                    : std::nullopt;
  if (!size || *size == Bytes{0}) {
    return bad("--firmware-accept", value, "all, below-4g, or min:SIZE, for example min:512M");
  }
  if (*size > memory) {
    return std::unexpected{usage("--firmware-accept " + value + ": more than the VM's memory")};
  }
  return FirmwareAccept{.scope = kAtLeast, .at_least = *size};
}

std::expected<std::uint64_t, Failure> check_map_holes(const Text& text) {
  constexpr std::uint64_t kMost = 1'000;
  const auto holes = whole_number(text.value_or("0"));
  if (!holes || *holes > kMost) {
    return bad("--map-holes", *text, "a number from 0 to 1000");
  }
  return *holes;
}

/// Moves the value of `checked` to `target`; the failure otherwise.
template <class T>
Check take(std::expected<T, Failure> checked, T& target) {
  if (!checked) {
    return std::unexpected{std::move(checked.error())};
  }
  target = std::move(*checked);
  return {};
}

}  // namespace

std::unexpected<Failure> bad(std::string_view option, std::string_view value,
                             std::string_view expected) {
  return std::unexpected{usage(std::string{option} + " '" + std::string{value} + "': expected " +
                               std::string{expected})};
}

std::unexpected<Failure> not_yet(std::string_view what) {
  return std::unexpected{usage(std::string{what} + ": not yet")};
}

Check check_vcpus(const Text& vcpus) {
  if (!vcpus || *vcpus == "1") {
    return {};
  }
  const auto count = whole_number(*vcpus);
  if (!count || *count == 0) {
    return bad("--vcpus", *vcpus, "a number from 1 on");
  }
  return not_yet("--vcpus above 1");
}

Check check_values(const RawBootOptions& raw, BootOptions& options) {
  if (Check memory = take(check_memory(raw.memory), options.memory); !memory) {
    return memory;
  }
  for (Check check : {
           take(check_modes(raw.accept), options.modes),
           take(check_kernels(raw.kernel), options.kernels),
           take(check_append(raw.append), options.append),
           take(check_cost(raw.accept_cost), options.accept_cost),
           take(check_timeout(raw.timeout, options.memory, raw.kexec), options.timeout),
           take(check_touch(raw.touch, options.memory), options.touch),
           take(check_firmware_accept(raw, options.memory), options.firmware_accept),
           take(check_map_holes(raw.map_holes), options.map_holes),
       }) {
    if (!check) {
      return check;
    }
  }
  return {};
}

}  // namespace accede::cli
