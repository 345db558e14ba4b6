#include "accede/cli/host_tools.hpp"

#include <unistd.h>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <system_error>

namespace accede::cli {
namespace fs = std::filesystem;
namespace {

struct FirmwarePaths {
  const char* code;
  const char* variables;  ///< nullptr: combined
};

// Debian and Ubuntu first, then Fedora, Arch, openSUSE.
constexpr std::array<FirmwarePaths, 9> kFirmware{{
    {"usr/share/ovmf/OVMF.fd", nullptr},
    {"usr/share/qemu/OVMF.fd", nullptr},
    {"usr/share/OVMF/OVMF_CODE.fd", "usr/share/OVMF/OVMF_VARS.fd"},
    // That of Debian 12 takes four times as long where physical addresses have 48 bits.
    {"usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd"},
    {"usr/share/edk2/ovmf/OVMF_CODE.fd", "usr/share/edk2/ovmf/OVMF_VARS.fd"},
    {"usr/share/edk2/x64/OVMF.4m.fd", nullptr},
    {"usr/share/edk2/x64/OVMF_CODE.4m.fd", "usr/share/edk2/x64/OVMF_VARS.4m.fd"},
    {"usr/share/qemu/ovmf-x86_64.bin", nullptr},
    {"usr/share/qemu/ovmf-x86_64-code.bin", "usr/share/qemu/ovmf-x86_64-vars.bin"},
}};

std::optional<std::string> variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr && *value != '\0' ? std::optional<std::string>{value} : std::nullopt;
}

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) && access(path.c_str(), R_OK) == 0;
}

/// Where this program's own files are: next to it as built and as installed.
fs::path library_directory() {
  if (const auto chosen = variable(kLibVariable)) {
    return *chosen;
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  return program.parent_path().parent_path() / "lib" / "accede";
}

std::expected<Firmware, Failure> choose_firmware(bool split) {
  if (const auto chosen = variable(kOvmfVariable); chosen && split) {
    return std::unexpected{
        usage(std::string{"--variables: "} + kOvmfVariable +
              " names a combined image, which keeps no variables in a file: unset it")};
  } else if (chosen) {
    if (!is_file(*chosen)) {
      return std::unexpected{
          missing(std::string{kOvmfVariable} + "=" + *chosen + ": no such file")};
    }
    return Firmware{.code = *chosen, .variables = std::nullopt};
  }
  if (auto found = find_firmware("/", split)) {
    return *found;
  }
  return std::unexpected{missing(
      split ? "UEFI firmware with a variable part (OVMF_CODE, OVMF_VARS) is missing: install "
              "the package ovmf"
            : "UEFI firmware for the VM is missing: install the package ovmf")};
}

std::expected<fs::path, Failure> choose_qemu() {
  constexpr std::string_view kName = "qemu-system-x86_64";
  if (const auto found = find_program(variable(kQemuVariable).value_or(std::string{kName}))) {
    return *found;
  }
  return std::unexpected{
      missing("qemu-system-x86_64 is missing: install the package qemu-system-x86")};
}

std::expected<fs::path, Failure> own_file(std::string_view name) {
  fs::path path = library_directory() / name;
  if (!is_file(path)) {
    return std::unexpected{missing(path.string() + " is missing: build accede with the packages "
                                                   "gnu-efi and cpio installed (-DACCEDE_EFI=ON)")};
  }
  return path;
}

}  // namespace

std::optional<Firmware> find_firmware(const fs::path& root, bool split) {
  for (const FirmwarePaths& paths : kFirmware) {
    if (split && paths.variables == nullptr) {
      continue;
    }
    Firmware firmware{.code = root / paths.code, .variables = std::nullopt};
    if (paths.variables != nullptr) {
      firmware.variables = root / paths.variables;
    }
    if (is_file(firmware.code) && (!firmware.variables || is_file(*firmware.variables))) {
      return firmware;
    }
  }
  return std::nullopt;
}

std::optional<fs::path> find_program(std::string_view program) {
  const auto runnable = [](const fs::path& path) {
    std::error_code error;
    return fs::is_regular_file(path, error) && access(path.c_str(), X_OK) == 0;
  };
  if (program.find('/') != std::string_view::npos) {
    return runnable(program) ? std::optional<fs::path>{program} : std::nullopt;
  }
  std::istringstream directories{variable("PATH").value_or("/usr/bin:/bin")};
  std::string directory;
  while (std::getline(directories, directory, ':')) {
    fs::path path = fs::path{directory.empty() ? "." : directory} / program;
    if (runnable(path)) {
      return path;
    }
  }
  return std::nullopt;
}

std::expected<HostTools, Failure> find_host_tools(const ToolNeeds& needs) {
  const auto qemu = choose_qemu();
  if (!qemu) {
    return std::unexpected{qemu.error()};
  }
  const auto firmware = choose_firmware(needs.variables);
  if (!firmware) {
    return std::unexpected{firmware.error()};
  }
  const auto launcher = own_file("BOOTX64.EFI");
  if (!launcher) {
    return std::unexpected{launcher.error()};
  }
  const auto init = own_file("init.cpio");
  if (!init) {
    return std::unexpected{init.error()};
  }
  const auto guest = needs.guest ? own_file("accede-guest.efi") : fs::path{};
  if (!guest) {
    return std::unexpected{guest.error()};
  }
  const auto loader = needs.loader ? own_file("accede-loader.efi") : fs::path{};
  if (!loader) {
    return std::unexpected{loader.error()};
  }
  const auto shim = needs.shim ? own_file("accede-shim.efi") : fs::path{};
  if (!shim) {
    return std::unexpected{shim.error()};
  }
  return HostTools{.qemu = *qemu,
                   .firmware = *firmware,
                   .launcher = *launcher,
                   .init = *init,
                   .guest = *guest,
                   .loader = *loader,
                   .shim = *shim};
}

std::optional<std::uint64_t> host_available_bytes() {
  std::ifstream meminfo{"/proc/meminfo"};
  std::string name;
  std::uint64_t kibibytes = 0;
  std::string rest;
  while (meminfo >> name >> kibibytes && std::getline(meminfo, rest)) {
    if (name == "MemAvailable:") {
      return kibibytes * 1024;
    }
  }
  return std::nullopt;
}

}  // namespace accede::cli
