// The steps until the kernel begins: host, firmware, loader.

#include "accede/cli/size_text.hpp"
#include "accede/cli/step_flow.hpp"

namespace accede::cli {

using emulator::Phase;

void StepFlow::add_host() {
  if (!emulated()) {
    add("host", "gives the VM its memory; nobody has to accept it", run_.label.memory, {});
    return;
  }
  if (latest_ == nullptr) {
    return;
  }
  const Platform platform = run_.label.platform;
  const std::string phase = platform == Platform::kSnp ? "PEI" : "SEC";
  const bool only_used = leaves_low_memory(run_.label);
  add("host",
      only_used
          ? "adds the memory that the firmware uses, accepted at launch"
          : "adds memory below 4 GiB, accepted at launch (as OVMF's " + phase + " phase does)",
      Bytes{latest_->header.launch_bytes}, {});
  add("host",
      "leaves memory " + not_accepted(platform) +
          (only_used ? ": what the firmware has free" : ": above 4 GiB"),
      Bytes{latest_->header.lazy_bytes}, {});
  std::uint64_t pages = 0;
  for (const emulator::Event& event : latest_->events) {
    pages += event.kind == emulator::EventKind::kHostAug ? event.pages : 0;
  }
  if (pages != 0) {
    const bool cut = latest_->header.event_dropped != 0;
    add("host",
        std::string{"adds pages during the run, when they are accepted"} +
            (cut ? " (the log is full: at least)" : ""),
        Bytes{pages * 4096}, {});
  }
}

void StepFlow::add_firmware() {
  const bool is_last = !run_.kernel_started && !run_.boot_services_exited;
  const auto seconds = is_last ? std::optional{run_.total} : run_.kernel_started;
  std::string what = accepts("starts the machine", firmware_plan());
  if (emulated() && !firmware_accepts_first(run_.label) &&
      run_.label.firmware == FirmwareKind::kHandshake) {
    what += ", waits for a promise";
  }
  if (is_last) {
    what += ", until " + std::string{ended_how(run_.outcome)};
  }
  if (accepted_at_exit(run_) == Bytes{}) {
    what += accepting(accept_seconds(run_, Phase::kFirmware).value_or(0));
  }
  const auto accepted = accepted_by(Phase::kFirmware);
  add("firmware", std::move(what),
      accepted ? std::optional{*accepted - accepted_at_exit(run_)} : std::nullopt, seconds);
}

/// What the firmware accepts before the loader starts, and why that.
std::string StepFlow::firmware_plan() const {
  const RunLabel& label = run_.label;
  const std::string pending = not_accepted(label.platform);
  if (label.force_accept) {
    return "accepts what is " + pending + ", for the host wants it";
  }
  if (firmware_accepts_first(label)) {
    return "accepts what is " + pending;
  }
  if (leaves_low_memory(label)) {
    return "accepts until " + format_size(label.firmware_accept.at_least) +
           " are usable, and what the loader needs";
  }
  return "accepts nothing that is " + pending;
}

std::string StepFlow::loader_text() const {
  if (own_kernel()) {
    return accepts("the kernel's entry: leaves boot services",
                   "the kernel's entry: takes the memory map, accepts for itself");
  }
  if (any_program()) {
    return accepts("an EFI program runs", "an EFI program runs, accepts");
  }
  const bool ours = run_.label.loader == LoaderKind::kAccede;
  const std::string who = ours              ? "accede-loader"
                          : run_.label.shim ? "accede-shim, EFI stub"
                                            : "EFI stub";
  if (!emulated()) {
    return who + ": starts the kernel";
  }
  if (firmware_accepts_first(run_.label)) {
    return who + ": finds nothing unaccepted";
  }
  if (accepted_at_exit(run_) != Bytes{}) {
    return who + ": promises nothing";
  }
  if (ours && !run_.boot_services_exited) {
    return who + ": prepares the kernel";
  }
  if (ours && unaware()) {
    return who + ": the kernel does not know unaccepted memory, accepts all";
  }
  if (ours && accepts_all_as_loader()) {
    return who + ": accepts all";
  }
  if (unaware()) {
    return who + ": does not know unaccepted memory, builds no table";
  }
  if (!ours && !run_.up) {
    return who + ": prepares the kernel";  // whether it built a table only the kernel could tell
  }
  return who + ": builds the unaccepted table, accepts for the kernel";
}

std::optional<double> StepFlow::loader_seconds() const {
  if (latest_ != nullptr) {
    const auto exact =
        between(phase_begin(*latest_, Phase::kLoader), phase_begin(*latest_, Phase::kKernel));
    if (exact) {
      // The firmware's part of it has a line of its own.
      const auto firmware = first_stay(*latest_, Phase::kFirmware);
      return *exact - firmware.value_or(0);
    }
  }
  return between(run_.kernel_started, run_.boot_services_exited);
}

void StepFlow::add_loader() {
  std::string what = loader_text();
  auto seconds = loader_seconds();
  if (!run_.boot_services_exited) {
    const bool done = any_program() && went_well();
    what += ", until " + std::string{done ? "it is done" : ended_how(run_.outcome)};
    seconds = between(run_.kernel_started, run_.total);
  }
  add("loader", std::move(what), accepted_by(Phase::kLoader), seconds);
}

void StepFlow::add_firmware_at_exit() {
  const Bytes accepted = accepted_at_exit(run_);
  if (accepted != Bytes{}) {
    add("firmware",
        "accepts what is " + not_accepted(run_.label.platform) +
            " at ExitBootServices, which fails once",
        accepted, first_stay(*latest_, Phase::kFirmware));
  }
}

}  // namespace accede::cli
