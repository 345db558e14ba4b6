#include "accede/cli/result_sentences.hpp"

#include "accede/cli/result_rows.hpp"
#include "accede/cli/size_text.hpp"

#include <algorithm>
#include <optional>
#include <vector>

namespace accede::cli {
namespace {

/// Lazy against eager, for each kernel that ran in both modes.
std::string mode_sentences(std::span<const RunResult> results) {
  const bool several = several_kernels(results);
  std::string text;
  std::vector<std::string> told;
  for (const RunResult& run : results) {
    if (std::ranges::find(told, run.label.kernel) != told.end()) {
      continue;
    }
    told.push_back(run.label.kernel);
    if (const auto factor = speedup(results, run.label.kernel)) {
      const bool guest = run.label.kernel_kind == KernelKind::kGuest;
      text += "\n" + (several ? run.label.kernel + ": lazy" : std::string{"Lazy"}) +
              " acceptance " + (guest ? "is ready " : "reaches user space ") +
              format_fixed(*factor, 2) + " times as fast as eager.\n";
    }
  }
  return text;
}

/// What our kernel accepted, said by what Linux did. Precondition: `linux` is not 0.
std::string compare(Bytes guest, Bytes linux) {
  if (guest == Bytes{}) {
    return "nothing, where Linux accepted " + format_size(linux);
  }
  const double ratio = static_cast<double>(linux.value()) / static_cast<double>(guest.value());
  return (ratio >= 1 ? "1/" + format_fixed(ratio, ratio < 10 ? 1 : 0) + " of"
                     : format_fixed(1 / ratio, 1) + " times") +
         " what Linux did (" + format_size(guest) + ", " + format_size(linux) + ")";
}

std::string kernels_sentence(const RunResult& guest, const RunResult& linux) {
  const auto guest_seconds = kernel_to_init(guest);
  const auto linux_seconds = kernel_to_init(linux);
  const auto guest_accepted = accepted_bytes(guest);
  const auto linux_accepted = accepted_bytes(linux);
  if (!guest_seconds || !linux_seconds || *guest_seconds <= 0) {
    return "";
  }
  std::string text = "\n" + guest.label.kernel + " is ready " +
                     format_fixed(*linux_seconds / *guest_seconds, 1) +
                     " times as soon as Linux (" + format_seconds(guest_seconds) + ", " +
                     format_seconds(linux_seconds) + " after their start)";
  if (guest_accepted && linux_accepted && *linux_accepted != Bytes{}) {
    text += "\nand accepted " + compare(*guest_accepted, *linux_accepted);
  }
  return text + ".\n";
}

/// Our own kernel against a Linux in the same mode, for each such pair.
std::string kernel_sentences(std::span<const RunResult> results) {
  std::string text;
  for (const RunResult& guest : results) {
    if (guest.label.kernel_kind != KernelKind::kGuest) {
      continue;
    }
    const auto linux = std::ranges::find_if(results, [&guest](const RunResult& run) {
      return run.label.mode == guest.label.mode && (run.label.kernel_kind == KernelKind::kLinux ||
                                                    run.label.kernel_kind == KernelKind::kUnified);
    });
    if (linux != results.end()) {
      text += kernels_sentence(guest, *linux);
    }
  }
  return text;
}

}  // namespace

bool several_kernels(std::span<const RunResult> results) {
  return std::ranges::any_of(results, [&results](const RunResult& run) {
    return run.label.kernel != results.front().label.kernel;
  });
}

std::string result_sentences(std::span<const RunResult> results) {
  return mode_sentences(results) + kernel_sentences(results);
}

}  // namespace accede::cli
