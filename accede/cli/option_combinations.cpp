#include "accede/cli/option_combinations.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace accede::cli {
namespace {

std::unexpected<Failure> refuse(std::string message) {
  return std::unexpected{usage(std::move(message))};
}

/// Options that say something about the emulator have no meaning without it.
Check check_platform_none(const RawBootOptions& raw) {
  if (raw.platform != "none") {
    return {};
  }
  const std::pair<bool, std::string_view> emulator_only[] = {
      {raw.accept.has_value() && *raw.accept != "lazy", "--accept"},
      {raw.firmware.has_value(), "--firmware"},
      {raw.firmware_accept.has_value(), "--firmware-accept"},
      {raw.hide_handshake, "--hide-handshake"},
      {raw.force_accept, "--force-accept"},
      {raw.backing.has_value(), "--backing"},
      {raw.accept_cost.has_value(), "--accept-cost"},
      {raw.events.has_value(), "--events"},
      {raw.unaccepted_touch.has_value(), "--unaccepted-touch"},
      {raw.map_lie.value_or("none") != "none", "--map-lie"},
  };
  for (const auto& [given, option] : emulator_only) {
    if (given) {
      return refuse(std::string{option} +
                    ": --platform none has no memory to accept and no emulator");
    }
  }
  return {};
}

std::string_view describe(KernelKind kind) {
  switch (kind) {
    case KernelKind::kLinux:
      return "a bzImage";
    case KernelKind::kUnified:
      return "a unified kernel image";
    case KernelKind::kEfiProgram:
      return "an EFI program";
    case KernelKind::kGuest:
      return "accede's own kernel";
  }
  return "an EFI program";
}

}  // namespace

Check check_combinations(const RawBootOptions& raw) {
  if (raw.events && raw.no_events) {
    return refuse("--events and --no-events exclude each other");
  }
  if (raw.touch && raw.initrd) {
    return refuse("--touch is work for the built-in init; --initrd replaces it");
  }
  if (raw.kexec && raw.initrd) {
    return refuse("--kexec is done by the built-in init; --initrd replaces it");
  }
  if (raw.work && !raw.touch) {
    return refuse("--work says how memory is touched; --touch says how much: give both");
  }
  if (raw.work == "fill" && raw.touch != "all") {
    return refuse("--work fill takes all memory there is: give --touch all");
  }
  const std::string plan = raw.firmware_accept.value_or("all");
  if (raw.firmware == "accept-all" && plan != "all") {
    return refuse("--firmware-accept " + plan + ": --firmware accept-all accepts everything");
  }
  if (plan.starts_with("min:") && raw.map_holes.value_or("0") != "0") {
    return refuse("--map-holes: the holes are made in memory that " + plan + " leaves unaccepted");
  }
  if (raw.shim && raw.loader == "accede") {
    return refuse(
        "--shim: what accede's loader starts is entered without the firmware, where no shim sees "
        "it; --loader accede accepts for a kernel that cannot by itself");
  }
  if (raw.map_lie.value_or("none") != "none" &&
      (raw.firmware == "accept-all" || raw.firmware_accept == "all")) {
    return refuse(
        "--map-lie: the lies are about unaccepted memory, and " +
        std::string{raw.firmware == "accept-all" ? "accept-all" : "--firmware-accept all"} +
        " leaves none");
  }
  if (raw.map_lie.value_or("none") != "none" && raw.force_accept) {
    return refuse(
        "--map-lie: the lies are about unaccepted memory, and --force-accept leaves none");
  }
  const bool handshake = raw.firmware ? raw.firmware == "handshake" : raw.platform == "snp";
  if (raw.hide_handshake && !handshake && raw.platform != "none") {
    return refuse("--hide-handshake: this firmware has none to hide; give --firmware handshake");
  }
  return check_platform_none(raw);
}

Check check_kernels_fit(const BootOptions& options, const RawBootOptions& raw) {
  const auto is_guest = [](const std::string& kernel) { return kernel == kGuestName; };
  const bool some_guest = std::ranges::any_of(options.kernels, is_guest);
  const bool only_guest = std::ranges::all_of(options.kernels, is_guest);
  const bool background =
      std::ranges::find(options.modes, AcceptMode::kBackground) != options.modes.end();
  if (background && !only_guest) {
    return refuse(
        "--accept background: Linux has no background acceptance; accede's own kernel has "
        "(--kernel guest)");
  }
  if (raw.loader == "accede" && some_guest) {
    return refuse("--loader accede: starts a Linux; accede's own kernel (guest) needs no loader");
  }
  if (raw.work && *raw.work != "touch" && !only_guest) {
    return refuse("--work " + *raw.work + ": accede's own kernel (--kernel guest) can, others " +
                  "only touch");
  }
  if (raw.initrd && only_guest) {
    return refuse("--initrd: accede's own kernel (guest) takes none");
  }
  return {};
}

Check check_kind_fits(const BootOptions& options, KernelKind kind, std::string_view kernel) {
  const std::string is = std::string{kernel} + " is " + std::string{describe(kind)};
  if (options.loader == LoaderKind::kAccede && kind != KernelKind::kLinux) {
    return refuse("--loader accede: needs a Linux bzImage; " + is);
  }
  if (kind == KernelKind::kEfiProgram && options.touch) {
    return refuse("--touch: " + is + ", which does no work for accede; its own kernel is `guest`");
  }
  if (kind == KernelKind::kEfiProgram && std::ranges::any_of(options.modes, [](AcceptMode mode) {
        return mode != AcceptMode::kLazy;
      })) {
    return refuse("--accept: " + is +
                  ", which nobody can tell how to accept; accede's own kernel " + "is `guest`");
  }
  if (options.kexec && kind != KernelKind::kLinux && kind != KernelKind::kGuest) {
    return refuse("--kexec: needs a Linux bzImage or accede's own kernel (guest); " + is);
  }
  return {};
}

}  // namespace accede::cli
