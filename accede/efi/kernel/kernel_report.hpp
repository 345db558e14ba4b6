// The lines that the kernel writes for the host: ACCEDE-GUEST and a JSON object (docs/emulator.md).
#pragma once

#include "accede/base/function_ref.hpp"
#include "accede/base/text_buffer.hpp"
#include "accede/efi/kernel/kernel_memory.hpp"
#include "accede/efi/kernel/options.hpp"
#include "accede/efi/kernel/workload.hpp"

#include <cstdint>
#include <optional>
#include <string_view>

namespace accede::efi::kernel {

/// Room for the longest line: a full latency histogram.
using ReportLine = TextBuffer<std::size_t{48} * 1024>;
/// A line with a message.
using MessageLine = TextBuffer<640>;

/// What every line with figures says.
struct KernelState {
  std::uint32_t generation = 1;
  std::uint64_t uptime_ns = 0;  ///< since BootInfo::tsc_entry
  PolicyName policy = PolicyName::kLazy;
  MemoryState memory;
};

/// Ticks of the time stamp counter as nanoseconds.
using NsOfTicks = FunctionRef<std::uint64_t(std::uint64_t)>;

// Each replaces what `line` holds; no line end.

/// `marked`: whether the page that the kernel before us marked was kept; nothing: it marked none.
void write_ready(ReportLine& line, const KernelState& state, std::optional<bool> marked);
void write_work(ReportLine& line, const KernelState& state, const WorkResult& result,
                NsOfTicks ns_of);
void write_kexec(ReportLine& line, const KernelState& state);

/// Something failed that does not stop the kernel.
[[nodiscard]] MessageLine error_line(std::string_view message);
/// A word of the command line that was not understood, as an error_line().
[[nodiscard]] MessageLine error_line(const OptionProblem& problem);
/// The kernel stops after this one.
[[nodiscard]] MessageLine fault_line(std::string_view message);
[[nodiscard]] MessageLine off_line();

}  // namespace accede::efi::kernel
