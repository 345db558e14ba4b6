#include "accede/efi/loader/options.hpp"

#include "accede/base/byte_reader.hpp"

#include <algorithm>
#include <optional>

namespace accede::efi::loader {

using namespace std::string_view_literals;
namespace {

using Kind = OptionsError::Kind;

std::unexpected<OptionsError> fail(Kind kind, std::uint64_t value = 0, std::uint64_t limit = 0) {
  return std::unexpected{OptionsError{kind, value, limit}};
}

/// Up to the first `separator`; takes it and what it returns off `text`.
std::string_view take_until(std::string_view& text, char separator) {
  const auto end = std::ranges::find(text, separator);
  const auto length = static_cast<std::size_t>(end - text.begin());
  const std::string_view piece = text.substr(0, length);
  text.remove_prefix(std::min(length + 1, text.size()));
  return piece;
}

std::string_view without_leading_spaces(std::string_view text) {
  const auto first = std::ranges::find_if(text, [](char c) { return c != ' '; });
  text.remove_prefix(static_cast<std::size_t>(first - text.begin()));
  return text;
}

std::string_view without_trailing_spaces(std::string_view text) {
  while (!text.empty() && text.back() == ' ') {
    text.remove_suffix(1);
  }
  return text;
}

/// What follows `key` in `word`, or nothing when it is another word.
std::optional<std::string_view> value_of(std::string_view word, std::string_view key) {
  if (!std::ranges::equal(word.substr(0, key.size()), key)) {
    return std::nullopt;
  }
  return word.substr(key.size());
}

/// Reads options word by word; remembers what came already.
class Parser {
 public:
  std::expected<LoaderOptions, OptionsError> parse(std::span<char> text) {
    std::string_view rest{text.data(), text.size()};
    for (;;) {
      rest = without_leading_spaces(rest);
      std::string_view after = rest;
      const auto known = take_word(take_until(after, ' '));
      if (!known) {
        return std::unexpected{known.error()};
      }
      if (!*known) {
        break;
      }
      rest = after;
    }
    if (const auto taken = take_command_line(text.last(rest.size())); !taken) {
      return std::unexpected{taken.error()};
    }
    if (!kernel_) {
      return fail(Kind::kNoKernel);
    }
    options_.kernel = *kernel_;
    options_.initrd = initrd_.value_or(""sv);
    return options_;
  }

 private:
  using Taken = std::expected<bool, OptionsError>;

  /// False when the word is not for the loader.
  Taken take_word(std::string_view word) {
    if (const auto path = value_of(word, "kernel="sv)) {
      return take_path(kernel_, *path);
    }
    if (const auto path = value_of(word, "initrd="sv)) {
      return take_path(initrd_, *path);
    }
    return take_place(word);
  }

  /// Takes words for the loader out of the kernel's command line.
  Taken take_command_line(std::span<char> text) {
    std::string_view rest{text.data(), text.size()};
    std::size_t kept = 0;
    while (!rest.empty()) {
      std::string_view word = rest;
      const std::size_t before = rest.size();
      const auto known = take_place(take_until(rest, ' '));
      if (!known) {
        return known;
      }
      word = word.substr(0, before - rest.size());  // with the space behind it
      if (!*known) {
        std::ranges::copy(word, text.begin() + static_cast<std::ptrdiff_t>(kept));
        kept += word.size();
      }
    }
    options_.command_line = without_trailing_spaces({text.data(), kept});
    return true;
  }

  static Taken take_path(std::optional<std::string_view>& target, std::string_view path) {
    if (target) {
      return fail(Kind::kTwice);
    }
    if (path.empty()) {
      return fail(Kind::kEmptyPath);
    }
    target = path;
    return true;
  }

  Taken take_place(std::string_view word) {
    const auto way = value_of(word, "accede.place="sv);
    if (!way) {
      return false;
    }
    if (place_known_) {
      return fail(Kind::kTwice);
    }
    place_known_ = true;
    options_.place_high = std::ranges::equal(*way, "high"sv);
    if (!options_.place_high && !std::ranges::equal(*way, "auto"sv)) {
      return fail(Kind::kBadPlace);
    }
    return true;
  }

  LoaderOptions options_;
  std::optional<std::string_view> kernel_;
  std::optional<std::string_view> initrd_;
  bool place_known_ = false;
};

}  // namespace

std::string_view to_string(OptionsError::Kind kind) {
  switch (kind) {
    case Kind::kTooLong:
      return "the load options are too long"sv;
    case Kind::kNotAscii:
      return "the load options have a character that is not ASCII"sv;
    case Kind::kNoKernel:
      return "the load options do not begin with kernel=PATH"sv;
    case Kind::kTwice:
      return "the load options say kernel=, initrd= or accede.place= twice"sv;
    case Kind::kEmptyPath:
      return "kernel= and initrd= need a path"sv;
    case Kind::kBadPlace:
      return "accede.place= takes high or auto"sv;
  }
  return "unknown error of the load options"sv;
}

std::expected<std::span<char>, OptionsError> to_ascii(
    std::span<const std::byte> utf16, std::span<char, kMostOptionCharacters> storage) {
  const ByteReader reader{utf16};
  std::size_t length = 0;
  for (; length < utf16.size() / 2; ++length) {
    const std::uint16_t c = *reader.read<std::uint16_t>(length * 2);
    if (c == 0) {
      break;
    }
    if (c < ' ' || c > '~') {
      return fail(Kind::kNotAscii, length);
    }
    if (length == storage.size()) {
      return fail(Kind::kTooLong, utf16.size() / 2, storage.size());
    }
    storage[length] = static_cast<char>(c);
  }
  return storage.first(length);
}

std::expected<LoaderOptions, OptionsError> parse_options(std::span<char> text) {
  return Parser{}.parse(text);
}

bool refuses_soft_reserve(std::string_view command_line) {
  while (!command_line.empty()) {
    auto values = value_of(take_until(command_line, ' '), "efi="sv);
    while (values && !values->empty()) {
      if (std::ranges::equal(take_until(*values, ','), "nosoftreserve"sv)) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace accede::efi::loader
