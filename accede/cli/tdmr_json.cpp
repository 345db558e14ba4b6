// `accede tdmr --json`.
#include "accede/cli/size_text.hpp"
#include "accede/cli/tdmr_answer.hpp"

#include <array>
#include <nlohmann/json.hpp>

namespace accede::cli {
namespace {

using Json = nlohmann::ordered_json;

Json range_json(PhysRange range) {
  return {{"base", range.begin().value()}, {"size", range.size().value()}};
}

Json tdmr_json(const host::PlannedTdmr& tdmr) {
  Json reserved = Json::array();
  Json reasons = Json::array();
  for (const host::PlannedArea& area : tdmr.areas()) {
    reserved.push_back(
        {(area.range.begin() - tdmr.range.begin()).value(), area.range.size().value()});
    reasons.push_back(reason_text(area.reasons));
  }
  constexpr std::array<const char*, 3> kSizes{"4k", "2m", "1g"};
  Json pamt = Json::object();
  for (std::size_t size = 0; size < tdmr.pamt.size(); ++size) {
    pamt[kSizes.at(size)] = range_json(tdmr.pamt.at(size).range);
    pamt[kSizes.at(size)]["node"] = static_cast<std::uint32_t>(tdmr.pamt.at(size).node);
  }
  Json object = range_json(tdmr.range);
  object["node"] = static_cast<std::uint32_t>(tdmr.node);
  object["td_memory_bytes"] = tdmr.td_memory.value();
  object["reserved"] = std::move(reserved);
  object["reserved_because"] = std::move(reasons);
  object["pamt"] = std::move(pamt);
  return object;
}

Json problem_json(const host::TdmrProblem& problem) {
  Json object{{"kind", name(problem.kind)}};
  object.update(range_json(problem.range));
  object["count"] = problem.count;
  object["limit"] = problem.limit;
  object["message"] = problem_text(problem);
  return object;
}

Json node_json(const host::NodeMemory& node) {
  return {{"node", static_cast<std::uint32_t>(node.node)},
          {"present_bytes", node.present.value()},
          {"td_memory_bytes", node.td_memory.value()},
          {"pamt_bytes", node.pamt.value()},
          {"foreign_pamt_bytes", node.foreign_pamt.value()},
          {"given_up_bytes", node.given_up.value()},
          {"not_convertible_bytes", node.not_convertible.value()}};
}

Json hot_add_json(const HotAddQuestion& question) {
  const host::HotAddAnswer& answer = question.answer;
  Json object = range_json(question.range);
  object["outcome"] = name(answer.outcome);
  object["usable_bytes"] = answer.usable.value();
  object["outside_bytes"] = answer.outside.value();
  object["reserved_bytes"] = answer.reserved.value();
  if (answer.outcome != host::HotAddOutcome::kUsable) {
    object["first_bad"] = format_hex(answer.first_bad.value());
    object["aug_status"] = format_hex(answer.aug_status);
  }
  return object;
}

Json linux_json(const host::LinuxTdmrs& linux_plan) {
  return {{"outcome", name(linux_plan.outcome)},
          {"tdmrs", linux_plan.tdmrs},
          {"areas", linux_plan.areas},
          {"worst_areas", linux_plan.worst_areas},
          {"pamt_bytes", linux_plan.pamt.value()}};
}

template <class Items, class Convert>
Json array_of(const Items& items, Convert convert) {
  Json array = Json::array();
  for (const auto& item : items) {
    array.push_back(convert(item));
  }
  return array;
}

Json given_up_json(const host::GivenUp& part) {
  Json object = range_json(part.range);
  object["node"] = static_cast<std::uint32_t>(part.node);
  return object;
}

}  // namespace

std::string tdmr_json(const TdmrTask& task, const TdmrAnswer& answer) {
  const host::TdmrPlan& plan = answer.plan;
  const Json document{
      {"feasible", plan.feasible},
      {"tdmrs",
       array_of(plan.tdmrs, [](const host::PlannedTdmr& tdmr) { return tdmr_json(tdmr); })},
      {"pamt_bytes", plan.pamt.value()},
      {"foreign_pamt_bytes", plan.foreign_pamt.value()},
      {"dynamic_pamt", task.dynamic_pamt},
      {"reserved_areas", plan.areas},
      {"optimum", plan.optimum == host::TdmrOptimum::kProven ? "proven" : "not-proven"},
      {"reserved_areas_at_least", plan.areas_at_least},
      {"problems", array_of(plan.problems, problem_json)},
      {"given_up", array_of(plan.given_up, given_up_json)},
      {"not_convertible", array_of(plan.not_convertible, given_up_json)},
      {"nodes_known", task.nodes_known},
      {"nodes", array_of(plan.nodes, node_json)},
      {"linux", linux_json(answer.linux_plan)},
      {"hot_add", array_of(answer.hot_add, hot_add_json)}};
  return document.dump(2) + "\n";
}

}  // namespace accede::cli
