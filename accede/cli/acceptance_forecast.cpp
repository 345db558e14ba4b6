#include "accede/cli/acceptance_forecast.hpp"

#include "accede/cli/file_text.hpp"
#include "accede/cli/run_result.hpp"
#include "accede/cli/size_text.hpp"
#include "accede/firmware/acceptance_cost.hpp"
#include "accede/firmware/loader_room.hpp"
#include "accede/image/unaccepted_support.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <system_error>

namespace accede::cli {
namespace {

using firmware::AcceptanceScope;
using guest::MemoryKind;
using guest::MemoryRegion;

/// Where QEMU's q35 puts the RAM: up to 2.75 GiB below 4 GiB, and 2 GiB when there is more.
Bytes low_memory(Bytes memory) {
  constexpr Bytes kMostBelow = 2816_MiB;
  return memory < kMostBelow ? memory : 2_GiB;
}

/// What OVMF and the launcher use of it when the plan is made, and free for the kernel: 41 MiB with
/// ovmf 2022.11.
constexpr Bytes kInUse = 41_MiB;

PhysRange range(PhysAddr begin, PhysAddr end) {
  return *PhysRange::make(begin, std::max(begin, end));
}

bool accepts_first(const BootOptions& options) {
  return options.firmware == FirmwareKind::kAcceptAll || options.force_accept ||
         options.firmware_accept.scope == AcceptanceScope::kEverything;
}

Bytes size_of(const std::filesystem::path& file) {
  std::error_code error;
  const auto size = std::filesystem::file_size(file, error);
  return Bytes{error ? 0 : size};
}

}  // namespace

bool accepts_all_for(const BootOptions& options, const RunPlan& plan) {
  const bool handshake = options.firmware == FirmwareKind::kHandshake;
  if (handshake && options.hide_handshake && !options.shim) {
    return true;
  }
  const bool asks_kernel = plan.image.kind == KernelKind::kLinux && handshake;
  const bool shim = options.shim && options.platform != Platform::kNone;
  if (options.loader != LoaderKind::kAccede && !asks_kernel && !shim) {
    return false;
  }
  const auto file = read_bytes(plan.kernel, kMaxBootFile);
  if (!file) {
    return true;
  }
  const image::UnacceptedSupport support = image::find_unaccepted_support(*file);
  const image::Knows accepts =
      options.platform == Platform::kSnp ? support.accepts_on_snp() : support.accepts_on_tdx();
  return accepts != image::Knows::kYes;
}

Bytes accepted_by_writing(const BootOptions& options, const RunPlan& plan) {
  if (options.platform == Platform::kNone) {
    return Bytes{};
  }
  // What the shim accepts becomes free memory of the firmware, which may fill it.
  if (options.shim && !accepts_first(options) && accepts_all_for(options, plan)) {
    return options.memory;
  }
  if (options.accept_cost) {
    return Bytes{};
  }
  if (plan.mode != AcceptMode::kLazy || accepts_first(options) || accepts_all_for(options, plan)) {
    return options.memory;
  }
  return options.firmware_accept.at_least;
}

std::optional<AcceptanceForecast> forecast_acceptance(const BootOptions& options, LoaderFiles files,
                                                      bool at_exit) {
  if (options.platform == Platform::kNone || !options.accept_cost) {
    return std::nullopt;
  }
  const bool leaves_low =
      !accepts_first(options) && options.firmware_accept.scope == AcceptanceScope::kAtLeast;
  const AcceptanceScope scope = accepts_first(options) || at_exit ? AcceptanceScope::kEverything
                                                                  : options.firmware_accept.scope;
  const Bytes low = low_memory(options.memory);
  const PhysAddr low_end{low.value()};
  const PhysAddr begin{(1_MiB + kInUse).value()};
  const PhysAddr high{(4_GiB).value()};
  std::array regions{
      MemoryRegion{range(PhysAddr{(1_MiB).value()}, begin), MemoryKind::kUsable},
      MemoryRegion{range(begin, low_end),
                   leaves_low ? MemoryKind::kUnaccepted : MemoryKind::kUsable},
      MemoryRegion{range(high, high + (options.memory - low)), MemoryKind::kUnaccepted}};
  const auto map = guest::MemoryMap::from_regions(regions);
  const Bytes room = std::min(firmware::loader_room(files.kernel, files.initrd), low_end - begin);
  const PhysRange loader = leaves_low ? range(low_end - room, low_end) : PhysRange{};
  std::array<PhysRange, 4> storage;
  const auto plan = firmware::AcceptancePlan::make(
      *map, {.scope = scope, .at_least = options.firmware_accept.at_least, .needed = {&loader, 1}},
      {}, storage);
  const auto cost = static_cast<std::uint64_t>(options.accept_cost->count());
  const auto predicted =
      firmware::predict(*plan, *map, firmware::CostModel::per_2m({cost}), /*cpus=*/1);
  if (predicted.accepted == Bytes{}) {
    return std::nullopt;
  }
  return AcceptanceForecast{.accepted = predicted.accepted,
                            .seconds = static_cast<double>(predicted.time.value) / 1e9};
}

std::optional<AcceptanceForecast> forecast_acceptance(const BootOptions& options,
                                                      const RunPlan& plan) {
  const LoaderFiles files{.kernel = size_of(plan.kernel), .initrd = size_of(plan.initrd)};
  // The shim accepts before that.
  const bool at_exit = options.firmware == FirmwareKind::kHandshake && !options.shim &&
                       accepts_all_for(options, plan);
  return forecast_acceptance(options, files, at_exit);
}

std::string describe(const AcceptanceForecast& forecast, const BootOptions& options) {
  const auto timeout = static_cast<double>(options.timeout.count());
  std::string text = "the firmware will accept " + format_size(forecast.accepted) +
                     ", which takes " + format_seconds(forecast.seconds);
  if (forecast.seconds >= timeout) {
    text += ": longer than the run may take (--timeout " + std::to_string(options.timeout.count()) +
            ")";
  }
  return text;
}

}  // namespace accede::cli
