#include "accede/cli/matrix_json.hpp"

#include "accede/cli/matrix_fidelity.hpp"
#include "accede/cli/matrix_upgrades.hpp"

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

namespace accede::cli {
namespace {

/// Keeps the order in which fields are written.
using Json = nlohmann::ordered_json;

Json or_null(std::optional<Bytes> size) {
  return size ? Json(size->value()) : Json(nullptr);
}

/// To the sixth digit: more say nothing.
Json or_null(std::optional<double> value) {
  return value ? Json(std::round(*value * 1e6) / 1e6) : Json(nullptr);
}

Json or_null(const std::optional<std::string>& text) {
  return text ? Json(*text) : Json(nullptr);
}

Json place_json(const CellPlace& place) {
  return {{"platform", name(place.platform)},
          {"firmware", name(place.firmware)},
          {"kernel_kind", name(place.column)}};
}

Json cell_json(const MatrixCell& cell) {
  const CellFigures& figures = cell.figures;
  const BootClass prediction = predicted(cell.place.firmware, cell.place.column);
  const auto differs = difference(prediction, figures);
  const auto share = [&figures](Bytes AcceptedShares::* member) {
    return or_null(figures.accepted ? std::optional{(*figures.accepted).*member} : std::nullopt);
  };
  Json json = place_json(cell.place);
  json["firmware_age"] = age(cell.place.firmware);
  json["fidelity"] = fidelity(cell);
  json["kernel"] = figures.kernel;
  json["outcome"] = class_name(figures);
  json["message"] = figures.message.empty() ? Json(nullptr) : Json(figures.message);
  json["seconds"] = or_null(std::optional{figures.seconds});
  json["kernel_to_init_seconds"] = or_null(figures.kernel_to_init);
  json["mem_total_bytes"] = or_null(figures.mem_total);
  json["lost_bytes"] = or_null(figures.lost);
  json["unaccepted_at_start_bytes"] = share(&AcceptedShares::pending);
  json["accepted_by_firmware_bytes"] = share(&AcceptedShares::by_firmware);
  json["accepted_by_kernel_bytes"] = share(&AcceptedShares::by_kernel);
  json["broken_rules"] = figures.broken_rules;
  json["predicted"] = prediction_name(prediction);
  json["holds"] = !differs.has_value();
  json["difference"] = or_null(differs);
  return json;
}

Json upgrade_json(const Upgrade& upgrade) {
  return {{"effect", name(upgrade.regression)},
          {"part", upgrade.of_firmware() ? "firmware" : "kernel"},
          {"from", place_json(upgrade.from.place)},
          {"to", place_json(upgrade.to.place)}};
}

Json scarce_json(const ScarceBoot& boot) {
  const CellFigures& figures = boot.figures;
  return {{"platform", name(boot.platform)},
          {"kernel", figures.kernel},
          {"firmware_accept_bytes", boot.asked_to_accept.value()},
          {"outcome", class_name(figures)},
          {"message", figures.message.empty() ? Json(nullptr) : Json(figures.message)},
          {"mem_total_bytes", or_null(figures.mem_total)},
          {"wanted_bytes", boot.wanted.value()},
          {"touched_bytes", or_null(boot.touched)},
          {"out_of_memory", boot.out_of_memory}};
}

}  // namespace

std::string matrix_json(const MatrixReport& report) {
  Json json;
  json["memory_bytes"] = report.memory.value();
  json["accept_cost_ns"] = report.accept_cost ? Json(report.accept_cost->count()) : Json(nullptr);
  json["cells"] = Json::array();
  for (const MatrixCell& cell : report.cells) {
    json["cells"].push_back(cell_json(cell));
  }
  json["upgrades"] = Json::array();
  for (const Upgrade& upgrade : survey_upgrades(report.cells).worse) {
    json["upgrades"].push_back(upgrade_json(upgrade));
  }
  json["scarce"] = Json::array();
  for (const ScarceBoot& boot : report.scarce) {
    json["scarce"].push_back(scarce_json(boot));
  }
  constexpr int kIndent = 2;
  // What is not UTF-8 is replaced, so that no guest can spoil the document.
  return json.dump(kIndent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace accede::cli
