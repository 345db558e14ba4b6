#include "accede/cli/matrix_cell.hpp"

#include "accede/base/assert.hpp"
#include "accede/cli/size_text.hpp"

#include <algorithm>

namespace accede::cli {
namespace {

std::optional<AcceptedShares> shares_of(const RunResult& result) {
  const ReportSnapshot* const report = main_report(result);
  if (report == nullptr) {
    return std::nullopt;
  }
  const auto by = [report](emulator::Phase phase) {
    return Bytes{report->header.counters.accepted_bytes[static_cast<std::size_t>(phase)]};
  };
  return AcceptedShares{.pending = Bytes{report->header.lazy_bytes},
                        .by_firmware = by(emulator::Phase::kFirmware),
                        .by_kernel = by(emulator::Phase::kKernel),
                        .total = Bytes{total_accepted(report->header.counters)}};
}

Bytes less(Bytes from, Bytes what) {
  return from > what ? from - what : Bytes{};
}

bool nearly_equal(Bytes a, Bytes b) {
  return less(std::max(a, b), std::min(a, b)) < kNoticeable;
}

std::string of(Bytes part, Bytes whole) {
  return format_size(part) + " of " + format_size(whole);
}

std::string who_accepted(const AcceptedShares& accepted) {
  return "the firmware accepted " + of(accepted.by_firmware, accepted.pending) + ", the kernel " +
         format_size(accepted.by_kernel);
}

/// Precondition: a boot that was measured.
std::string not_slow(const CellFigures& figures) {
  const AcceptedShares& accepted = *figures.accepted;
  switch (classify(figures)) {
    case BootClass::kFast:
      return of(less(accepted.pending, accepted.total), accepted.pending) +
             " are still unaccepted when user space is up";
    case BootClass::kLimited:
      return format_size(*figures.lost) + " of RAM are lost: " + who_accepted(accepted);
    default:
      return "everything is accepted, but not by the firmware: " + who_accepted(accepted);
  }
}

std::string not_fast(const CellFigures& figures) {
  const AcceptedShares& accepted = *figures.accepted;
  return classify(figures) == BootClass::kLimited
             ? format_size(*figures.lost) + " of RAM are lost: " + who_accepted(accepted)
             : "nothing is left unaccepted when user space is up: " + who_accepted(accepted);
}

std::string not_limited(const CellFigures& figures) {
  const AcceptedShares& accepted = *figures.accepted;
  return classify(figures) == BootClass::kLimited
             ? format_size(*figures.lost) + " of RAM are lost, but the firmware left " +
                   format_size(less(accepted.pending, accepted.by_firmware)) + " unaccepted"
             : "no RAM is lost: " + who_accepted(accepted);
}

/// True when the class has the cause that the prediction names.
bool has_the_cause(BootClass prediction, const CellFigures& figures) {
  const AcceptedShares& accepted = *figures.accepted;
  switch (prediction) {
    case BootClass::kSlow:
      return nearly_equal(accepted.by_firmware, accepted.pending);
    case BootClass::kLimited:
      return nearly_equal(*figures.lost, less(accepted.pending, accepted.by_firmware));
    default:
      return true;
  }
}

}  // namespace

std::string_view age(FirmwareKind kind) {
  switch (kind) {
    case FirmwareKind::kAcceptAll:
      return "deployed";
    case FirmwareKind::kHandshake:
      return "near future";
    case FirmwareKind::kNever:
      return "far future";
  }
  return "far future";
}

std::string_view name(KernelColumn column) {
  switch (column) {
    case KernelColumn::kUnenlightened:
      return "unenlightened";
    case KernelColumn::kEnlightened:
      return "enlightened";
    case KernelColumn::kHandshakeDropped:
      return "handshake dropped";
  }
  return "handshake dropped";
}

CellFigures figures_of(const RunResult& result) {
  const ReportSnapshot* const last = last_report(result);
  const bool launcher_failed = result.launcher_error.has_value();
  return {.outcome = launcher_failed ? std::nullopt : std::optional{result.outcome},
          .message = launcher_failed ? *result.launcher_error
                     : result.fault  ? result.fault->message
                                     : result.message,
          .kernel = result.label.kernel,
          .encryption = result.encryption,
          .seconds = result.up_at.value_or(result.total),
          .kernel_to_init = kernel_to_init(result),
          .mem_total = result.up ? std::optional{result.up->mem_total} : std::nullopt,
          .lost = lost_memory(result),
          .accepted = shares_of(result),
          .broken_rules = last == nullptr ? 0 : last->header.violation_slots};
}

ScarceBoot scarce_boot_of(const RunResult& result, Bytes asked_to_accept, Bytes wanted) {
  // The kernel's words when it kills, or can kill nobody any more.
  const bool killed = result.outcome == Outcome::kPanic &&
                      (result.message.find("Out of memory") != std::string::npos ||
                       result.message.find("deadlocked on memory") != std::string::npos);
  return {.platform = result.label.platform,
          .asked_to_accept = asked_to_accept,
          .wanted = wanted,
          .figures = figures_of(result),
          .touched = result.work ? std::optional{result.work->touched} : std::nullopt,
          .out_of_memory = killed || (result.work && result.work->stopped == "memory")};
}

BootClass classify(const CellFigures& figures) {
  if (figures.outcome != Outcome::kUserspace) {
    return BootClass::kDidNotBoot;
  }
  if (!figures.lost || !figures.accepted) {
    return BootClass::kUnmeasured;
  }
  if (*figures.lost >= kNoticeable) {
    return BootClass::kLimited;
  }
  return less(figures.accepted->pending, figures.accepted->total) >= kNoticeable ? BootClass::kFast
                                                                                 : BootClass::kSlow;
}

std::string_view class_name(const CellFigures& figures) {
  const BootClass boot = classify(figures);
  if (boot == BootClass::kDidNotBoot) {
    return figures.outcome ? name(*figures.outcome) : "launcher-error";
  }
  return boot == BootClass::kUnmeasured ? "not measured" : prediction_name(boot);
}

BootClass predicted(FirmwareKind firmware, KernelColumn column) {
  const bool enlightened = column != KernelColumn::kUnenlightened;
  switch (firmware) {
    case FirmwareKind::kAcceptAll:
      return BootClass::kSlow;
    case FirmwareKind::kHandshake:
      return column == KernelColumn::kEnlightened ? BootClass::kFast : BootClass::kSlow;
    case FirmwareKind::kNever:
      return enlightened ? BootClass::kFast : BootClass::kLimited;
  }
  return BootClass::kSlow;
}

std::string_view prediction_name(BootClass prediction) {
  switch (prediction) {
    case BootClass::kFast:
      return "fast boot";
    case BootClass::kSlow:
      return "slow boot";
    default:
      ACCEDE_ASSERT(prediction == BootClass::kLimited);
      return "limited RAM";
  }
}

std::optional<std::string> difference(BootClass prediction, const CellFigures& figures) {
  const BootClass boot = classify(figures);
  if (boot == BootClass::kDidNotBoot) {
    return "it did not boot: " + std::string{class_name(figures)} +
           (figures.message.empty() ? "" : ", " + figures.message);
  }
  if (boot == BootClass::kUnmeasured) {
    return "the guest or the emulator did not say its figures";
  }
  if (boot == prediction && has_the_cause(prediction, figures)) {
    return std::nullopt;
  }
  switch (prediction) {
    case BootClass::kSlow:
      return not_slow(figures);
    case BootClass::kFast:
      return not_fast(figures);
    default:
      return not_limited(figures);
  }
}

}  // namespace accede::cli
