// Conclusions about a kernel from what was found in it.
#pragma once

#include "accede/image/kernel_signals.hpp"
#include "accede/image/unaccepted_support.hpp"
#include "accede/inspect/kernel_config.hpp"
#include "accede/inspect/report.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace accede::inspect {

/// What was found in the parts of a kernel image.
struct KernelFindings {
  /// Decompressor and EFI stub of a bzImage; nothing for images without them.
  std::optional<image::UnacceptedSupport> stub = {};
  std::uint64_t stub_base = 0;  ///< where the stub's offsets count from, in the file
  /// The kernel itself; nothing when it could not be unpacked.
  std::optional<image::KernelSignals> kernel = {};
  std::string kernel_place = {};  ///< Evidence::place of the kernel's offsets
  std::uint64_t kernel_base = 0;
  /// The embedded configuration, when there is one that can be read.
  std::optional<KernelConfig> config = {};
  std::uint64_t machine_offset = 0;  ///< in the file: what told Report::machine
};

/// Fills in every capability but kKexecTarget and kEfiStub, which headers tell. Takes
/// `report.machine` and `report.version` into account, the version only to name back-ports.
///
/// A feature is there by two independent signals (certain) or one (likely). It is not there when
/// none is found although the landmarks are: texts that every kernel has. An embedded configuration
/// is a signal of its own; where it contradicts the others, the answer is "unknown".
void conclude_kernel(Report& report, const KernelFindings& findings);

/// The verdict from the capabilities.
[[nodiscard]] Verdict kernel_verdict(const Report& report);

}  // namespace accede::inspect
