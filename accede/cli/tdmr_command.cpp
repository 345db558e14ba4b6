#include "accede/cli/tdmr_command.hpp"

#include "accede/cli/file_text.hpp"
#include "accede/cli/line_splitter.hpp"
#include "accede/cli/tdmr_answer.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace accede::cli {
namespace {

/// What the planner refuses, with the range it means.
std::string input_error_text(const TdmrTask& task, const host::TdmrInputError& error) {
  using host::TdmrInputErrorKind;
  std::string text{host::to_string(error.kind)};
  const bool of_memory = error.kind == TdmrInputErrorKind::kMemoryEmpty ||
                         error.kind == TdmrInputErrorKind::kMemoryUnordered ||
                         error.kind == TdmrInputErrorKind::kMemoryBeyondWidth;
  if (of_memory && error.index < task.memory.size()) {
    text += ": " + range_text(task.memory[error.index].range);
  }
  const bool of_excluded = error.kind == TdmrInputErrorKind::kExcludedUnordered ||
                           error.kind == TdmrInputErrorKind::kExcludedBeyondWidth;
  if (of_excluded && error.index < task.excluded.size()) {
    text += ": " + range_text(task.excluded[error.index]);
  }
  if (error.kind == TdmrInputErrorKind::kTooManyRanges) {
    text += ": " + std::to_string(host::kMostMemoryRanges) + " at most";
  }
  return text;
}

int fail(std::ostream& err, const Failure& failure) {
  err << "accede tdmr: " << failure.message << "\n";
  return failure.exit_code;
}

}  // namespace

int tdmr_command(const RawTdmrOptions& raw, std::ostream& out, std::ostream& err) {
  const auto task = read_tdmr_task(raw);
  if (!task) {
    return fail(err, task.error());
  }
  const host::TdmrMachine machine = task->machine();
  const host::TdmrPolicy policy = task->checked_policy();
  if (const auto checked = host::check_input(machine, task->memory, policy); !checked) {
    return fail(err, usage(input_error_text(*task, checked.error())));
  }
  const std::size_t bytes = host::tdmr_workspace_bound(task->memory.size(), task->excluded.size());
  std::vector<std::uint64_t> workspace((bytes + 7) / 8);
  const auto plan =
      host::plan_tdmrs(machine, task->memory, policy, std::as_writable_bytes(std::span{workspace}));
  if (!plan) {
    return fail(err, usage(input_error_text(*task, plan.error())));
  }
  // Released Linux looks at its memory map alone.
  host::TdmrPolicy as_linux = policy;
  as_linux.holes = host::TdmrHoles::kOfMemoryMap;
  TdmrAnswer answer{.plan = *plan,
                    .linux_plan = host::plan_as_linux(machine, task->memory, as_linux),
                    .hot_add = {}};
  for (const PhysRange range : task->hot_add) {
    answer.hot_add.push_back(
        {range, host::judge_hot_add(plan->tdmrs, task->policy.promise, range)});
  }
  if (task->svg_file) {
    if (const auto written = write_text(*task->svg_file, tdmr_svg(answer)); !written) {
      return fail(err, usage("--svg: " + printable(written.error())));
    }
  }
  out << (task->json ? tdmr_json(*task, answer) : tdmr_text(*task, answer));
  return plan->feasible ? kExitDone : kExitTestedFailed;
}

}  // namespace accede::cli
