#include "accede/efi/kernel/options.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <span>

namespace accede::efi::kernel {

using namespace std::string_view_literals;
namespace {

constexpr std::string_view kPrefix = "accede."sv;

constexpr std::string_view kUnknownWord = "this kernel knows no such word"sv;
constexpr std::string_view kBadValue = "the word does not take this value"sv;
constexpr std::string_view kBadSize = "not a number of bytes (K, M, G and T may follow it)"sv;

bool separates(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\0';
}

/// What does not fit 64 bits gives nothing.
std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  for (const char c : text) {
    const auto digit = static_cast<std::uint64_t>(static_cast<unsigned char>(c)) - '0';
    if (digit > 9 || value > (std::numeric_limits<std::uint64_t>::max() - digit) / 10) {
      return std::nullopt;
    }
    value = value * 10 + digit;
  }
  return text.empty() ? std::nullopt : std::optional{value};
}

template <class Value>
struct Choice {
  std::string_view name;
  Value value;
};

constexpr std::array kPolicies{Choice{"lazy"sv, PolicyName::kLazy},
                               Choice{"eager"sv, PolicyName::kEager},
                               Choice{"background"sv, PolicyName::kBackground}};
constexpr std::array kWorks{Choice{"touch"sv, WorkKind::kTouch},
                            Choice{"random"sv, WorkKind::kRandom},
                            Choice{"fill"sv, WorkKind::kFill}};
constexpr std::array kFaults{
    Choice{"null"sv, FaultKind::kNull}, Choice{"unaccepted"sv, FaultKind::kUnaccepted},
    Choice{"undefined"sv, FaultKind::kUndefined}, Choice{"stack"sv, FaultKind::kStack}};
constexpr std::array kExits{Choice{"poweroff"sv, ExitKind::kPowerOff},
                            Choice{"hang"sv, ExitKind::kHang}};

/// The problem; empty: the value was stored.
template <class Value, class To>
std::string_view choose(std::string_view text, std::span<const Choice<Value>> choices, To& to) {
  for (const Choice<Value>& choice : choices) {
    if (choice.name == text) {
      to = choice.value;
      return {};
    }
  }
  return kBadValue;
}

template <class Value>
std::string_view name_of(std::span<const Choice<Value>> choices, Value value) {
  for (const Choice<Value>& choice : choices) {
    if (choice.value == value) {
      return choice.name;
    }
  }
  return "unknown"sv;
}

std::string_view set_touch(std::string_view text, Options& options) {
  if (text == "all"sv) {
    options.touch_all = true;
    options.touch = Bytes{0};
    return {};
  }
  const auto size = parse_size(text);
  if (!size) {
    return kBadSize;
  }
  options.touch_all = false;
  options.touch = *size;
  return {};
}

/// The problem with a word; empty: it was understood.
std::string_view apply(std::string_view key, std::string_view value, Options& options) {
  if (key == "policy"sv) {
    return choose<PolicyName>(value, kPolicies, options.policy);
  }
  if (key == "touch"sv) {
    return set_touch(value, options);
  }
  if (key == "work"sv) {
    return choose<WorkKind>(value, kWorks, options.work);
  }
  if (key == "exit"sv) {
    return choose<ExitKind>(value, kExits, options.exit);
  }
  if (key == "fault"sv) {
    return choose<FaultKind>(value, kFaults, options.fault);
  }
  if (key == "kexec"sv) {
    options.kexec = options.kexec || value == "1"sv;
    return value == "1"sv ? std::string_view{} : kBadValue;
  }
  return kUnknownWord;
}

}  // namespace

std::string_view to_string(PolicyName policy) {
  return name_of<PolicyName>(kPolicies, policy);
}
std::string_view to_string(WorkKind kind) {
  return name_of<WorkKind>(kWorks, kind);
}
std::string_view to_string(FaultKind kind) {
  return name_of<FaultKind>(kFaults, kind);
}

std::string_view take_word(std::string_view& text) {
  const auto first = std::ranges::find_if_not(text, separates);
  text.remove_prefix(static_cast<std::size_t>(first - text.begin()));
  const auto end = std::ranges::find_if(text, separates);
  const std::string_view word{text.data(), static_cast<std::size_t>(end - text.begin())};
  text.remove_prefix(word.size());
  return word;
}

std::optional<Bytes> parse_size(std::string_view text) {
  constexpr std::array kUnits{'K', 'M', 'G', 'T'};
  unsigned shift = 0;
  if (!text.empty()) {
    // Upper case, where it is a letter.
    const char last = static_cast<char>(text.back() & ~0x20);
    for (unsigned i = 0; i < kUnits.size() && shift == 0; ++i) {
      shift = last == kUnits[i] ? 10 * (i + 1) : 0;
    }
    text.remove_suffix(shift == 0 ? 0 : 1);
  }
  const auto number = parse_number(text);
  if (!number || *number > std::numeric_limits<std::uint64_t>::max() >> shift) {
    return std::nullopt;
  }
  return Bytes{*number << shift};
}

Options parse_options(std::string_view command_line,
                      FunctionRef<void(const OptionProblem&)> report) {
  Options options;
  for (auto word = take_word(command_line); !word.empty(); word = take_word(command_line)) {
    if (!word.starts_with(kPrefix)) {
      continue;
    }
    std::string_view rest = word;
    rest.remove_prefix(kPrefix.size());
    const auto equals = static_cast<std::size_t>(std::ranges::find(rest, '=') - rest.begin());
    const std::string_view key{rest.data(), equals};
    rest.remove_prefix(std::min(equals + 1, rest.size()));
    if (const std::string_view why = apply(key, rest, options); !why.empty()) {
      report({.word = word, .why = why});
    }
  }
  return options;
}

}  // namespace accede::efi::kernel
