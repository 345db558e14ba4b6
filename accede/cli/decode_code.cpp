#include "accede/cli/decode_code.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace accede::cli {
namespace {

struct Family {
  std::string_view name;
  std::optional<Reading> (*read)(std::uint64_t code, bool asked);
};
/// In the order of readings: a family that few numbers belong to comes before one with many.
constexpr auto kFamilies = std::to_array<Family>({
    {"tdx", read_tdx},
    {"vmcall", read_vmcall},
    {"pvalidate", read_pvalidate},
    {"rmpadjust", read_rmpadjust},
    {"rmpupdate", read_rmpupdate},
    {"psmash", read_psmash},
    {"ghcb-error", read_ghcb_error},
    {"ghcb-exit", read_ghcb_exit},
    {"snp-fw", read_snp_firmware},
    {"sev-term", read_sev_termination},
    {"efi", read_efi},
    {"ghcb-msr", read_ghcb_msr},
});

std::optional<std::uint64_t> parse_number(std::string_view text) {
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    text.remove_prefix(2);
    base = 16;
  }
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc{} && end == text.data() + text.size() ? std::optional{value}
                                                                  : std::nullopt;
}

}  // namespace

std::optional<CodeText> find_text(std::span<const CodeText> texts, std::string_view name) {
  const auto found = std::ranges::find(texts, name, &CodeText::name);
  return found != texts.end() ? std::optional{*found} : std::nullopt;
}

std::optional<CodeQuery> parse_code(std::string_view text) {
  CodeQuery query{.text = std::string{text}, .family = {}, .value = 0, .is_set_code = false};
  const auto family = std::ranges::find_if(kFamilies, [&](const Family& entry) {
    return text.size() > entry.name.size() && text.starts_with(entry.name) &&
           text[entry.name.size()] == ':';
  });
  if (family != kFamilies.end()) {
    query.family = family->name;
    text.remove_prefix(family->name.size() + 1);
  }
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) {
    const auto value = parse_number(text);
    query.value = value.value_or(0);
    return value ? std::optional{query} : std::nullopt;
  }
  const auto set = parse_number(text.substr(0, colon));
  const auto code = parse_number(text.substr(colon + 1));
  const bool may_be_termination = query.family.empty() || query.family == "sev-term";
  if (!may_be_termination || !set || !code || *set > 0xF || *code > 0xFF) {
    return std::nullopt;
  }
  query.family = "sev-term";
  query.value = *set << 8 | *code;
  query.is_set_code = true;
  return query;
}

std::vector<Reading> readings_of(const CodeQuery& query) {
  std::vector<Reading> readings;
  if (query.is_set_code) {
    if (auto reading = read_termination_reason(static_cast<std::uint8_t>(query.value >> 8),
                                               static_cast<std::uint8_t>(query.value))) {
      readings.push_back(std::move(*reading));
    }
    return readings;
  }
  for (const Family& family : kFamilies) {
    const bool asked = query.family == family.name;
    if (!asked && !query.family.empty()) {
      continue;
    }
    if (auto reading = family.read(query.value, asked)) {
      readings.push_back(std::move(*reading));
    }
  }
  return readings;
}

std::string family_names() {
  std::string names;
  for (const Family& family : kFamilies) {
    names += (names.empty() ? "" : " ") + std::string{family.name};
  }
  return names;
}

}  // namespace accede::cli
