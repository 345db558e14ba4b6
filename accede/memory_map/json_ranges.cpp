#include "accede/memory_map/json_ranges.hpp"

#include "accede/memory_map/text_scan.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace accede::memory_map {
namespace {

using Json = nlohmann::json;

struct KindName {
  std::string_view name;
  RegionKind kind;
};
constexpr std::array<KindName, 6> kKinds{{{"ram", RegionKind::kRam},
                                          {"reserved", RegionKind::kReserved},
                                          {"pmem", RegionKind::kPersistent},
                                          {"pmem-ram", RegionKind::kPersistentRam},
                                          {"specific-purpose", RegionKind::kSpecificPurpose},
                                          {"cxl-ram", RegionKind::kCxlRam}}};

std::optional<std::uint64_t> number(const Json& value) {
  if (value.is_number_unsigned()) {
    return value.get<std::uint64_t>();
  }
  if (!value.is_string()) {
    return std::nullopt;
  }
  TextScan scan{value.get_ref<const std::string&>()};
  const auto read = scan.number();
  return scan.at_end() ? read : std::nullopt;
}

std::optional<std::uint64_t> field(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() ? std::nullopt : number(*found);
}

std::expected<Region, std::string> region_of(const Json& object) {
  if (!object.is_object()) {
    return std::unexpected{"is no object"};
  }
  const auto base = field(object, "base");
  const auto size = field(object, "size");
  if (!base || !size) {
    return std::unexpected{
        "needs \"base\" and \"size\": bytes, a number or a text such as \"0x1000\""};
  }
  const auto range = PhysRange::make(PhysAddr{*base}, Bytes{*size});
  if (!range) {
    return std::unexpected{"wraps: it ends beyond 2^64"};
  }
  Region region{.range = *range};
  if (object.contains("node")) {
    const auto node = field(object, "node");
    if (!node || *node > std::numeric_limits<std::uint32_t>::max()) {
      return std::unexpected{"has a \"node\" that is no number of 32 bits"};
    }
    region.node = static_cast<std::uint32_t>(*node);
  }
  if (const auto kind = object.find("kind"); kind != object.end()) {
    const auto known = std::ranges::find_if(kKinds, [&](const KindName& candidate) {
      return kind->is_string() && kind->get_ref<const std::string&>() == candidate.name;
    });
    if (known == kKinds.end()) {
      return std::unexpected{
          "has an unknown \"kind\" (ram, reserved, pmem, pmem-ram, specific-purpose, cxl-ram)"};
    }
    region.kind = known->kind;
  }
  return region;
}

/// A tower of arrays takes the library far longer to build than to read.
bool nests_too_deep(std::string_view text) {
  constexpr int kDeepest = 64;
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size() && depth <= kDeepest; ++i) {
    if (quoted && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      quoted = !quoted;
    } else if (!quoted) {
      depth += text[i] == '[' || text[i] == '{' ? 1 : 0;
      depth -= text[i] == ']' || text[i] == '}' ? 1 : 0;
    }
  }
  return depth > kDeepest;
}

}  // namespace

std::expected<std::vector<Region>, ReadError> read_json_ranges(std::string_view text) {
  if (nests_too_deep(text)) {
    return std::unexpected{ReadError{.line = 0, .message = "JSON of more than 64 levels"}};
  }
  const Json document = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_array()) {
    return std::unexpected{ReadError{.line = 0, .message = "no JSON array of ranges"}};
  }
  if (document.size() > kMostRanges) {
    return std::unexpected{too_many_ranges(0)};
  }
  std::vector<Region> regions;
  for (const Json& element : document) {
    auto region = region_of(element);
    if (!region) {
      return std::unexpected{
          ReadError{.line = 0,
                    .message = "element " + std::to_string(regions.size()) + " " + region.error()}};
    }
    regions.push_back(*region);
  }
  return regions;
}

}  // namespace accede::memory_map
