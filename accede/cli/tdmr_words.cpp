// Words for what a plan holds.
#include "accede/cli/decode_code.hpp"
#include "accede/cli/size_text.hpp"
#include "accede/cli/tdmr_answer.hpp"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

namespace accede::cli {
namespace {

using host::TdmrProblem;
using host::TdmrProblemKind;

/// The metadata arrays of all TDMRs that lie in `range`, ascending.
std::vector<PhysRange> metadata_in(PhysRange range, const host::TdmrPlan& plan) {
  std::vector<PhysRange> arrays;
  for (const host::PlannedTdmr& tdmr : plan.tdmrs) {
    for (const host::PlannedPamt& pamt : tdmr.pamt) {
      if (const PhysRange part = pamt.range.intersect(range); !part.empty()) {
        arrays.push_back(part);
      }
    }
  }
  std::ranges::sort(arrays, {}, &PhysRange::begin);
  return arrays;
}

/// An area in stretches: the metadata arrays, and what lies between them.
void add_area(const host::PlannedArea& area, const host::TdmrPlan& plan,
              std::vector<Stretch>& stretches) {
  const bool hole = area.reasons.not_convertible || area.reasons.excluded || area.reasons.firmware;
  const StretchKind rest =
      area.reasons.given_up && !hole ? StretchKind::kGivenUp : StretchKind::kHole;
  const auto arrays = metadata_in(area.range, plan);
  for_each_gap(area.range, arrays, [&](PhysRange gap) {
    stretches.push_back({gap, rest});
    return true;
  });
  std::ranges::transform(arrays, std::back_inserter(stretches),
                         [](PhysRange array) { return Stretch{array, StretchKind::kPamt}; });
}

}  // namespace

std::vector<Stretch> stretches_of(const host::PlannedTdmr& tdmr, const host::TdmrPlan& plan) {
  std::vector<Stretch> stretches;
  std::vector<PhysRange> areas;
  for (const host::PlannedArea& area : tdmr.areas()) {
    areas.push_back(area.range);
    add_area(area, plan, stretches);
  }
  for_each_gap(tdmr.range, areas, [&](PhysRange memory) {
    stretches.push_back({memory, StretchKind::kTdMemory});
    return true;
  });
  std::ranges::sort(stretches, {}, [](const Stretch& stretch) { return stretch.range.begin(); });
  return stretches;
}

std::string count_text(std::size_t count, std::string_view one, std::string_view many) {
  return std::to_string(count) + " " + std::string{count == 1 ? one : many};
}

std::string range_text(PhysRange range) {
  if (range.empty()) {
    return "nothing";
  }
  return format_hex(range.begin().value()) + "-" + format_hex(range.end().value() - 1);
}

std::string reason_text(const host::AreaReasons& reasons) {
  std::string text;
  const auto add = [&](bool holds, std::string_view words) {
    if (holds) {
      text += (text.empty() ? "" : ", ") + std::string{words};
    }
  };
  add(reasons.not_convertible, "not convertible");
  add(reasons.excluded, "excluded");
  add(reasons.firmware, "no RAM in the map");
  add(reasons.pamt, "PAMT");
  add(reasons.given_up, "RAM given up");
  return text;
}

std::string status_text(std::uint64_t status) {
  std::string text = format_hex(status);
  const auto query = parse_code(text);
  const auto readings = query ? readings_of(*query) : std::vector<Reading>{};
  if (readings.empty()) {
    return text;
  }
  const Reading& first = readings.front();
  return text + " (" + first.name + (first.operand.empty() ? "" : ", " + first.operand) + ")";
}

std::string problem_text(const TdmrProblem& problem) {
  switch (problem.kind) {
    case TdmrProblemKind::kNotConvertible:
      return "RAM at " + range_text(problem.range) + " (" + format_size(problem.range.size()) +
             ") is in no CMR, so that it cannot become TD memory";
    case TdmrProblemKind::kTooManyAreas:
      return "the GiB at " + range_text(problem.range) + " needs " +
             count_text(problem.count, "reserved area", "reserved areas") + "; a TDMR has " +
             std::to_string(problem.limit) + ", and cannot be smaller than this GiB";
    case TdmrProblemKind::kTooManyTdmrs:
      return "keeping all RAM takes " + count_text(problem.count, "TDMR", "TDMRs") +
             " at least; the module has " + std::to_string(problem.limit);
    case TdmrProblemKind::kNoRoomForPamt:
      return "no RAM has room for " + format_size(problem.bytes) + " of metadata of the TDMR " +
             range_text(problem.range);
    case TdmrProblemKind::kNoTdMemory:
      return "no memory can become TD memory: no RAM of the map lies in a CMR";
  }
  std::unreachable();
}

std::string_view name(host::TdmrProblemKind kind) {
  switch (kind) {
    case host::TdmrProblemKind::kNotConvertible:
      return "not-convertible";
    case host::TdmrProblemKind::kTooManyAreas:
      return "too-many-areas";
    case host::TdmrProblemKind::kTooManyTdmrs:
      return "too-many-tdmrs";
    case host::TdmrProblemKind::kNoRoomForPamt:
      return "no-room-for-pamt";
    case host::TdmrProblemKind::kNoTdMemory:
      return "no-td-memory";
  }
  std::unreachable();
}

std::string_view name(host::HotAddOutcome outcome) {
  switch (outcome) {
    case host::HotAddOutcome::kUsable:
      return "usable";
    case host::HotAddOutcome::kRefused:
      return "refused";
    case host::HotAddOutcome::kKillsTd:
      return "kills-td";
  }
  std::unreachable();
}

std::string_view name(host::LinuxTdmrOutcome outcome) {
  switch (outcome) {
    case host::LinuxTdmrOutcome::kInitializes:
      return "initializes";
    case host::LinuxTdmrOutcome::kTooManyTdmrs:
      return "too-many-tdmrs";
    case host::LinuxTdmrOutcome::kTooManyAreas:
      return "too-many-areas";
    case host::LinuxTdmrOutcome::kNoRoomForPamt:
      return "no-room-for-pamt";
    case host::LinuxTdmrOutcome::kNoRam:
      return "no-ram";
    case host::LinuxTdmrOutcome::kOutsideCmrs:
      return "outside-cmrs";
  }
  std::unreachable();
}

}  // namespace accede::cli
