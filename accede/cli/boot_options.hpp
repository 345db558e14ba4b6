// What `accede boot` was asked to do, checked.
#pragma once

#include "accede/base/units.hpp"
#include "accede/cli/failure.hpp"
#include "accede/firmware/acceptance_plan.hpp"

#include <chrono>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace accede::cli {

enum class Platform { kTdx, kSnp, kNone };
enum class AcceptMode { kLazy, kEager, kBackground };
enum class FirmwareKind { kNever, kAcceptAll, kHandshake };
/// How much the firmware accepts before the kernel starts.
struct FirmwareAccept {
  firmware::AcceptanceScope scope = firmware::AcceptanceScope::kBelow4G;
  Bytes at_least;  ///< for kAtLeast

  friend bool operator==(const FirmwareAccept&, const FirmwareAccept&) = default;
};
/// What starts the kernel: its own EFI stub, or our loader in its place.
enum class LoaderKind { kStub, kAccede };
/// What a touch of memory that is not accepted does: it ends the VM, or raises #VE or #VC in it.
enum class UnacceptedTouch { kStop, kException };

/// Words of the command line, the launcher's configuration and the JSON.
[[nodiscard]] std::string_view name(Platform platform);
[[nodiscard]] std::string_view name(AcceptMode mode);
[[nodiscard]] std::string_view name(FirmwareKind kind);
/// `all`, `below-4g`, `min:BYTES`.
[[nodiscard]] std::string name(FirmwareAccept accept);
[[nodiscard]] std::string_view name(LoaderKind kind);
[[nodiscard]] std::string_view name(UnacceptedTouch touch);

/// What shipped OVMF does on the platform: it has the handshake for SEV-SNP, not for TDX.
[[nodiscard]] FirmwareKind default_firmware(Platform platform);

/// The options as typed; absent means not given.
struct RawBootOptions {
  using Text = std::optional<std::string>;
  Text platform, memory, accept, firmware, firmware_accept, backing, kernel, initrd, append, loader,
      accept_cost, vcpus, strict, accel, timeout, events, report, console, touch, work,
      unaccepted_touch, map_holes, map_lie, variables;
  bool hide_handshake = false;
  bool force_accept = false;
  bool shim = false;
  bool kexec = false;
  bool steps = false;
  bool no_events = false;
  bool json = false;
};

struct BootOptions {
  Platform platform = Platform::kTdx;
  Bytes memory;
  std::vector<AcceptMode> modes;  ///< never empty; one run each and kernel
  FirmwareKind firmware = FirmwareKind::kNever;
  FirmwareAccept firmware_accept;  ///< everything when `firmware` accepts all
  bool hide_handshake = false;     ///< the kernel cannot find the firmware's handshake
  bool force_accept = false;  ///< the host has the firmware accept everything, whatever its kind
  std::string backing = "2m";
  std::vector<std::string> kernels;  ///< never empty; paths and names as given
  std::optional<std::string> initrd;
  std::string append;
  std::optional<std::chrono::nanoseconds> accept_cost;  ///< of 2 MiB; nothing: zero memory
  std::chrono::seconds timeout{0};                      ///< of one run
  std::optional<std::string> events_file;
  bool events = true;
  UnacceptedTouch unaccepted_touch = UnacceptedTouch::kStop;
  std::optional<std::string> console_file;  ///< `-`: standard error
  std::optional<std::string> touch;         ///< `all` or bytes
  std::optional<std::string> work;          ///< how our own kernel touches: touch, random, fill
  LoaderKind loader = LoaderKind::kStub;
  bool shim = false;                     ///< accede-shim.efi starts the kernel
  std::optional<std::string> variables;  ///< file that keeps the UEFI variables of the runs
  bool kexec = false;
  bool steps = false;
  std::uint64_t map_holes = 0;   ///< single pages that the firmware reserves
  std::string map_lie = "none";  ///< how the firmware's memory map misleads
  bool json = false;
};

/// The name of our own kernel.
inline constexpr std::string_view kGuestName = "guest";

inline constexpr Bytes kLeastMemory = Bytes{1ULL << 30};
/// What a 2 MiB nested page table and OVMF's address width leave room for.
inline constexpr Bytes kMostMemory = Bytes{500ULL << 30};

/// Every error is one line that names the option; what a later version will do says "not yet".
[[nodiscard]] std::expected<BootOptions, Failure> check_boot_options(const RawBootOptions& raw);

/// `a,b,c` as its parts; empty parts stay.
[[nodiscard]] std::vector<std::string> split_list(std::string_view list);

}  // namespace accede::cli
