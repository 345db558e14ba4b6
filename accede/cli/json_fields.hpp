// Reading JSON that others wrote: every field may be absent or of the wrong type.
#pragma once

#include "accede/cli/line_splitter.hpp"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace accede::cli {

/// An object, or nothing for anything else.
[[nodiscard]] inline std::optional<nlohmann::json> parse_object(std::string_view text) {
  auto value = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  return value.is_object() ? std::optional{std::move(value)} : std::nullopt;
}

/// The text of `name`, fit for a terminal: JSON can spell control characters that a line cannot
/// hold. Empty when it is absent or not text.
[[nodiscard]] inline std::string text_field(const nlohmann::json& object, const char* name) {
  const auto field = object.find(name);
  return field != object.end() && field->is_string() ? printable(field->get<std::string>())
                                                     : std::string{};
}

[[nodiscard]] inline std::optional<std::uint64_t> number_field(const nlohmann::json& object,
                                                               const char* name) {
  const auto field = object.find(name);
  return field != object.end() && field->is_number_unsigned()
             ? std::optional{field->get<std::uint64_t>()}
             : std::nullopt;
}

[[nodiscard]] inline std::optional<double> real_field(const nlohmann::json& object,
                                                      const char* name) {
  const auto field = object.find(name);
  return field != object.end() && field->is_number() ? std::optional{field->get<double>()}
                                                     : std::nullopt;
}

/// The object `name`; an empty object when it is absent or something else.
[[nodiscard]] inline nlohmann::json object_field(const nlohmann::json& object, const char* name) {
  const auto field = object.find(name);
  return field != object.end() && field->is_object() ? *field : nlohmann::json::object();
}

}  // namespace accede::cli
