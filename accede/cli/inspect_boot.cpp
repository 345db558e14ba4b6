#include "accede/cli/inspect_boot.hpp"

#include "accede/cli/size_text.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <sstream>
#include <string_view>

namespace accede::cli {
namespace {

using image::Knows;
using inspect::Capability;
using inspect::Feature;
using inspect::Report;

/// Less than this is what firmware, emulator and kernel keep for themselves on every machine.
constexpr Bytes kUsualLoss{64ULL << 20};

bool is_up(const RunResult& run) {
  return run.outcome == Outcome::kUserspace;
}

/// VMCALLs that only a guest makes which knows that it is a TD: our firmware side reads MSRs.
std::uint64_t td_calls(const RunResult& run) {
  const ReportSnapshot* const report = main_report(run);
  if (report == nullptr) {
    return 0;
  }
  const auto& calls = report->header.counters.vmcall;
  return std::reduce(calls.begin(), calls.end()) -
         calls[static_cast<std::size_t>(emulator::VmcallSlot::kReadMsr)] -
         calls[static_cast<std::size_t>(emulator::VmcallSlot::kGetTdVmCallInfo)];
}

bool has_word(const std::string& text, std::string_view wanted) {
  std::istringstream words{text};
  for (std::string word; words >> word;) {
    if (word == wanted) {
      return true;
    }
  }
  return false;
}

/// Gathers what runs show. Something that was done once can be done: "yes" stands against "no".
class Observations {
 public:
  void add(Feature feature, bool value, std::string signal, const RunResult& run) {
    Capability& seen = report_[feature];
    const Knows knows = value ? Knows::kYes : Knows::kNo;
    if (seen.value == Knows::kYes && !value) {
      return;
    }
    if (seen.value != knows) {
      seen = {.value = knows, .confidence = inspect::Confidence::kCertain, .evidence = {}};
    }
    seen.evidence.push_back({.signal = std::move(signal), .place = place_of(run), .offset = 0});
  }

  void look_at(const RunResult& run) {
    if (run.boot_services_exited) {
      report_.machine = inspect::Machine::kX86_64;
      add(Feature::kEfiStub, true, "left boot services", run);
    }
    const std::string release = run.up ? run.up->release : run.console_release;
    if (report_.version.empty()) {
      report_.version = release;
    }
    look_at_guest(run);
    look_at_acceptance(run);
  }

  [[nodiscard]] Report report() && {
    conclude_everywhere();
    return std::move(report_);
  }

 private:
  void look_at_guest(const RunResult& run) {
    const std::string says = "says: " + run.encryption;
    const std::string silent = "came up and does not say that it is one";
    if (run.label.platform == Platform::kTdx) {
      if (run.encryption.find("Intel TDX") != std::string::npos) {
        add(Feature::kTdxGuest, true, says, run);
      } else if (const auto calls = td_calls(run); calls != 0) {
        add(Feature::kTdxGuest, true, "made " + std::to_string(calls) + " VMCALLs", run);
      } else if (is_up(run)) {
        add(Feature::kTdxGuest, false, silent, run);
      }
    } else if (run.label.platform == Platform::kSnp) {
      for (const auto& [feature, word] :
           {std::pair{Feature::kSevGuest, "SEV"}, std::pair{Feature::kSnpGuest, "SEV-SNP"}}) {
        if (has_word(run.encryption, word)) {
          add(feature, true, says, run);
        } else if (const auto accepted = acceptance_of(run);
                   accepted && accepted->by_image != Bytes{}) {
          add(feature, true, "validated memory by itself", run);
        } else if (is_up(run)) {
          add(feature, false, silent, run);
        }
      }
    }
  }

  void look_at_acceptance(const RunResult& run) {
    const auto accepted = acceptance_of(run);
    if (!accepted || !run.boot_services_exited) {
      return;
    }
    if (run.label.firmware == FirmwareKind::kHandshake) {
      const bool asked = accepted->left_some();
      add(Feature::kHandshake, asked,
          asked ? "had the firmware leave " + format_size(accepted->lazy) + " unaccepted"
                : "did not ask, and the firmware accepted " + format_size(accepted->by_firmware),
          run);
    }
    const Feature here = run.label.platform == Platform::kTdx ? Feature::kUnacceptedMemoryTdx
                                                              : Feature::kUnacceptedMemorySnp;
    if (accepted->by_image != Bytes{}) {
      add(here, true, "accepted " + format_size(accepted->by_image) + " by itself", run);
    } else if (const auto lost = lost_memory(run);
               is_up(run) && lost && *lost + kUsualLoss > accepted->lazy) {
      add(here, false,
          "accepted nothing of " + format_size(accepted->lazy) + " and lost " + format_size(*lost),
          run);
    }
    if (run.up && run.up->unaccepted) {
      add(Feature::kUnacceptedMemory, true, "meminfo counts unaccepted memory", run);
    }
  }

  /// Accepts on one platform at least; "no" needs an answer of both.
  void conclude_everywhere() {
    Capability& all = report_[Feature::kUnacceptedMemory];
    const Capability& tdx = report_[Feature::kUnacceptedMemoryTdx];
    const Capability& snp = report_[Feature::kUnacceptedMemorySnp];
    for (const Capability* one : {&tdx, &snp}) {
      if (one->value == Knows::kYes) {
        all.value = Knows::kYes;
        all.confidence = inspect::Confidence::kCertain;
        all.evidence.insert(all.evidence.end(), one->evidence.begin(), one->evidence.end());
      }
    }
    if (all.value == Knows::kUnknown && tdx.value == Knows::kNo && snp.value == Knows::kNo) {
      all = tdx;
      all.evidence.insert(all.evidence.end(), snp.evidence.begin(), snp.evidence.end());
    }
  }

