#include "accede/cli/inspect_output.hpp"

#include "accede/cli/line_splitter.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <sstream>
#include <string_view>
#include <vector>

namespace accede::cli {
namespace {

using image::Knows;
using inspect::Capability;
using inspect::Evidence;
using inspect::Feature;
using inspect::Report;
using nlohmann::ordered_json;

ordered_json file_json(const InspectedFile& file) {
  return {{"file", file.path}, {"bytes", file.bytes}, {"modified", file.modified}};
}

ordered_json text_or_null(const std::string& text) {
  return text.empty() ? ordered_json{} : ordered_json(text);
}

ordered_json capability_json(const Capability& capability) {
  ordered_json json;
  const bool known = capability.value != Knows::kUnknown;
  json["value"] = known ? ordered_json(capability.value == Knows::kYes) : ordered_json{};
  json["confidence"] = known ? ordered_json(to_string(capability.confidence)) : ordered_json{};
  json["evidence"] = ordered_json::array();
  for (const Evidence& evidence : capability.evidence) {
    json["evidence"].push_back(
        {{"signal", evidence.signal}, {"in", evidence.place}, {"offset", evidence.offset}});
  }
  if (!capability.backported_from.empty()) {
    json["backported_from"] = capability.backported_from;
  }
  return json;
}

/// Whether a feature is worth a line: firmware has no kexec, kernels no accept protocol.
bool says_something(const Capability& capability) {
  return capability.value != Knows::kUnknown || !capability.evidence.empty();
}

/// "SMP", "PREEMPT_DYNAMIC": what a kernel's builder says of its configuration.
std::vector<std::string> words_of(const std::string& uts_version) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_";
  std::vector<std::string> words;
  std::istringstream text{uts_version};
  for (std::string word; text >> word;) {
    if (word.size() > 2 && word.find_first_not_of(kLetters) == word.npos) {
      words.push_back(word);
    }
  }
  return words;
}

std::string joined(std::span<const std::string> words) {
  std::string line;
  for (const std::string& word : words) {
    line += (line.empty() ? "" : " ") + word;
  }
  return line;
}

std::string hex(std::uint64_t value) {
  std::ostringstream text;
  text << "0x" << std::hex << value;
  return text.str();
}

std::string evidence_text(const Capability& capability) {
  constexpr std::size_t kMost = 2;
  std::string text;
  const auto& all = capability.evidence;
  for (const Evidence& evidence : std::span{all}.first(std::min(kMost, all.size()))) {
    text += (text.empty() ? "" : "; ") + evidence.signal + " (" + evidence.place + " " +
            hex(evidence.offset) + ")";
  }
  return all.size() <= kMost ? text : text + "; " + std::to_string(all.size() - kMost) + " more";
}

void write_row(std::ostream& out, std::string_view name, std::string_view value) {
  constexpr std::size_t kNameWidth = 22;
  if (!value.empty()) {
    out << "  " << name << std::string(kNameWidth - std::min(kNameWidth - 1, name.size()), ' ')
        << printable(value) << "\n";
  }
}

void write_capabilities(std::ostream& out, const Report& report) {
  for (std::size_t i = 0; i < inspect::kFeatureCount; ++i) {
    const auto feature = static_cast<Feature>(i);
    const Capability& capability = report[feature];
    if (!says_something(capability)) {
      continue;
    }
    std::string value{to_string(capability.value)};
    if (capability.value != Knows::kUnknown) {
      value += ", " + std::string{to_string(capability.confidence)};
    }
    if (!capability.backported_from.empty()) {
      value += ", back-ported from " + capability.backported_from;
    }
    write_row(out, to_string(feature), value + ": " + evidence_text(capability));
  }
}

}  // namespace

ordered_json inspection_json(const InspectedFile& file, const Report& report,
                             const std::optional<inspect::ClaimCheck>& claims,
                             const BootedImage* booted) {
  ordered_json json = file_json(file);
  json["kind"] = to_string(report.kind);
  json["version"] = text_or_null(report.version);
  json["uts_version"] = text_or_null(report.uts_version);
  json["uts_words"] = words_of(report.uts_version);
  json["xloadflags"] = report.xloadflags;
  json["compression"] = text_or_null(report.compression);
  json["config"] = report.config;
  json["tags"] = inspect::tags_of(report);
  ordered_json& capabilities = json["capabilities"] = ordered_json::object();
  for (std::size_t i = 0; i < inspect::kFeatureCount; ++i) {
    const auto feature = static_cast<Feature>(i);
    if (says_something(report[feature])) {
      capabilities[std::string{to_string(feature)}] = capability_json(report[feature]);
    }
  }
  json["wrong_claims"] = claims ? claims->wrong : std::vector<std::string>{};
  json["unproven_claims"] = claims ? claims->unproven : std::vector<std::string>{};
  json["verdict"] = {{"accept-all", report.verdict.accept_all},
                     {"handshake", report.verdict.handshake},
                     {"never", report.verdict.never}};
  json["notes"] = report.notes;
  if (booted != nullptr) {
    json["boot"] = boot_json(*booted);
  }
  return json;
}

ordered_json inspection_error_json(const InspectedFile& file, const std::string& message) {
  ordered_json json = file_json(file);
  json["error"] = message;
  return json;
}

std::string json_line(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string inspection_text(const InspectedFile& file, const Report& report,
                            const std::optional<inspect::ClaimCheck>& claims,
                            const BootedImage* booted) {
  std::ostringstream out;
  const std::string version = report.version.empty() ? "version unknown" : report.version;
  out << printable(file.path) << ": " << to_string(report.kind) << ", " << printable(version)
      << "\n";
  write_row(out, "tags", joined(inspect::tags_of(report)));
  write_capabilities(out, report);
  write_row(out, "firmware: accept-all", report.verdict.accept_all);
  write_row(out, "firmware: handshake", report.verdict.handshake);
  write_row(out, "firmware: never", report.verdict.never);
  write_row(out, "uts version", report.uts_version);
  write_row(out, "xloadflags", joined(report.xloadflags));
  write_row(out, "compression", report.compression);
  for (const auto& [option, value] : report.config) {
    write_row(out, "config", "CONFIG_" + option + "=" + value);
  }
  if (claims) {
    write_row(out, "wrong claims", claims->wrong.empty() ? "none" : joined(claims->wrong));
    write_row(out, "unproven claims", joined(claims->unproven));
  }
  for (const std::string& note : report.notes) {
    write_row(out, "note", note);
  }
  if (booted != nullptr) {
    for (const auto& [name, value] : boot_rows(*booted)) {
      write_row(out, name, value);
    }
  }
  return out.str();
}

}  // namespace accede::cli
