// What boots of an image showed, for programs and for a person.
#include "accede/cli/inspect_boot.hpp"
#include "accede/cli/size_text.hpp"
#include "accede/inspect/claims.hpp"

namespace accede::cli {
namespace {

using image::Knows;
using inspect::Feature;
using inspect::Report;

std::vector<std::string> refuted_tags(const Report& seen) {
  std::vector<std::string> refuted;
  Report opposite;
  for (const Feature feature : kBootShows) {
    if (seen[feature].value == Knows::kNo) {
      opposite[feature].value = Knows::kYes;
    }
  }
  return inspect::tags_of(opposite);
}

nlohmann::ordered_json bytes_or_null(std::optional<Bytes> bytes) {
  return bytes ? nlohmann::ordered_json(bytes->value()) : nlohmann::ordered_json{};
}

nlohmann::ordered_json run_summary(const RunResult& run) {
  nlohmann::ordered_json json;
  json["platform"] = name(run.label.platform);
  json["firmware"] = name(run.label.firmware);
  json["memory_bytes"] = run.label.memory.value();
  json["outcome"] = name(run.outcome);
  json["message"] = run.message;
  json["memory_encryption"] = run.encryption;
  json["lost_bytes"] = bytes_or_null(lost_memory(run));
  json["mem_total_bytes"] = nullptr;
  json["unaccepted_bytes"] = nullptr;
  if (run.up) {
    json["mem_total_bytes"] = run.up->mem_total.value();
    json["unaccepted_bytes"] = bytes_or_null(run.up->unaccepted);
  }
  json["by_firmware_bytes"] = nullptr;
  json["by_image_bytes"] = nullptr;
  if (const auto accepted = acceptance_of(run)) {
    json["by_firmware_bytes"] = accepted->by_firmware.value();
    json["by_image_bytes"] = accepted->by_image.value();
  }
  json["boot_services_seconds"] = nullptr;
  if (run.boot_services_exited) {
    json["boot_services_seconds"] = *run.boot_services_exited;
  }
  json["seconds"] = run.total;
  return json;
}

std::string run_text(const RunResult& run) {
  std::string text = std::string{name(run.outcome)};
  text += run.message.empty() ? "" : " (" + run.message + ")";
  if (const auto accepted = acceptance_of(run)) {
    text += ", of " + format_size(accepted->lazy) + " the firmware accepted " +
            format_size(accepted->by_firmware) + ", the image " + format_size(accepted->by_image);
  }
  if (const auto lost = lost_memory(run)) {
    text += ", lost " + format_size(*lost);
  }
  return text;
}

std::string joined(std::span<const std::string> words) {
  std::string line;
  for (const std::string& word : words) {
    line += (line.empty() ? "" : " ") + word;
  }
  return line;
}

}  // namespace

nlohmann::ordered_json boot_json(const BootedImage& booted) {
  using nlohmann::ordered_json;
  ordered_json json;
  json["exit_code"] = static_cast<int>(exit_code(booted));
  json["problem"] = booted.problem.empty() ? ordered_json{} : ordered_json(booted.problem);
  json["version"] =
      booted.seen.version.empty() ? ordered_json{} : ordered_json(booted.seen.version);
  json["tags"] = inspect::tags_of(booted.seen);
  json["refuted"] = refuted_tags(booted.seen);
  ordered_json& evidence = json["evidence"] = ordered_json::array();
  for (const Feature feature : kBootShows) {
    for (const auto& one : booted.seen[feature].evidence) {
      evidence.push_back({{"capability", to_string(feature)},
                          {"value", booted.seen[feature].value == Knows::kYes},
                          {"signal", one.signal},
                          {"in", one.place}});
    }
  }
  ordered_json& disagreements = json["disagreements"] = ordered_json::array();
  for (const Disagreement& one : booted.disagreements) {
    disagreements.push_back({{"subject", one.subject}, {"image", one.image}, {"boot", one.boot}});
  }
  ordered_json& runs = json["runs"] = ordered_json::array();
  for (const RunResult& run : booted.runs) {
    runs.push_back(run_summary(run));
  }
  return json;
}

std::vector<std::pair<std::string, std::string>> boot_rows(const BootedImage& booted) {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const RunResult& run : booted.runs) {
    rows.emplace_back("boot: " + place_of(run), run_text(run));
  }
  if (!booted.problem.empty()) {
    rows.emplace_back("not booted", booted.problem);
  }
  if (booted.runs.empty()) {
    return rows;
  }
  rows.emplace_back("booted version", booted.seen.version);
  rows.emplace_back("boot shows", joined(inspect::tags_of(booted.seen)));
  rows.emplace_back("boot refutes", joined(refuted_tags(booted.seen)));
  for (const Disagreement& one : booted.disagreements) {
    rows.emplace_back("disagreement",
                      one.subject + ": the image says " + one.image + ", the boot " + one.boot);
  }
  return rows;
}

}  // namespace accede::cli
