#include "accede/cli/result_json.hpp"

#include "accede/cli/size_text.hpp"
#include "accede/cli/steps_text.hpp"

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

namespace accede::cli {
namespace {

/// Keeps the order in which fields are written.
using Json = nlohmann::ordered_json;

using emulator::Counters;
using emulator::Phase;
using emulator::ReportHeader;

Json or_null(std::optional<Bytes> size) {
  return size ? Json(size->value()) : Json(nullptr);
}

/// Seconds and ratios to the sixth digit: more say nothing.
Json or_null(std::optional<double> value) {
  return value ? Json(std::round(*value * 1e6) / 1e6) : Json(nullptr);
}

std::uint64_t by(const Counters& counters, Phase phase) {
  return counters.accepted_bytes[static_cast<std::size_t>(phase)];
}

/// What only our own kernel says of itself.
void add_own_figures(Json& guest, const std::optional<GuestState>& state) {
  if (!state) {
    return;
  }
  for (const auto& [field, figure] : {std::pair{"used_bytes", state->used},
                                      {"page_info_bytes", state->page_info},
                                      {"accepted_bytes", state->accepted}}) {
    if (figure) {
      guest[field] = figure->value();
    }
  }
  if (!state->table.empty()) {
    guest["table"] = state->table;
  }
}

Json guest_json(const RunResult& result) {
  Json guest;
  const auto field = [&result](auto member) -> Json {
    return result.up ? Json(((*result.up).*member).value()) : Json(nullptr);
  };
  guest["mem_total_bytes"] = field(&GuestState::mem_total);
  guest["mem_free_bytes"] = field(&GuestState::mem_free);
  guest["unaccepted_bytes"] = or_null(result.up ? result.up->unaccepted : std::nullopt);
  guest["lost_bytes"] = or_null(lost_memory(result));
  guest["ram_bytes"] = or_null(result.up ? result.up->ram : result.console_ram);
  guest["knows_unaccepted_memory"] =
      result.up ? Json(result.up->unaccepted.has_value()) : Json(nullptr);
  guest["memory_encryption"] = result.encryption.empty() ? Json(nullptr) : Json(result.encryption);
  guest["uptime_seconds"] = result.up ? Json(result.up->uptime_seconds) : Json(nullptr);
  add_own_figures(guest, result.up);
  return guest;
}

Json accept_json(const RunResult& result, const ReportHeader& header) {
  const Counters& counters = header.counters;
  Json accept;
  accept["bytes"] = total_accepted(counters);
  accept["by_firmware_bytes"] = by(counters, Phase::kFirmware);
  accept["by_loader_bytes"] = by(counters, Phase::kLoader);
  accept["by_kernel_bytes"] = by(counters, Phase::kKernel);
  accept["calls"] = {{"4k", counters.accept_calls[0]},
                     {"2m", counters.accept_calls[1]},
                     {"1g", counters.accept_calls[2]}};
  accept["refused_1g"] = counters.refused_1g;
  accept["size_mismatch"] = counters.size_mismatch;
  accept["already_accepted"] = counters.already_accepted;
  accept["other_errors"] = counters.accept_other_errors;
  accept["longest_step_bytes"] = counters.longest_step_bytes;
  accept["seconds"] = or_null(std::optional{seconds_of(total_accept_ticks(counters), header)});
  accept["by_firmware_seconds"] = or_null(accept_seconds(result, Phase::kFirmware));
  const auto& forecast = result.label.forecast;
  accept["by_firmware_predicted_seconds"] =
      or_null(forecast ? std::optional{forecast->seconds} : std::nullopt);
  accept["by_firmware_predicted_bytes"] =
      or_null(forecast ? std::optional{forecast->accepted} : std::nullopt);
  return accept;
}

Json first_touch_json(const RunResult& result) {
  if (!result.work || result.work->first_touch.count == 0) {
    return nullptr;
  }
  const FirstTouch& touch = result.work->first_touch;
  Json histogram = Json::array();
  for (const LatencyBucket& bucket : touch.histogram) {
    histogram.push_back({bucket.upper_ns, bucket.count});
  }
  return {{"count", touch.count}, {"p50", touch.p50}, {"p99", touch.p99},      {"p999", touch.p999},
          {"p9999", touch.p9999}, {"max", touch.max}, {"histogram", histogram}};
}

Json work_object(const GuestWork& work) {
  return {{"touched_bytes", work.touched.value()},
          {"wrong_pages", work.wrong_pages},
          {"seconds", or_null(std::optional{work.seconds})},
          {"stopped", work.stopped},
          {"mem_free_bytes", work.state.mem_free.value()},
          {"unaccepted_bytes", or_null(work.state.unaccepted)}};
}

Json work_json(const RunResult& result) {
  if (!result.work) {
    return nullptr;
  }
  Json json = work_object(*result.work);
  const auto& measured = result.at_work;
  json["backed_bytes"] = or_null(measured ? measured->backed : std::nullopt);
  json["accept_bytes"] = measured && measured->report
                             ? Json(total_accepted(measured->report->header.counters))
                             : Json(nullptr);
  return json;
}

Json kexec_json(const RunResult& result) {
  if (!has_kexec(result)) {
    return nullptr;
  }
  const auto unaccepted = [](const std::optional<GuestState>& state) {
    return or_null(state ? state->unaccepted : std::nullopt);
  };
  const auto doubles = double_accepts(result);
  return {{"unaccepted_before_bytes", unaccepted(result.kexec_state)},
          {"unaccepted_after_bytes", unaccepted(result.second)},
          {"accepted_bytes", or_null(accepted_by_kexec(result))},
          {"double_accepts", doubles ? Json(*doubles) : Json(nullptr)},
          {"seconds", or_null(kexec_seconds(result))},
          {"marked_page", result.marked_page ? Json(*result.marked_page) : Json(nullptr)},
          {"work", result.second_work ? work_object(*result.second_work) : Json(nullptr)}};
}

/// Calls that happened, by name.
Json slots_json(std::span<const std::uint64_t> counts, std::string_view (*slot_name)(std::size_t)) {
  Json calls = Json::object();
  for (std::size_t slot = 0; slot < counts.size(); ++slot) {
    if (counts[slot] != 0) {
      calls[std::string{slot_name(slot)}] = counts[slot];
    }
  }
  return calls;
}

/// What only an SNP guest does to the owners of its pages.
Json rmp_json(const Counters& counters) {
  return {{"rescind_calls", counters.rescind_calls},
          {"rescinded_bytes", counters.rescinded_bytes},
          {"rmpadjust_calls", counters.rmpadjust_calls},
          {"smashed_pages", counters.smashed_pages}};
}

Json exits_json(const ReportHeader& header) {
  const Counters& counters = header.counters;
  Json tdcall = Json::object();
  for (std::size_t leaf = 0; leaf < counters.tdcall.size(); ++leaf) {
    if (counters.tdcall[leaf] != 0) {
      tdcall[std::to_string(leaf)] = counters.tdcall[leaf];
    }
  }
  if (counters.tdcall_other != 0) {
    tdcall["other"] = counters.tdcall_other;
  }
  return {{"tdcall", tdcall},
          {"vmcall", slots_json(counters.vmcall, vmcall_name)},
          {"ghcb", slots_json(counters.ghcb, ghcb_name)},
          {"cpuid", counters.exits_cpuid},
          {"npf", counters.exits_npf},
          {"msr", counters.exits_msr},
          {"io", counters.exits_io},
          {"other", counters.exits_other},
          {"idle_waits", counters.idle_waits},
          {"ve_injected", counters.ve_injected}};
}

Json violations_json(const ReportHeader& header) {
  Json list = Json::array();
  for (std::size_t i = 0; i < header.violation_slots; ++i) {
    const emulator::Violation& violation = header.violations[i];
    list.push_back({{"kind", kind_name(violation.kind)},
                    {"gpa", format_hex(violation.gpa)},
                    {"rip", format_hex(violation.rip)},
                    {"count", violation.count},
                    {"fatal", violation.fatal != 0},
                    {"vcpu", violation.vcpu},
                    {"detail", violation.detail}});
  }
  return list;
}

Json fault_json(const RunResult& result) {
  if (!result.fault) {
    return nullptr;
  }
  const Fault& fault = *result.fault;
  return {{"kind", fault.kind},   {"gpa", fault.gpa},  {"rip", fault.rip},
          {"state", fault.state}, {"symbol", nullptr}, {"message", fault.message}};
}

/// What the emulator counted; zeros without one, so that a reader finds every field.
void add_emulator(Json& json, const RunResult& result) {
  const ReportHeader nothing{};
  const ReportSnapshot* const main = main_report(result);
  const ReportSnapshot* const last = last_report(result);
  const ReportHeader& header = main != nullptr ? main->header : nothing;
  const ReportHeader& end = last != nullptr ? last->header : nothing;

  json["accept"] = accept_json(result, header);
  json["first_touch_ns"] = first_touch_json(result);
  json["work"] = work_json(result);
  json["kexec"] = kexec_json(result);
  json["convert"] = {{"to_shared_bytes", header.counters.to_shared_bytes},
                     {"to_private_bytes", header.counters.to_private_bytes},
                     {"calls", header.counters.convert_calls},
                     {"entries", header.counters.page_state_entries},
                     {"implicit_pages", header.counters.implicit_conversions}};
  json["rmp"] = rmp_json(header.counters);
  json["exits"] = exits_json(end);
  json["emulator_seconds"] = or_null(std::optional{seconds_of(end.counters.exit_ticks, end)});
  json["lazy_bytes"] = header.lazy_bytes;
  json["launch_bytes"] = header.launch_bytes;
  json["hidden_bytes"] = header.hidden_bytes;
  json["events"] = {{"count", end.event_count}, {"dropped", end.event_dropped}};
  json["violations"] = violations_json(end);
}

Json steps_json(const RunResult& result) {
  Json list = Json::array();
  for (const Step& step : steps_of(result)) {
    list.push_back({{"who", step.who},
                    {"what", step.what},
                    {"bytes", or_null(step.bytes)},
                    {"seconds", or_null(step.seconds)}});
  }
  return list;
}

Json run_object(const RunResult& result, bool with_steps) {
  const RunLabel& label = result.label;
  const bool emulated = label.platform != Platform::kNone;
  Json json;
  json["platform"] = name(label.platform);
  json["memory_bytes"] = label.memory.value();
  json["accept_mode"] = emulated ? name(label.mode) : "none";
  json["firmware"] = emulated ? name(label.firmware) : "none";
  json["firmware_accept"] = emulated ? name(label.firmware_accept) : "none";
  json["accept_cost_ns"] = label.accept_cost ? Json(label.accept_cost->count()) : Json(nullptr);
  json["kernel"] = label.kernel;
  json["loader"] = name(label.loader);
  json["shim"] = label.shim;
  json["accel"] = "tcg";
  json["vcpus"] = 1;
  json["outcome"] = name(result.outcome);
  json["message"] = result.message.empty() ? Json(nullptr) : Json(result.message);
  json["seconds"] = {{"firmware", or_null(result.boot_services_exited)},
                     {"kernel_to_init", or_null(kernel_to_init(result))},
                     {"total", or_null(std::optional{result.total})}};
  json["guest"] = guest_json(result);
  const std::optional<Measurement>& rest = result.at_up ? result.at_up : result.at_end;
  json["host"] = {{"backed_bytes", or_null(rest ? rest->backed : std::nullopt)}};
  add_emulator(json, result);
  json["fault"] = fault_json(result);
  json["warnings"] = result.warnings;
  if (with_steps) {
    json["steps"] = steps_json(result);
  }
  if (exit_code(result) != kExitDone) {
    json["console_tail"] = result.console_tail;
  }
  return json;
}

/// With what is not UTF-8 replaced, so that no guest can spoil the document. `indent` negative: on
/// one line.
std::string to_text(const Json& json, int indent) {
  return json.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace

std::string run_json(const RunResult& result) {
  return to_text(run_object(result, false), -1);
}

std::string results_json(std::span<const RunResult> results, bool with_steps, bool several) {
  constexpr int kIndent = 2;
  if (results.size() == 1 && !several) {
    return to_text(run_object(results.front(), with_steps), kIndent);
  }
  Json runs = Json::array();
  for (const RunResult& result : results) {
    runs.push_back(run_object(result, with_steps));
  }
  const auto ratio = speedup(results);
  return to_text({{"runs", runs}, {"speedup", or_null(ratio)}}, kIndent);
}

}  // namespace accede::cli
