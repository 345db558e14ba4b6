// A plan of TDMRs with all that is said about it.
#pragma once

#include "accede/cli/tdmr_options.hpp"
#include "accede/host/tdmr_hot_add.hpp"
#include "accede/host/tdmr_linux.hpp"
#include "accede/host/tdmr_plan.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace accede::cli {

struct HotAddQuestion {
  PhysRange range;
  host::HotAddAnswer answer;
};

/// Refers to a task and a workspace, which outlive it.
struct TdmrAnswer {
  host::TdmrPlan plan;
  host::LinuxTdmrs linux_plan;
  std::vector<HotAddQuestion> hot_add;
};

/// What a stretch of a TDMR holds.
enum class StretchKind : std::uint8_t { kTdMemory, kPamt, kHole, kGivenUp };

struct Stretch {
  PhysRange range;
  StretchKind kind;

  friend bool operator==(const Stretch&, const Stretch&) = default;
};

/// The whole TDMR in ascending stretches; metadata of every TDMR of the plan may lie in it.
[[nodiscard]] std::vector<Stretch> stretches_of(const host::PlannedTdmr& tdmr,
                                                const host::TdmrPlan& plan);

/// `1 area`, `2 areas`
[[nodiscard]] std::string count_text(std::size_t count, std::string_view one,
                                     std::string_view many);
/// `0x100000000-0x17fffffff`
[[nodiscard]] std::string range_text(PhysRange range);
/// `TDX_OPERAND_ADDR_RANGE_ERROR`-like name of a status word, with the operand.
[[nodiscard]] std::string status_text(std::uint64_t status);
/// What is wrong, in a sentence.
[[nodiscard]] std::string problem_text(const host::TdmrProblem& problem);
/// Why an area is reserved: `not convertible, PAMT`.
[[nodiscard]] std::string reason_text(const host::AreaReasons& reasons);
/// `not-convertible`, ...: the word of the JSON.
[[nodiscard]] std::string_view name(host::TdmrProblemKind kind);
/// `usable`, `refused`, `kills-td`: the word of the JSON.
[[nodiscard]] std::string_view name(host::HotAddOutcome outcome);
/// `initializes`, ...: the word of the JSON.
[[nodiscard]] std::string_view name(host::LinuxTdmrOutcome outcome);

/// For a person.
[[nodiscard]] std::string tdmr_text(const TdmrTask& task, const TdmrAnswer& answer);
/// One JSON document.
[[nodiscard]] std::string tdmr_json(const TdmrTask& task, const TdmrAnswer& answer);
/// A picture of the layout: an SVG document.
[[nodiscard]] std::string tdmr_svg(const TdmrAnswer& answer);

}  // namespace accede::cli
