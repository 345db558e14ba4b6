// What a boot needs from this machine, and which package to install when it is not there.
#pragma once

#include "accede/cli/failure.hpp"

#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace accede::cli {

/// Environment variables that replace what is found here; for tests and unusual machines.
inline constexpr const char* kQemuVariable = "ACCEDE_QEMU";  ///< the QEMU program
inline constexpr const char* kOvmfVariable = "ACCEDE_OVMF";  ///< a combined OVMF image (-bios)
/// The directory with BOOTX64.EFI, init.cpio, accede-guest.efi, accede-loader.efi,
/// accede-shim.efi.
inline constexpr const char* kLibVariable = "ACCEDE_LIB_DIR";

/// UEFI firmware for the VM. Combined images start faster: OVMF need not set up flash variables.
struct Firmware {
  std::filesystem::path code;                      ///< combined image, or the code part
  std::optional<std::filesystem::path> variables;  ///< template of the variable part, if split
};

struct HostTools {
  std::filesystem::path qemu;
  Firmware firmware;
  std::filesystem::path launcher;  ///< BOOTX64.EFI
  std::filesystem::path init;      ///< init.cpio
  std::filesystem::path guest;     ///< accede-guest.efi; empty when it is not needed
  std::filesystem::path loader;    ///< accede-loader.efi; empty when it is not needed
  std::filesystem::path shim{};    ///< accede-shim.efi; empty when it is not needed
};

/// What not every boot needs.
struct ToolNeeds {
  bool guest = false;
  bool loader = false;
  bool shim = false;
  bool variables = false;  ///< firmware that keeps its variables in a file
};

/// The first of `candidates` that exists whole below `root`; with `split` the first that has a
/// variable part of its own.
[[nodiscard]] std::optional<Firmware> find_firmware(const std::filesystem::path& root,
                                                    bool split = false);

/// `program` in PATH.
[[nodiscard]] std::optional<std::filesystem::path> find_program(std::string_view program);

/// Everything, or exit code 3 with what to install.
[[nodiscard]] std::expected<HostTools, Failure> find_host_tools(const ToolNeeds& needs);

/// Memory that this host can give right now; nothing when it does not say.
[[nodiscard]] std::optional<std::uint64_t> host_available_bytes();

}  // namespace accede::cli
