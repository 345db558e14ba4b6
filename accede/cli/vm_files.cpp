#include "accede/cli/vm_files.hpp"

#include "accede/cli/boot_archive.hpp"
#include "accede/cli/file_text.hpp"

#include <system_error>

namespace accede::cli {
namespace fs = std::filesystem;
namespace {

// What makes a boot under TCG quicker without hiding any of it:
//   no_timer_check       no test of the timer interrupt's wiring: 0.3 s
//   cryptomgr.notests    no self-tests of ciphers: 0.2 s
//   pti=off              a processor that can run TDs does not have the flaw that page table
//                        isolation works around; TCG's cannot say so, and each switch of tables
//                        empties TCG's translation cache (a page fault takes 30 us instead of 11).
//                        On a processor of AMD's, as an SNP guest has, Linux does none anyway
//   swiotlb=16384        32 MiB of bounce buffers. By default a confidential guest gives 6 % of its
//                        memory to them: converted to shared and cleared at boot, which takes a TD
//                        2 s of 6 at 4 GiB. No device of this VM needs more
constexpr const char* kLinuxOptions =
    "console=ttyS0 panic=-1 no_timer_check cryptomgr.notests pti=off swiotlb=16384";

bool takes_initrd(const RunPlan& plan) {
  return plan.image.kind != KernelKind::kGuest && !plan.own_initrd;
}

/// A second name for the file; a copy where the file system or a permission does not allow that.
std::error_code link_or_copy(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::create_hard_link(fs::canonical(from, error), to, error);
  if (error) {
    fs::copy_file(from, to, error);
  }
  return error;
}

/// The programs and files that are only linked.
std::error_code fill_partition(const BootOptions& options, const RunPlan& plan,
                               const HostTools& tools, const fs::path& partition) {
  struct File {
    bool wanted;
    const fs::path& from;
    fs::path to;
  };
  const fs::path own = partition / "accede";
  const File list[] = {
      {true, tools.launcher, partition / "EFI" / "BOOT" / "BOOTX64.EFI"},
      {!plan.disk, plan.kernel, own / "kernel.efi"},
      {takes_initrd(plan) && !options.kexec, plan.initrd, own / "initrd"},
      {options.loader == LoaderKind::kAccede, tools.loader, own / "loader.efi"},
      {options.shim, tools.shim, own / "shim.efi"},
  };
  std::error_code error;
  fs::create_directories(partition / "EFI" / "BOOT", error);
  fs::create_directories(own, error);
  for (const File& file : list) {
    if (!error && file.wanted) {
      error = link_or_copy(file.from, file.to);
    }
  }
  return error;
}

/// The user's file as the firmware's variable part: made when there is none.
std::expected<void, Failure> keep_variables(const fs::path& file, const HostTools& tools) {
  std::error_code error;
  const auto fail = [&](const std::string& why) {
    return std::unexpected{usage("--variables " + file.string() + ": " + why)};
  };
  if (!fs::exists(file, error) && !error) {
    fs::copy_file(*tools.firmware.variables, file, error);
    if (!error) {
      fs::permissions(file, fs::perms{0600}, error);
    }
  }
  if (error) {
    return fail(error.message());
  }
  const std::uintmax_t bytes = fs::file_size(file, error);
  const std::uintmax_t right = error ? 0 : fs::file_size(*tools.firmware.variables, error);
  if (error) {
    return fail(error.message());
  }
  if (bytes != right) {
    return fail("has " + std::to_string(bytes) + " bytes, the variables of this firmware " +
                std::to_string(right));
  }
  return {};
}

}  // namespace

RunLabel label_of(const BootOptions& options, const RunPlan& plan) {
  return {
      .platform = options.platform,
      .memory = options.memory,
      .mode = plan.mode,
      .firmware = options.firmware,
      .firmware_accept = options.firmware_accept,
      .forecast = plan.forecast,
      .force_accept = options.force_accept,
      .kernel = plan.image.version.empty() ? plan.kernel.filename().string() : plan.image.version,
      .accept_cost = options.accept_cost,
      .kernel_kind = plan.image.kind,
      .loader = options.loader,
      .shim = options.shim,
      .kexec = options.kexec,
      .policy = std::string{name(plan.mode)}};
}

std::string kernel_command_line(const BootOptions& options, const RunPlan& plan) {
  if (plan.image.kind == KernelKind::kEfiProgram || plan.own_command_line) {
    return options.append;
  }
  std::string line;
  if (plan.image.kind == KernelKind::kGuest) {
    line = "accede.policy=" + std::string{name(plan.mode)};
  } else {
    line = kLinuxOptions;
    line += plan.mode == AcceptMode::kEager ? " accept_memory=eager" : "";
  }
  if (options.touch) {
    line += " accede.touch=" + *options.touch;
  }
  if (options.work && plan.image.kind == KernelKind::kGuest) {
    line += " accede.work=" + *options.work;
  }
  if (options.kexec) {
    line += " accede.kexec=1";
  }
  if (!options.append.empty()) {
    line += " " + options.append;
  }
  return line;
}

std::string launcher_config(const BootOptions& options, const RunPlan& plan) {
  std::string text;
  const auto set = [&text](std::string_view key, std::string_view value) {
    text.append(key).append("=").append(value).append("\n");
  };
  set("platform", name(options.platform));
  if (options.platform != Platform::kNone) {
    set("firmware", name(options.firmware));
    set("firmware-accept", name(options.firmware_accept));
    if (options.hide_handshake) {
      set("hide-handshake", "on");
    }
    set("backing", options.backing);
    const auto cost = options.accept_cost.value_or(std::chrono::nanoseconds{0});
    set("accept-cost-ns", std::to_string(cost.count()));
    set("events", options.events ? "on" : "off");
    set("unaccepted-touch", name(options.unaccepted_touch));
  }
  if (options.map_holes != 0) {
    set("map-holes", std::to_string(options.map_holes));
  }
  if (options.map_lie != "none") {
    set("map-lie", options.map_lie);
  }
  if (options.loader == LoaderKind::kAccede) {
    set("loader", R"(\accede\loader.efi)");
  }
  if (options.shim) {
    set("shim", R"(\accede\shim.efi)");
  }
  if (plan.disk) {
    set("volume", "disk");
  }
  set("kernel", plan.disk ? R"(\EFI\BOOT\BOOTX64.EFI)" : R"(\accede\kernel.efi)");
  if (takes_initrd(plan)) {
    set("initrd", R"(\accede\initrd)");
  }
  set("append", kernel_command_line(options, plan));
  return text;
}

std::expected<VmFiles, Failure> make_vm_files(const BootOptions& options, const RunPlan& plan,
                                              const HostTools& tools) {
  auto directory = TempDir::make(TempDir::default_parent(), "accede-");
  if (!directory) {
    return std::unexpected{directory.error()};
  }
  const fs::path partition = directory->path() / "esp";
  VmFiles files{
      .directory = std::move(*directory), .partition = partition, .firmware = tools.firmware};
  std::error_code error = fill_partition(options, plan, tools, partition);
  if (!error && options.variables) {
    if (const auto kept = keep_variables(*options.variables, tools); !kept) {
      return std::unexpected{kept.error()};
    }
    files.firmware.variables = *options.variables;
  } else if (!error && tools.firmware.variables) {
    files.firmware.variables = files.directory.path() / "variables.fd";
    fs::copy_file(*tools.firmware.variables, *files.firmware.variables, error);
    fs::permissions(*files.firmware.variables, fs::perms{0600}, error);
  }
  if (error) {
    return std::unexpected{missing("cannot fill " + partition.string() + ": " + error.message())};
  }
  if (options.kexec && takes_initrd(plan)) {
    const auto archive =
        write_boot_archive(plan.initrd, plan.kernel, partition / "accede" / "initrd");
    if (!archive) {
      return std::unexpected{archive.error()};
    }
  }
  const auto written =
      write_text(partition / "accede" / "accede.cfg", launcher_config(options, plan));
  if (!written) {
    return std::unexpected{missing(written.error())};
  }
  return files;
}

}  // namespace accede::cli
