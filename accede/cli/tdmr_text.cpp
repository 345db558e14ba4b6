// `accede tdmr` for a person.
#include "accede/cli/size_text.hpp"
#include "accede/cli/tdmr_answer.hpp"

#include <algorithm>
#include <array>
#include <iomanip>
#include <sstream>

namespace accede::cli {
namespace {

using host::NodeMemory;
using host::PlannedTdmr;

constexpr std::size_t kBarCells = 64;

char letter(StretchKind kind) {
  constexpr std::array<char, 4> kLetters{'#', 'P', '.', '-'};
  return kLetters.at(static_cast<std::size_t>(kind));
}

/// The TDMR as one line. A cell that is not wholly TD memory shows what has most of the rest, for
/// metadata and holes are small and would disappear.
std::string bar(const PlannedTdmr& tdmr, const host::TdmrPlan& plan) {
  std::string cells;
  const auto stretches = stretches_of(tdmr, plan);
  const Bytes width{tdmr.range.size().value() / kBarCells};
  for (std::size_t i = 0; i < kBarCells; ++i) {
    const auto cell = *PhysRange::make(tdmr.range.begin() + Bytes{i * width.value()}, width);
    StretchKind shown = StretchKind::kTdMemory;
    Bytes most;
    for (const Stretch& stretch : stretches) {
      const Bytes part = stretch.range.intersect(cell).size();
      if (stretch.kind != StretchKind::kTdMemory && part > most) {
        shown = stretch.kind;
        most = part;
      }
    }
    cells += letter(shown);
  }
  return cells;
}

std::string tdmrs_text(std::size_t count) {
  return count_text(count, "TDMR", "TDMRs");
}

std::string areas_text(std::size_t count) {
  return count_text(count, "reserved area", "reserved areas");
}

Bytes pamt_size(const PlannedTdmr& tdmr) {
  Bytes total;
  for (const host::PlannedPamt& pamt : tdmr.pamt) {
    total += pamt.range.size();
  }
  return total;
}

std::string percent(Bytes part, Bytes whole) {
  if (whole.value() == 0) {
    return "-";
  }
  return format_fixed(
             100.0 * static_cast<double>(part.value()) / static_cast<double>(whole.value()), 3) +
         " %";
}

void print_tdmrs(const TdmrAnswer& answer, std::ostream& out) {
  std::size_t index = 0;
  for (const PlannedTdmr& tdmr : answer.plan.tdmrs) {
    out << "TDMR " << index++ << "  " << range_text(tdmr.range) << "  "
        << format_size(tdmr.range.size()) << ", node " << static_cast<std::uint32_t>(tdmr.node)
        << ": " << format_size(tdmr.td_memory) << " TD memory, " << areas_text(tdmr.area_count)
        << ", " << format_size(pamt_size(tdmr)) << " PAMT\n  [" << bar(tdmr, answer.plan) << "]\n";
    for (const host::PlannedArea& area : tdmr.areas()) {
      out << "  reserved " << range_text(area.range) << "  " << format_size(area.range.size())
          << ": " << reason_text(area.reasons) << "\n";
    }
    constexpr std::array<const char*, 3> kSizes{"4K", "2M", "1G"};
    for (std::size_t size = 0; size < tdmr.pamt.size(); ++size) {
      const host::PlannedPamt& pamt = tdmr.pamt.at(size);
      out << "  PAMT " << kSizes.at(size) << "  " << range_text(pamt.range) << "  "
          << format_size(pamt.range.size()) << " on node " << static_cast<std::uint32_t>(pamt.node)
          << "\n";
    }
  }
  if (!answer.plan.tdmrs.empty()) {
    out << "  # TD memory   P PAMT   . not usable   - RAM given up\n";
  }
}

void print_node(const NodeMemory& node, std::ostream& out) {
  const auto id = static_cast<std::uint32_t>(node.node);
  out << "Node " << id << ": " << format_size(node.td_memory) << " TD memory of "
      << format_size(node.present) << " RAM; PAMT " << format_size(node.pamt) << " ("
      << percent(node.pamt, node.present) << ")";
  if (node.foreign_pamt.value() != 0) {
    out << ", " << format_size(node.foreign_pamt) << " of its PAMT on other nodes";
  }
  if (node.given_up.value() != 0) {
    out << "; " << format_size(node.given_up) << " given up";
  }
  if (node.not_convertible.value() != 0) {
    out << "; " << format_size(node.not_convertible) << " not convertible";
  }
  out << "\n";
  if (node.td_memory.value() != 0) {
    out << "  keep a TD's memory here: numactl --membind=" << id << " COMMAND, or host-nodes=" << id
        << ",policy=bind of QEMU's memory backend"
        << " (mempolicy MPOL_BIND, node " << id << ")\n";
  } else {
    out << "  no TD memory here: keep TDs away from this node\n";
  }
}

void print_given_up(std::span<const host::GivenUp> ranges, std::string_view why,
                    std::ostream& out) {
  for (const host::GivenUp& part : ranges) {
    out << "  " << range_text(part.range) << "  " << format_size(part.range.size()) << ", node "
        << static_cast<std::uint32_t>(part.node) << ": " << why
        << "; memmap=" << format_hex(part.range.size().value()) << "$"
        << format_hex(part.range.begin().value()) << "\n";
  }
}

void print_verdict(const TdmrTask& task, const TdmrAnswer& answer, std::ostream& out) {
  const host::TdmrPlan& plan = answer.plan;
  if (plan.feasible) {
    out << "A plan: ";
  } else if (plan.tdmrs.empty()) {
    out << "No plan.\n";
  } else {
    out << "No plan that makes all RAM TD memory; after the smallest change: ";
  }
  if (!plan.tdmrs.empty()) {
    out << tdmrs_text(plan.tdmrs.size()) << ", " << areas_text(plan.areas) << ", "
        << format_size(plan.pamt) << " PAMT"
        << (task.dynamic_pamt ? " (and what is donated later)" : "") << ".\n";
  }
  for (const host::TdmrProblem& problem : plan.problems) {
    out << "Problem: " << problem_text(problem) << ".\n";
  }
  if (!plan.given_up.empty() || !plan.not_convertible.empty()) {
    out << (plan.feasible ? "Left out:\n"
                          : "The smallest change: the page allocator never hands "
                            "out (memmap=SIZE$START):\n");
    print_given_up(plan.given_up, "so that the areas and TDMRs suffice", out);
    print_given_up(plan.not_convertible, "it is in no CMR", out);
  }
  if (!plan.tdmrs.empty()) {
    out << (plan.optimum == host::TdmrOptimum::kProven
                ? "No plan under this policy does with less: proven.\n"
                : "Not proven to be the least: a plan with " + areas_text(plan.areas_at_least) +
                      " is not ruled out.\n");
  }
}

void print_linux(const host::LinuxTdmrs& linux_plan, std::ostream& out) {
  out << "Linux (one TDMR for each region of RAM) ";
  switch (linux_plan.outcome) {
    case host::LinuxTdmrOutcome::kInitializes:
      out << "initializes: " << tdmrs_text(linux_plan.tdmrs) << ", " << areas_text(linux_plan.areas)
          << ", " << format_size(linux_plan.pamt) << " PAMT";
      break;
    case host::LinuxTdmrOutcome::kTooManyTdmrs:
      out << "fails: it needs " << tdmrs_text(linux_plan.tdmrs);
      break;
    case host::LinuxTdmrOutcome::kTooManyAreas:
      out << "fails with \"TDMR reserved areas exhausted\": the TDMR "
          << range_text(linux_plan.worst) << " needs " << linux_plan.worst_areas;
      break;
    case host::LinuxTdmrOutcome::kNoRoomForPamt:
      out << "fails: no room for the metadata of " << range_text(linux_plan.worst);
      break;
    case host::LinuxTdmrOutcome::kNoRam:
      out << "fails: there is no RAM for a TDMR";
      break;
    case host::LinuxTdmrOutcome::kOutsideCmrs:
      out << "fails in TDH.SYS.CONFIG: " << range_text(linux_plan.worst) << " is in no CMR";
      break;
  }
  out << ".\n";
}

void print_hot_add(const HotAddQuestion& question, std::ostream& out) {
  const host::HotAddAnswer& answer = question.answer;
  out << "Adding " << range_text(question.range) << " later: ";
  switch (answer.outcome) {
    case host::HotAddOutcome::kUsable:
      out << "usable, " << format_size(answer.usable) << " of TD memory.\n";
      return;
    case host::HotAddOutcome::kRefused:
      out << "refused: a host that promises TD memory to every page does not bring it online ("
          << format_size(answer.outside) << " in no TDMR, " << format_size(answer.reserved)
          << " in reserved areas).\n";
      break;
    case host::HotAddOutcome::kKillsTd:
      out << "it comes online, and kills a TD that is given one of its pages ("
          << format_size(answer.outside) << " in no TDMR, " << format_size(answer.reserved)
          << " in reserved areas).\n";
      break;
  }
  out << "  TDH.MEM.PAGE.AUG of " << format_hex(answer.first_bad.value()) << " answers "
      << status_text(answer.aug_status) << "\n";
}

}  // namespace

std::string tdmr_text(const TdmrTask& task, const TdmrAnswer& answer) {
  std::ostringstream out;
  print_verdict(task, answer, out);
  print_linux(answer.linux_plan, out);
  out << "\n";
  print_tdmrs(answer, out);
  out << "\n";
  if (!task.nodes_known) {
    out << "No node is known (--srat): all memory counts as node 0.\n";
  }
  for (const NodeMemory& node : answer.plan.nodes) {
    print_node(node, out);
  }
  for (const HotAddQuestion& question : answer.hot_add) {
    print_hot_add(question, out);
  }
  return out.str();
}

}  // namespace accede::cli
