#include "accede/cli/result_notes.hpp"

#include "accede/cli/size_text.hpp"
#include "accede/host/ghcb_types.hpp"

namespace accede::cli {
namespace {

/// Less is what any firmware keeps for itself.
constexpr Bytes kNotWorthMentioning{64ULL << 20};

std::string console_tail(const RunResult& run) {
  if (run.console_tail.empty()) {
    return "The console showed nothing.\n";
  }
  std::string text = "The last lines of its console:\n";
  for (const std::string& line : run.console_tail) {
    text += "  | " + line + "\n";
  }
  return text;
}

std::string fault_text(const Fault& fault) {
  std::string text = "the guest broke a rule and was stopped: " + fault.kind + "\n";
  const auto field = [&text](std::string_view title, const std::string& value) {
    if (!value.empty()) {
      text += "  " + std::string{title} + value + "\n";
    }
  };
  field("guest physical address  ", fault.gpa);
  field("instruction (RIP)       ", fault.rip);
  field("state of the page       ", fault.state);
  field("what to look at         ", fault.message);
  return text;
}

/// Where a guest was that asked to be ended.
std::string termination_place(const RunResult& run) {
  return run.fault && !run.fault->rip.empty() ? "  instruction (RIP)       " + run.fault->rip + "\n"
                                              : "";
}

/// A fault names the place, not the kernel that was there.
std::string which_kernel(const RunResult& run) {
  if (!run.kexec_at) {
    return "";
  }
  return run.second_at ? "It happened in the second kernel.\n"
                       : "It happened after the jump into the second kernel.\n";
}

std::string lost_text(const RunResult& run) {
  const auto lost = lost_memory(run);
  const bool knows = run.up && run.up->unaccepted.has_value();
  if (!run.up || !lost || *lost < kNotWorthMentioning) {
    return "";
  }
  if (knows || run.label.platform == Platform::kNone) {
    return format_size(*lost) + " of the VM's " + format_size(run.label.memory) +
           " are not visible to the kernel.\n";
  }
  std::string text = run.label.kernel + " does not know unaccepted memory: " + format_size(*lost) +
                     " of the VM's " + format_size(run.label.memory) + " are lost to it.\n";
  if (run.label.firmware == FirmwareKind::kNever) {
    text +=
        "With --firmware accept-all the firmware accepts all memory before the kernel starts and\n"
        "gives it all back; with --firmware handshake it does so for kernels that promise "
        "nothing;\n"
        "with --shim accede's shim does it, whatever the firmware.\n";
  }
  return text;
}

/// Who accepted in the kernel's place, and why.
std::string exit_text(const RunResult& run) {
  const Bytes accepted = accepted_at_exit(run);
  if (accepted == Bytes{}) {
    return "";
  }
  return "Nobody told the firmware before ExitBootServices that the kernel accepts memory:\n"
         "it accepted " +
         format_size(accepted) + " then, and the first call failed with a stale key.\n";
}

/// What the `gpa` and `detail` of a violation say.
std::string operand_text(const emulator::Violation& violation) {
  const std::string value = " " + format_hex(violation.gpa);
  switch (violation.kind) {
    case emulator::EventKind::kUnknownTdcall:
      return "leaf" + value;
    case emulator::EventKind::kUnknownVmcall:
      return "sub-function" + value;
    case emulator::EventKind::kBadGhcb: {
      const auto mistake = static_cast<host::GhcbMistakeKind>(violation.detail >> 8 & 0xFF);
      const auto field = static_cast<host::GhcbField>(violation.detail & 0xFF);
      return std::string{host::name(mistake)} + ", " + std::string{host::name(field)} + value;
    }
    default:
      return "GPA" + value;
  }
}

/// The guest ended itself: it broke no rule, and the outcome says it.
bool is_own_end(emulator::EventKind kind) {
  return kind == emulator::EventKind::kGuestPanic || kind == emulator::EventKind::kGuestTermination;
}

std::string violations_text(const RunResult& run) {
  const ReportSnapshot* const report = last_report(run);
  if (report == nullptr || report->header.violation_slots == 0) {
    return "";
  }
  const emulator::ReportHeader& header = report->header;
  std::string text;
  std::uint64_t listed = 0;
  for (std::size_t i = 0; i < header.violation_slots; ++i) {
    const emulator::Violation& violation = header.violations[i];
    listed += violation.count;
    if (is_own_end(violation.kind)) {
      continue;
    }
    text += "  " + std::to_string(violation.count) + " x " +
            std::string{kind_name(violation.kind)} + ": it " +
            std::string{kind_meaning(violation.kind)} + "; " + operand_text(violation) + ", RIP " +
            format_hex(violation.rip) + (violation.fatal != 0 ? " (fatal)" : "") + "\n";
  }
  if (header.violation_total > listed) {
    text += "  and " + std::to_string(header.violation_total - listed) + " more at other places\n";
  }
  return text.empty() ? "" : "rules that the guest broke:\n" + text;
}

std::string outcome_text(const RunResult& run) {
  switch (run.outcome) {
    case Outcome::kUserspace:
    case Outcome::kReady:
      return "";
    case Outcome::kGuestFault:
      return (run.fault ? fault_text(*run.fault) : "the guest broke a rule\n") + which_kernel(run) +
             console_tail(run);
    case Outcome::kPanic:
      return (run.boot_services_exited ? "the kernel gave up: " : "the kernel did not start: ") +
             run.message + "\n" + termination_place(run) + console_tail(run);
    case Outcome::kTimeout:
    case Outcome::kReset:
      return run.message + "\n" + console_tail(run);
  }
  return "";
}

std::string work_text(const std::optional<GuestWork>& work, std::string_view whose) {
  if (work && work->wrong_pages != 0) {
    return std::to_string(work->wrong_pages) + " pages did not hold what " + std::string{whose} +
           " had written to them\n";
  }
  return "";
}

/// Why stock kernels do not come through a kexec as SNP guests.
std::string shared_memory_text(const RunResult& run) {
  const bool linux = run.label.kernel_kind == KernelKind::kLinux;
  const bool ended_well = run.outcome == Outcome::kUserspace || run.outcome == Outcome::kReady;
  if (run.label.platform != Platform::kSnp || !linux || !run.kexec_at || ended_well) {
    return "";
  }
  return "This may be because Linux up to 6.12 leaves memory shared when an SEV-SNP guest jumps\n"
         "into another kernel, which then takes that memory for private.\n";
}

std::string kexec_text(const RunResult& run) {
  std::string text = shared_memory_text(run);
  if (run.marked_page && *run.marked_page != "kept") {
    text += "the page that the first kernel marked did not keep its content through kexec\n";
  }
  if (const auto doubles = double_accepts(run); doubles && *doubles != 0) {
    text += "after the jump memory was accepted that was accepted already, " +
            std::to_string(*doubles) + " times\n";
  }
  return text;
}

std::string events_text(const RunResult& run) {
  const ReportSnapshot* const report = last_report(run);
  if (report == nullptr || report->header.event_dropped == 0) {
    return "";
  }
  return std::to_string(report->header.event_dropped) +
         " events found the log full and are only counted\n";
}

}  // namespace

std::string run_notes(const RunResult& run, std::string_view prefix) {
  std::string text;
  const auto paragraph = [&text, prefix](const std::string& body) {
    if (!body.empty()) {
      text += "\n" + std::string{prefix} + body;
    }
  };
  paragraph(outcome_text(run));
  paragraph(lost_text(run));
  paragraph(exit_text(run));
  paragraph(violations_text(run));
  paragraph(work_text(run.work, "the workload"));
  paragraph(work_text(run.second_work, "the second kernel's workload"));
  paragraph(kexec_text(run));
  paragraph(events_text(run));
  for (const std::string& warning : run.warnings) {
    paragraph("warning: " + warning + "\n");
  }
  return text;
}

}  // namespace accede::cli
