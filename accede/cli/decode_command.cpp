#include "accede/cli/decode_command.hpp"

#include "accede/cli/decode_code.hpp"
#include "accede/cli/failure.hpp"
#include "accede/cli/line_splitter.hpp"

#include <algorithm>
#include <array>
#include <iomanip>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

namespace accede::cli {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Reading& reading) {
  return {{"code", reading.code},
          {"name", reading.name},
          {"class", reading.kind},
          {"operand", reading.operand.empty() ? Json(nullptr) : Json(reading.operand)},
          {"meaning", reading.meaning},
          {"usual_cause", reading.usual_cause},
          {"family", reading.family}};
}

void print(const Reading& reading, std::ostream& out) {
  constexpr int kLabelWidth = 15;
  const std::array<std::pair<std::string_view, const std::string*>, 4> rows{
      {{"class", &reading.kind},
       {"operand", &reading.operand},
       {"meaning", &reading.meaning},
       {"usual cause", &reading.usual_cause}}};
  out << reading.code << "  " << reading.name << "  [" << reading.family << "]\n";
  for (const auto& [label, text] : rows) {
    if (!text->empty()) {
      out << "  " << std::left << std::setw(kLabelWidth - 2) << label << *text << "\n";
    }
  }
}

void print(std::span<const Reading> readings, bool json, std::ostream& out) {
  if (json) {
    Json all = Json::array();
    for (const Reading& reading : readings) {
      all.push_back(to_json(reading));
    }
    out << (all.size() == 1 ? all.front() : all).dump(2) << "\n";
    return;
  }
  std::string_view separator;
  for (const Reading& reading : readings) {
    out << separator;
    print(reading, out);
    separator = "\n";
  }
}

}  // namespace

int decode_command(std::span<const std::string> codes, bool json, std::ostream& out,
                   std::ostream& err) {
  std::vector<CodeQuery> queries;
  for (const std::string& text : codes) {
    auto query = parse_code(text);
    if (!query) {
      err << "accede decode: " << printable(text)
          << " is no code: a number (0x... or decimal, 64 bits), set:code, or one of them after "
             "FAMILY: (accede decode --help)\n";
      return kExitUsage;
    }
    queries.push_back(std::move(*query));
  }
  std::vector<Reading> all;
  int exit_code = kExitDone;
  for (const CodeQuery& query : queries) {
    auto readings = readings_of(query);
    if (readings.empty()) {
      err << "accede decode: " << printable(query.text) << " is no known "
          << (query.family.empty() ? "" : query.family + " ") << "code.\n";
      exit_code = kExitTestedFailed;
    }
    std::ranges::move(readings, std::back_inserter(all));
  }
  print(all, json, out);
  return exit_code;
}

}  // namespace accede::cli
