// What a kernel file is, before it is handed to the firmware.
#pragma once

#include "accede/cli/failure.hpp"

#include <cstddef>
#include <expected>
#include <filesystem>
#include <span>
#include <string>

namespace accede::cli {

enum class KernelKind {
  kLinux,       ///< bzImage with an EFI stub
  kUnified,     ///< unified kernel image: an EFI program with a Linux inside
  kEfiProgram,  ///< any other EFI application
  kGuest,       ///< our own kernel, chosen by its name
};

struct KernelImage {
  KernelKind kind = KernelKind::kEfiProgram;
  std::string version;  ///< release of a Linux, e.g. 6.12.117+deb12-cloud-amd64; else empty

  [[nodiscard]] bool is_linux() const {
    return kind == KernelKind::kLinux || kind == KernelKind::kUnified;
  }
};

/// Checks that `bytes` are a whole x86-64 EFI program, bzImage included. The error is a phrase that
/// goes on from the file's name: "is not a kernel: ...", "is truncated: ...".
[[nodiscard]] std::expected<KernelImage, std::string> parse_kernel_image(
    std::span<const std::byte> bytes);

/// The same for a file on disk; the failure names it.
[[nodiscard]] std::expected<KernelImage, Failure> check_kernel_file(
    const std::filesystem::path& path);

}  // namespace accede::cli
