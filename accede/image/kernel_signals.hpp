// What a decompressed Linux kernel (vmlinux, or the Image of another architecture) says about
// itself: texts of its messages and its counters. Nothing is decided here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace accede::image {

/// In the order in which reports name them.
enum class KernelSignal : std::uint8_t {
  kBanner,             ///< "Linux version ": a Linux
  kFreePagesCounter,   ///< landmark: a name in /proc/vmstat, next to kUnacceptedCounter
  kCommandLine,        ///< landmark: a message of every kernel's start
  kTdxGuest,           ///< says that it found itself in a TD
  kTdxSignature,       ///< the CPUID text that it finds that by
  kTdxAccept,          ///< complains about acceptance on TDX
  kSev,                ///< says that SEV is active
  kSevOld,             ///< the same, as kernels before 5.10 said it
  kSevEs,              ///< says that SEV-ES is active
  kSnp,                ///< says that SEV-SNP is active
  kSnpDevice,          ///< says that the SNP guest device is there
  kUnacceptedCounter,  ///< a name in /proc/vmstat
  kUnacceptedMeminfo,  ///< a name in /proc/meminfo
  kUnacceptedTable,    ///< the table's GUID, among those that it looks for
  kKexec,              ///< says that it starts another kernel
  kConfig,             ///< its own configuration follows
};
inline constexpr std::size_t kKernelSignalCount = 16;

/// What the signal is, for a report: without what it looks for in full, so that a program with this
/// text in it is not taken for a kernel.
[[nodiscard]] std::string_view to_string(KernelSignal signal);

/// Where each signal occurs first.
class KernelSignals {
 public:
  [[nodiscard]] std::optional<std::size_t> operator[](KernelSignal signal) const {
    return offsets_[static_cast<std::size_t>(signal)];
  }

 private:
  friend KernelSignals find_kernel_signals(std::span<const std::byte>);

  std::array<std::optional<std::size_t>, kKernelSignalCount> offsets_{};
};

/// Looks through `kernel`, any bytes, and reads each once.
[[nodiscard]] KernelSignals find_kernel_signals(std::span<const std::byte> kernel);

}  // namespace accede::image
