#include "accede/cli/command.hpp"

#include "accede/cli/boot_command.hpp"
#include "accede/cli/boot_options.hpp"
#include "accede/cli/decode_code.hpp"
#include "accede/cli/decode_command.hpp"
#include "accede/cli/failure.hpp"
#include "accede/cli/inspect_command.hpp"
#include "accede/cli/matrix_command.hpp"
#include "accede/cli/tdmr_command.hpp"

#include <CLI/CLI.hpp>
#include <array>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace accede::cli {
namespace {

constexpr const char* kExamples =
    "Examples:\n"
    "  accede boot                       a stock Linux as a TDX guest, memory accepted lazily\n"
    "  accede boot --accept lazy,eager   both ways, compared\n"
    "  accede boot --help                everything that can be varied\n"
    "  accede inspect /boot/vmlinuz      what a kernel or firmware image can do, and why\n"
    "  accede decode 0xC0000B0B00000001  what a status code means\n"
    "  accede tdmr --help                plans which memory a TDX host gives to its module\n"
    "\n"
    "Exit codes: 0 done; 1 what was tested failed; 2 usage or a bad input file; 3 something "
    "needed\n"
    "is missing (the message names the package); 4 timed out.\n"
    "Environment: ACCEDE_QEMU, ACCEDE_OVMF, ACCEDE_LIB_DIR replace the QEMU program, the combined\n"
    "OVMF image and the directory with BOOTX64.EFI, init.cpio, accede-guest.efi,\n"
    "accede-loader.efi and accede-shim.efi; TMPDIR, XDG_CACHE_HOME.";

constexpr const char* kBootExamples =
    "Examples:\n"
    "  accede boot --memory 12G --accept lazy,eager\n"
    "  accede boot --memory 64G --accept lazy,eager --accept-cost 1400us\n"
    "  accede boot --kernel debian-6.1 --firmware accept-all\n"
    "  accede boot --kernel debian-6.1,debian-6.12 --firmware handshake --steps\n"
    "  accede boot --firmware-accept min:512M --steps              less than the memory below 4G\n"
    "  accede boot --kernel ./bzImage --append 'nokaslr' --console console.log\n"
    "  accede boot --memory 12G --touch all --json\n"
    "  accede boot --kernel guest,linux --memory 12G --touch 1G     accede's own kernel and Linux\n"
    "  accede boot --kernel guest --accept lazy,eager,background --touch all --work fill\n"
    "  accede boot --loader accede --kernel debian-6.1 --steps      what each part accepts\n"
    "  accede boot --platform snp --firmware never --shim --kernel debian-6.1    the shim accepts\n"
    "  accede boot --kexec               a second Linux inherits what is not accepted\n"
    "  accede boot --platform snp --accept lazy,eager               as an SEV-SNP guest\n"
    "  accede boot --platform none       the same VM without the emulator\n"
    "\n"
    "With --initrd the run ends when that initrd's init powers the VM off. --kexec fails when the\n"
    "second kernel does not come up, finds memory changed, or accepts memory again.\n"
    "Not yet: --vcpus above 1, --strict, --accel kvm, --report.";

constexpr const char* kInspectExamples =
    "Examples:\n"
    "  accede inspect /boot/vmlinuz-6.12.1 /usr/share/ovmf/OVMF.fd\n"
    "  accede inspect --require TDX_CAPABLE,UNACCEPTED_MEMORY bzImage      exit code 1: it is not\n"
    "  accede inspect --claimed SEV_CAPABLE --json image.efi               wrong claims\n"
    "  accede inspect --json --resume catalogue.jsonl images/              go on where it stopped\n"
    "  accede inspect --boot bzImage debian-12-nocloud-amd64.qcow2         does it do what it "
    "says?\n"
    "\n"
    "Kernels: bzImage, vmlinux, unified kernel images, EFI zboot and flat images; firmware: OVMF\n"
    "flash images; disks: raw and qcow2, which --boot looks into by booting them, never writing "
    "them.\n"
    "Directories are searched for all of them.";
constexpr const char* kDecodeExamples =
    "Examples:\n"
    "  accede decode 0xC0000B0B00000001     a TDX status\n"
    "  accede decode 1:2                    why an SEV guest ended (set:code)\n"
    "  accede decode rmpupdate:4 0x21100    one reading of a number; several codes\n"
    "  accede decode --json 0x8000000000000002\n"
    "\n"
    "A number can be a code of several kinds: every reading is printed, the most specific first.\n"
    "Exit code 1: a code is unknown.";

constexpr const char* kMatrixExamples =
    "Examples:\n"
    "  accede matrix                        20 boots, about three minutes on two processors\n"
    "  accede matrix --platform snp --memory 12G\n"
    "  accede matrix --memory 64G --accept-cost 1400us           on a host with less memory\n"
    "  accede matrix --kernels /boot/vmlinuz-5.15,./bzImage --json\n"
    "\n"
    "Firmware: accept-all (deployed), handshake (near future), never (far future). Kernels: one "
    "that\n"
    "cannot accept memory, one that can, and that one again unable to tell the firmware. Exit code "
    "1:\n"
    "a combination did not boot. docs/matrix.md says how to read the table.";

constexpr const char* kTdmrExamples =
    "Examples:\n"
    "  accede tdmr --cmr cmrs.json --memory /proc/iomem\n"
    "  accede tdmr --cmr cmrs.json --memory dmesg.txt --srat SRAT --svg layout.svg\n"
    "  accede tdmr --cmr cmrs.json --memory iomem.txt --memmap '2G$62G' --json\n"
    "  accede tdmr --cmr cmrs.json --memory iomem.txt --policy best-effort --hot-add 256G+64G\n"
    "\n"
    "FILE is known by its content: JSON "
    "([{\"base\":4294967296,\"size\":\"0x1000000000\",\"node\":0}]),\n"
    "/proc/iomem as root reads it, the kernel log with its E820 lines. SRAT is\n"
    "/sys/firmware/acpi/tables/SRAT.\n"
    "Exit code 1: there is no plan as the policy asks.";

/// The subcommand `decode` as it was asked for.
struct RawDecodeOptions {
  std::vector<std::string> codes;
  bool json = false;
};

struct Later {
  const char* name;
  const char* purpose;
};
constexpr std::array<Later, 1> kLater{{
    {"report", "turns a saved run into an HTML page (not yet)"},
}};

/// An option with a value; `value` stands for it in the help text.
void add(CLI::App& boot, const char* option, RawBootOptions::Text& target, const char* value,
         const char* purpose) {
  boot.add_option(option, target, purpose)->option_text(value);
}

void add_vm_options(CLI::App& boot, RawBootOptions& raw) {
  boot.option_defaults()->group("The VM");
  add(boot, "--platform", raw.platform, "tdx|snp|none",
      "what the VM is: a TDX or SEV-SNP guest, or none of them (default tdx)");
  add(boot, "--memory", raw.memory, "SIZE", "size of the VM, 1G to 500G (default 4G)");
  add(boot, "--accept", raw.accept, "lazy|eager|background,...",
      "when the kernel accepts memory (background: guest only); a list compares (default lazy)");
  add(boot, "--firmware", raw.firmware, "never|accept-all|handshake",
      "when the firmware accepts what its plan leaves: never; before the kernel starts; at "
      "ExitBootServices when nobody called its protocol (default never, with snp handshake)");
  add(boot, "--firmware-accept", raw.firmware_accept, "below-4g|all|min:SIZE",
      "what the firmware's plan accepts before the kernel starts: the memory below 4G; all; from "
      "the lowest address on until SIZE is usable, and what the loader needs (default below-4g)");
  boot.add_flag(
      "--force-accept", raw.force_accept,
      "the host has the firmware accept everything before the kernel starts, whatever its "
      "kind and plan");
  add(boot, "--backing", raw.backing, "2m|4k",
      "the size in which the host backs memory (default 2m)");
  add(boot, "--accept-cost", raw.accept_cost, "real|TIME",
      "real: memory is zeroed at accept; or a time per 2 MiB, for example 1400us, that passes "
      "without any host memory being used (default real)");
  add(boot, "--unaccepted-touch", raw.unaccepted_touch, "stop|exception",
      "touching unaccepted memory: stop ends the VM, exception raises #VE (tdx) or #VC (snp) in "
      "it (default stop)");
  add(boot, "--vcpus", raw.vcpus, "N", "virtual processors (default 1)");
  add(boot, "--accel", raw.accel, "auto|tcg", "what runs the VM (default auto)");
  add(boot, "--timeout", raw.timeout, "SECONDS",
      "for one run (default 120, and 2 more for each GiB; twice that with --kexec)");
}

void add_guest_options(CLI::App& boot, RawBootOptions& raw) {
  boot.option_defaults()->group("The kernel");
  add(boot, "--kernel", raw.kernel, "KERNEL,...",
      "a file; linux, debian-6.12, debian-6.1, ... fetched from the distribution; or guest, "
      "accede's own kernel; a list boots each (default linux)");
  add(boot, "--initrd", raw.initrd, "FILE", "initramfs in place of the built-in one");
  add(boot, "--append", raw.append, "TEXT", "more of the kernel command line");
  add(boot, "--loader", raw.loader, "stub|accede",
      "what starts a Linux: its EFI stub or accede's loader (default stub)");
  boot.add_flag("--shim", raw.shim,
                "accede's shim starts the kernel, and accepts memory for one that cannot");
  add(boot, "--variables", raw.variables, "FILE",
      "keep the UEFI variables of the runs, such as the shim's verdicts; made when missing");
  boot.add_flag("--kexec", raw.kexec, "the kernel then starts itself again by kexec");
  add(boot, "--touch", raw.touch, "all|SIZE",
      "the guest touches memory and takes the time of each page");
  add(boot, "--work", raw.work, "touch|random|fill",
      "how accede's kernel does that: in order, in random order, all there is (default touch)");
}

void add_testing_options(CLI::App& boot, RawBootOptions& raw) {
  boot.add_option("--map-holes", raw.map_holes,
                  "the firmware reserves N single pages, which scatter the memory map (0 to 1000)")
      ->option_text("N")
      ->group("Testing");
  boot.add_flag("--hide-handshake", raw.hide_handshake,
                "the kernel cannot find the handshake of the firmware, and promises nothing")
      ->group("Testing");
  boot.add_option("--map-lie", raw.map_lie,
                  "the firmware's memory map misleads: overlap, wrap, unaligned, restless (its key "
                  "is never right), grow (longer at each call); no-table: no memory for a table")
      ->option_text("LIE")
      ->group("Testing");
}

void add_output_options(CLI::App& boot, RawBootOptions& raw) {
  boot.option_defaults()->group("Output");
  boot.add_flag("--json", raw.json, "print one JSON document");
  boot.add_flag("--steps", raw.steps,
                "also the flow from host to kernel, a line a step with bytes and seconds");
  add(boot, "--console", raw.console, "FILE", "save the guest's console; - is standard error");
  add(boot, "--events", raw.events, "FILE", "save the emulator's event log");
  boot.add_flag("--no-events", raw.no_events, "do not log events");
}

CLI::App* add_matrix(CLI::App& app, RawMatrixOptions& raw) {
  CLI::App* const matrix =
      app.add_subcommand("matrix", "boots firmware and kernel combinations and compares");
  matrix->footer(kMatrixExamples);
  add(*matrix, "--platform", raw.platform, "tdx,snp", "what the VMs are (default tdx,snp: both)");
  add(*matrix, "--memory", raw.memory, "SIZE", "size of each VM, 3G to 500G (default 4G)");
  add(*matrix, "--kernels", raw.kernels, "OLD,NEW",
      "files or names: a kernel that cannot accept memory, one that can (default "
      "debian-6.1,debian-6.12)");
  add(*matrix, "--accept-cost", raw.accept_cost, "real|TIME",
      "as for accede boot: a time per 2 MiB, for example 1400us, needs no host memory (default "
      "real)");
  add(*matrix, "--timeout", raw.timeout, "SECONDS",
      "for one boot (default 120, and 2 more for each GiB)");
  matrix->add_flag("--json", raw.json, "print one JSON document");
  return matrix;
}

CLI::App* add_decode(CLI::App& app, RawDecodeOptions& raw) {
  CLI::App* const decode =
      app.add_subcommand("decode", "explains status codes of TDX, SEV-SNP and UEFI");
  decode->footer(kDecodeExamples);
  decode
      ->add_option("CODE", raw.codes,
                   "hexadecimal (0x...) or decimal, or set:code; FAMILY: before it chooses what it "
                   "is read as: " +
                       family_names())
      ->option_text("[FAMILY:]CODE ...")
      ->required();
  decode->add_flag("--json", raw.json, "print one JSON document");
  return decode;
}

CLI::App* add_tdmr(CLI::App& app, RawTdmrOptions& raw) {
  CLI::App* const tdmr = app.add_subcommand(
      "tdmr", "plans TDMRs, reserved areas and PAMT of a TDX host, and says what cannot work");
  tdmr->footer("Policies:\n" + policy_words() + "\n" + kTdmrExamples);
  add(*tdmr, "--cmr", raw.cmr, "FILE", "the module's convertible memory ranges");
  add(*tdmr, "--memory", raw.memory, "FILE", "the memory map of the host");
  add(*tdmr, "--srat", raw.srat, "FILE", "the firmware's table of nodes (ACPI SRAT)");
  tdmr->add_option("--memmap", raw.memmap, "change the map as the kernel parameter memmap= does")
      ->option_text("OPTIONS");
  tdmr->add_option("--policy", raw.policies, "what the plan is to be like, see below")
      ->option_text("WORD,...");
  tdmr->add_option("--hot-add", raw.hot_add,
                   "what happens when this range is added later: FIRST-LAST or START+SIZE")
      ->option_text("RANGE");
  add(*tdmr, "--physical-bits", raw.physical_bits, "N", "physical address bits (default 52)");
  add(*tdmr, "--key-bits", raw.key_bits, "N", "of them, bits of the key id (default 6)");
  add(*tdmr, "--svg", raw.svg, "FILE", "also draw the layout");
  tdmr->add_flag("--json", raw.json, "print one JSON document");
  return tdmr;
}

/// Part of the contract, not built: accepted here to be answered with "not yet".
void add_later_options(CLI::App& boot, RawBootOptions& raw) {
  constexpr const char* kHidden = "";
  boot.add_option("--strict", raw.strict)->expected(0, 1)->group(kHidden);
  boot.add_option("--report", raw.report)->group(kHidden);
}

void add_inspect_options(CLI::App& inspect, InspectOptions& options) {
  inspect.add_option("FILE", options.paths, "images, or directories with images");
  inspect.add_flag("--json", options.json, "print one JSON object a line, one for each image");
  add(inspect, "--claimed", options.claimed, "TAG,...",
      "say which of these tags are wrong (SEV_CAPABLE, TDX_CAPABLE, ...)");
  add(inspect, "--require", options.require, "TAG,...",
      "exit with 1 when an image does not have these tags");
  add(inspect, "--jobs", options.jobs, "N", "images at a time (default: one for each processor)");
  add(inspect, "--resume", options.resume, "FILE",
      "a catalogue: images in it are not inspected again, others are added to it");
  inspect.add_flag("--boot", options.boot,
                   "boot each kernel and disk on the emulator; exit with 1 when it does something "
                   "else than it says");
  add(inspect, "--platform", options.platform, "tdx|snp", "boot on this one only (default both)");
  add(inspect, "--timeout", options.timeout, "SECONDS", "for one boot (default 128)");
}

int fail(std::ostream& err, std::string_view command, const Failure& failure) {
  err << command << ": " << failure.message << "\n";
  return failure.exit_code;
}

int boot(const RawBootOptions& raw, std::ostream& out, std::ostream& err) {
  const auto options = check_boot_options(raw);
  if (!options) {
    return fail(err, "accede boot", options.error());
  }
  return boot_command(*options, out, err);
}

int matrix(const RawMatrixOptions& raw, std::ostream& out, std::ostream& err) {
  const auto options = check_matrix_options(raw);
  if (!options) {
    return fail(err, "accede matrix", options.error());
  }
  return matrix_command(*options, out, err);
}

/// Help and version end parsing too; everything else is a usage error in one line.
int end_of_parsing(const CLI::App& app, const CLI::ParseError& error, std::ostream& out,
                   std::ostream& err) {
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
    return app.exit(error, out, err);
  }
  const auto commands = app.get_subcommands();
  const std::string command =
      commands.empty() ? "accede" : "accede " + commands.front()->get_name();
  std::string message = error.what();
  message = message.substr(0, message.find('\n'));
  return fail(err, command, usage(message + " (" + command + " --help)"));
}