  Report report_;
};

/// What `image` promises for a run: that it comes up at all, and that it sees all memory.
struct Promise {
  bool comes_up = false;
  bool sees_all = false;
};

Promise promise_of(const Report& image, const RunResult& run) {
  const bool tdx = run.label.platform == Platform::kTdx;
  const bool guest = image.has(tdx ? Feature::kTdxGuest : Feature::kSnpGuest);
  const bool accepts =
      image.has(tdx ? Feature::kUnacceptedMemoryTdx : Feature::kUnacceptedMemorySnp);
  const auto accepted = acceptance_of(run);
  const bool accepted_for_it = accepted && !accepted->left_some();
  return {.comes_up = guest && (accepts || run.label.firmware != FirmwareKind::kNever),
          .sees_all = guest && (accepts || accepted_for_it)};
}

std::string value_text(Knows knows) {
  return knows == Knows::kYes ? "yes" : "no";
}

void compare_run(const Report& image, const RunResult& run, std::vector<Disagreement>& found) {
  const Promise promise = promise_of(image, run);
  const std::string subject = "boot (" + place_of(run) + ")";
  if (promise.comes_up && !is_up(run) && run.outcome != Outcome::kTimeout) {
    found.push_back({.subject = subject,
                     .image = "can be a guest there",
                     .boot = std::string{name(run.outcome)} + ": " + run.message});
  }
  const auto lost = lost_memory(run);
  if (promise.sees_all && is_up(run) && lost && *lost > kUsualLoss) {
    found.push_back(
        {.subject = subject,
         .image = "can use all memory there",
         .boot = "does not see " + format_size(*lost) + " of " + format_size(run.label.memory)});
  }
}

}  // namespace

std::string place_of(const RunResult& run) {
  return std::string{name(run.label.platform)} + ", " + std::string{name(run.label.firmware)};
}

std::optional<Acceptance> acceptance_of(const RunResult& run) {
  const ReportSnapshot* const report = main_report(run);
  if (report == nullptr || report->header.lazy_bytes == 0) {
    return std::nullopt;
  }
  const auto& accepted = report->header.counters.accepted_bytes;
  const auto by = [&](emulator::Phase phase) { return accepted[static_cast<std::size_t>(phase)]; };
  const std::uint64_t by_image = by(emulator::Phase::kLoader) + by(emulator::Phase::kKernel);
  const std::uint64_t again = std::min(by_image, report->header.counters.rescinded_bytes);
  return Acceptance{.lazy = Bytes{report->header.lazy_bytes},
                    .by_firmware = Bytes{by(emulator::Phase::kFirmware)},
                    .by_image = Bytes{by_image - again}};
}

Report see_runs(std::span<const RunResult> runs) {
  Observations seen;
  for (const RunResult& run : runs) {
    seen.look_at(run);
  }
  return std::move(seen).report();
}

bool needs_unhelpful_firmware(const RunResult& run) {
  const auto accepted = acceptance_of(run);
  return run.label.firmware == FirmwareKind::kHandshake && run.boot_services_exited && accepted &&
         !accepted->left_some();
}

std::vector<Disagreement> compare(const Report& image, std::span<const RunResult> runs) {
  const Report seen = see_runs(runs);
  std::vector<Disagreement> found;
  for (const Feature feature : kBootShows) {
    const Knows says = image[feature].value;
    const Knows shows = seen[feature].value;
    if (says != Knows::kUnknown && shows != Knows::kUnknown && says != shows) {
      const auto& evidence = seen[feature].evidence.front();
      found.push_back(
          {.subject = std::string{to_string(feature)},
           .image = value_text(says),
           .boot = value_text(shows) + ": " + evidence.signal + " (" + evidence.place + ")"});
    }
  }
  if (!image.version.empty() && !seen.version.empty() && image.version != seen.version) {
    found.push_back({.subject = "version", .image = image.version, .boot = seen.version});
  }
  for (const RunResult& run : runs) {
    compare_run(image, run, found);
  }
  return found;
}

Report with_boots(Report image, const BootedImage& booted) {
  for (const Feature feature : kBootShows) {
    if (booted.seen[feature].value != Knows::kUnknown) {
      image[feature] = booted.seen[feature];
    }
  }
  if (!booted.seen.version.empty()) {
    image.version = booted.seen.version;
  }
  if (booted.seen.machine != inspect::Machine::kUnknown) {
    image.machine = booted.seen.machine;
  }
  return image;
}

ExitCode exit_code(const BootedImage& booted) {
  if (booted.failed) {
    return kExitUsage;
  }
  const bool endless = std::ranges::any_of(booted.runs, [&](const RunResult& run) {
    return run.outcome == Outcome::kTimeout && !(booted.on_its_own && run.boot_services_exited);
  });
  return endless ? kExitTimedOut : booted.disagreements.empty() ? kExitDone : kExitTestedFailed;
}

}  // namespace accede::cli