int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  CLI::App app{
      "Boots operating systems as confidential VMs on any machine and shows how they "
      "accept memory."};
  app.name("accede");
  app.set_version_flag("--version", "accede " ACCEDE_VERSION);
  app.footer(kExamples);
  app.require_subcommand(0, 1);
  RawBootOptions raw;
  CLI::App* const boot_app =
      app.add_subcommand("boot", "boots a kernel as a confidential VM and reports");
  boot_app->footer(kBootExamples);
  add_vm_options(*boot_app, raw);
  add_guest_options(*boot_app, raw);
  add_output_options(*boot_app, raw);
  add_testing_options(*boot_app, raw);
  add_later_options(*boot_app, raw);
  InspectOptions inspect_options;
  CLI::App* const inspect_app =
      app.add_subcommand("inspect", "says what a kernel or firmware image can do, and why");
  inspect_app->footer(kInspectExamples);
  add_inspect_options(*inspect_app, inspect_options);
  RawMatrixOptions raw_matrix;
  const CLI::App* const matrix_app = add_matrix(app, raw_matrix);
  RawDecodeOptions raw_decode;
  const CLI::App* const decode_app = add_decode(app, raw_decode);
  RawTdmrOptions raw_tdmr;
  const CLI::App* const tdmr_app = add_tdmr(app, raw_tdmr);
  for (const Later& later : kLater) {
    app.add_subcommand(later.name, later.purpose)->allow_extras();
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return end_of_parsing(app, error, out, err);
  }
  if (boot_app->parsed()) {
    return boot(raw, out, err);
  }
  if (inspect_app->parsed()) {
    return inspect_command(inspect_options, out, err);
  }
  if (matrix_app->parsed()) {
    return matrix(raw_matrix, out, err);
  }
  if (decode_app->parsed()) {
    return decode_command(raw_decode.codes, raw_decode.json, out, err);
  }
  if (tdmr_app->parsed()) {
    return tdmr_command(raw_tdmr, out, err);
  }
  if (app.get_subcommands().empty()) {
    return fail(err, "accede", usage("which command? for example boot (accede --help)"));
  }
  const std::string command = app.get_subcommands().front()->get_name();
  return fail(err, "accede " + command, usage("not yet"));
}

}  // namespace

int run_command(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  try {
    return run(argc, argv, out, err);
  } catch (const std::exception& error) {
    return fail(err, "accede", missing(error.what()));
  }
}

}  // namespace accede::cli
